"""Parses the .json, .cls and .txt members of a sample. Loose text -> exact values."""

import json
from typing import Any

import polars as pl

from datasets.shards.format import JSON_CHECK, json_check
from storage.errors import DamageError, StoreError

ABOUT_SCHEMA = {
    "recording_id": pl.String,
    "primary_label": pl.String,
    "secondary_labels": pl.List(pl.String),
    "filename": pl.String,
    "duration_s": pl.Float64,
    "sample_rate_hz": pl.Int32,
    "slice_no": pl.Int32,
    "start_s": pl.Float64,
    "row": pl.Int64,
    "max_db": pl.Float32,
    "said_crc32c": pl.UInt32,
}


def read_about(texts: dict[str, bytes], where: str, *, own: bool = False) -> dict[str, Any]:
    """Returns a value or None for each name of `ABOUT_SCHEMA`, in order, from members by ending.

    Fields of other types count as missing. The label is that of the .json (`primary_label`, else
    `label`), else the text of the .cls, else of the .txt member. Raises StoreError on members that
    are no JSON or no UTF-8, and, with `own` (tars of melbank), DamageError on a changed member.
    """
    try:
        fields = json.loads(texts["json"]) if "json" in texts else {}
        words = [texts[ending].decode().strip() for ending in ("cls", "txt") if ending in texts]
    except ValueError as error:
        raise StoreError(f"{where}: its label cannot be read ({error}): rewrite it") from error
    if not isinstance(fields, dict):
        fields = {"label": fields}
    if own and fields.pop(JSON_CHECK, None) != json_check(fields):
        raise DamageError(f"{where}: its .json member has changed since it was written")
    label = _text(fields.get("primary_label")) or _text(fields.get("label"))
    second = fields.get("secondary_labels")
    second = second if isinstance(second, list) else []
    return {
        "recording_id": _text(fields.get("recording_id")),
        "primary_label": label or next(iter(words), None) or None,
        "secondary_labels": [text for text in map(_text, second) if text],
        "filename": _text(fields.get("filename")),
        "duration_s": _number(fields.get("duration_s")),
        "sample_rate_hz": _integer(fields.get("sample_rate_hz"), 31),
        "slice_no": _integer(fields.get("slice_no"), 31),
        "start_s": _number(fields.get("start_s")),
        "row": _integer(fields.get("row"), 63),
        "max_db": _number(fields.get("max_db")),
        "said_crc32c": _integer(fields.get("crc32c"), 32),
    }


def _text(value: Any) -> str | None:
    """Converts a label or an id to text; integers are accepted."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e15 else None


def _integer(value: Any, bits: int) -> int | None:
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**bits
    return value if fits else None
