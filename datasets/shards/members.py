"""Parses the .json, .cls and .txt members of a sample. Loose text -> exact values."""

from typing import Any

import polars as pl

from datasets.shards.format import ABOUT_RECORDING, ABOUT_SLICE, JSON_CHECK, json_check
from storage.errors import DamageError, StoreError
from storage.format.tables import INDEX_SCHEMA, RECORDING_SCHEMA
from storage.untrusted import parse_json

CHECKSUM = "said_crc32c"  # the checksum by the .json member, next to that of the cells as read
_STORED = {**RECORDING_SCHEMA, **INDEX_SCHEMA, CHECKSUM: INDEX_SCHEMA["crc32c"]}
ABOUT_SCHEMA: dict[str, Any] = {
    name: _STORED[name]
    for name in (*ABOUT_RECORDING, *(CHECKSUM if n == "crc32c" else n for n in ABOUT_SLICE))
}
_BITS = {pl.Int32: 31, pl.Int64: 63, pl.UInt32: 32}


def read_about(texts: dict[str, bytes], where: str, *, by_melbank: bool = False) -> dict[str, Any]:
    """Returns a value or None for each name of `ABOUT_SCHEMA`, in order, from members by ending.

    Fields of other types count as missing. The label is that of the .json (`primary_label`, else
    `label`), else the text of the .cls, else of the .txt member. Raises StoreError on members that
    are no JSON or no UTF-8, and, with `own` (tars of melbank), DamageError on a changed member.
    """
    try:
        fields = parse_json(texts["json"], strict=False) if "json" in texts else {}
        words = [texts[ending].decode().strip() for ending in ("cls", "txt") if ending in texts]
    except ValueError as error:
        raise StoreError(f"{where}: its label cannot be read ({error}): rewrite it") from error
    if not isinstance(fields, dict):
        fields = {"label": fields}
    if by_melbank and fields.pop(JSON_CHECK, None) != json_check(fields):
        raise DamageError(f"{where}: its .json member has changed since it was written")
    label = _text(fields.get("primary_label")) or _text(fields.get("label"))
    fields |= {CHECKSUM: fields.get("crc32c")}
    about = {name: _value(fields.get(name), kind) for name, kind in ABOUT_SCHEMA.items()}
    return about | {"primary_label": label or next(iter(words), None) or None}


def _value(value: Any, kind: Any) -> Any:
    """Converts a value to the type of a column; None where it does not fit."""
    if kind in _BITS:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return value if whole and 0 <= value < 2 ** _BITS[kind] else None
    if kind in (pl.Float32, pl.Float64):
        return float(value) if isinstance(value, int | float) and abs(value) < 1e15 else None
    if kind == pl.List(pl.String):
        return [text for text in map(_text, value) if text] if isinstance(value, list) else []
    return _text(value)


def _text(value: Any) -> str | None:
    """Converts a label or an id to text; integers are accepted."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value)
