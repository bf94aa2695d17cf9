"""Tables of embeddings on disk: Parquet with row, recording_id and embedding, a line per slice.

    write_table(frame, about, Path("embeddings.parquet"))
    table = read_table(Path("embeddings.parquet"))
    table.frame, table.about.model.name

The file's metadata says what made them: model, its sha256 and licence, store and recipe.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from datasets.sources.teacher import METADATA
from storage.checksums import digest_json
from storage.errors import ConfigError, StoreError
from storage.recipe import Recipe
from storage.untrusted import parse_json, record_of, text_of, whole_of
from training.inference.embeddings.record import ModelRecord

KEY = METADATA  # datasets reads such files too, as embeddings of a teacher
FORMAT = 1
EMBEDDING = "embedding"
SCHEMA: dict[str, Any] = {
    "row": pl.Int64,
    "recording_id": pl.String,
    EMBEDDING: pl.List(pl.Float32),
}
ROW_GROUP = 4096
UNREADABLE = (OSError, PolarsError, pl.exceptions.PanicException)


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Origin of embeddings: the model, the store, and the recipe of its slices."""

    model: ModelRecord
    store_id: str
    recipe: Recipe
    num_slices: int
    rows_sha256: str  # of the rows, so that other slices of the same store are noticed

    def to_json(self) -> str:
        """The file's metadata."""
        values = {**asdict(self), "recipe": self.recipe.to_dict()}
        return json.dumps({"format": FORMAT, **values}, sort_keys=True)

    def digest(self) -> str:
        """16 hex digits that differ where two differ."""
        return digest_json(asdict(self))[:16]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parses `to_json`; ValueError on anything else."""
        values = record_of(parse_json(text.encode()))
        whole_of(values, "format", least=FORMAT, most=FORMAT)
        model = record_of(values.get("model"), "its model")
        try:
            recipe = Recipe.parse(record_of(values.get("recipe"), "its recipe"))
        except TypeError as error:
            raise ValueError(f"its recipe: {error}") from error
        names = ModelRecord.__dataclass_fields__
        return cls(
            model=ModelRecord(**{name: text_of(model, name) for name in names}),
            store_id=text_of(values, "store_id"),
            recipe=recipe,
            num_slices=whole_of(values, "num_slices"),
            rows_sha256=text_of(values, "rows_sha256"),
        )

    def difference(self, other: "About") -> str:
        """The fields in which two differ, as `name: here, there`."""
        mine, theirs = _flat(asdict(self)), _flat(asdict(other))
        return ", ".join(
            f"{name}: {mine[name]} here, {theirs[name]} there"
            for name in mine
            if mine[name] != theirs[name]
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EmbeddingTable:
    """A table and its origin. `embeddings_NE`: float32, in the order of `frame`."""

    frame: pl.DataFrame  # row, recording_id
    embeddings_NE: np.ndarray
    about: About


def frame_of(
    rows: np.ndarray, recording_ids: Sequence[str], embeddings_NE: np.ndarray
) -> pl.DataFrame:
    """A table of N slices."""
    columns = {
        "row": rows,
        "recording_id": recording_ids,
        EMBEDDING: pl.Series(EMBEDDING, embeddings_NE).arr.to_list(),
    }
    return pl.DataFrame(columns, schema_overrides=SCHEMA)


def write_table(frame: pl.DataFrame, about: About, path: Path) -> None:
    """Writes a table; the same content gives the same bytes."""
    frame.write_parquet(path, row_group_size=ROW_GROUP, metadata={KEY: about.to_json()})


def join_tables(parts: Sequence[Path], about: About, path: Path) -> None:
    """Writes the lines of several tables, one after the other, without holding all of them."""
    lines = pl.concat([pl.scan_parquet(part, glob=False) for part in parts])
    lines.sink_parquet(path, row_group_size=ROW_GROUP, metadata={KEY: about.to_json()})


def read_about(path: Path) -> About:
    """The origin of a file; ConfigError where it is missing or was not written by us."""
    try:
        text = pl.read_parquet_metadata(path).get(KEY)
    except UNREADABLE as error:
        raise ConfigError(
            f"{path} cannot be read ({_first_line(error)}): give a file of python -m tools.embed"
        ) from error
    if text is None:
        raise ConfigError(
            f"{path} does not say which model made it: give a file of python -m tools.embed"
        )
    try:
        return About.parse(text)
    except ValueError as error:
        raise StoreError(f"{path} is damaged ({error}): embed again") from error


def read_table(path: Path) -> EmbeddingTable:
    """A file with its origin; StoreError where it is damaged."""
    about = read_about(path)
    try:
        frame = pl.read_parquet(path, columns=list(SCHEMA), glob=False)
        matrix = _matrix(frame)
    except UNREADABLE as error:
        raise StoreError(f"{path} is damaged ({_first_line(error)}): embed again") from error
    except ValueError as error:
        raise StoreError(f"{path} is damaged ({error}): embed again") from error
    return EmbeddingTable(frame=frame.drop(EMBEDDING), embeddings_NE=matrix, about=about)


def _matrix(frame: pl.DataFrame) -> np.ndarray:
    """Embeddings float32 [N, E]; ValueError where they are of several lengths, or not finite."""
    if dict(frame.schema) != SCHEMA or frame.null_count().sum_horizontal()[0]:
        raise ValueError("its columns are not row, recording_id and embedding without nulls")
    widths = frame[EMBEDDING].list.len().unique().to_list()
    if len(widths) != 1 or not widths[0]:
        raise ValueError(f"embeddings of {len(widths)} lengths")
    matrix = frame[EMBEDDING].explode().to_numpy().reshape(len(frame), widths[0])
    if not np.isfinite(matrix).all():
        raise ValueError("embeddings that are not finite")
    return matrix


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
