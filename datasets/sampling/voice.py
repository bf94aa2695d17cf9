"""Share of human voice in each slice, as tools.voice measures it, and what follows for the draws.

    voice = read_voice("voice.parquet", recordings)
    voice.shares_of(rows)

The file is a Parquet table with `recording_id`, `row` (in the source itself, not the mix) and
`voice_share`, from 0 to 1, for every slice of a store. A source of which it has no line counts as
without voice.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from datasets.slice_source import ID_IN_SOURCE, SOURCE, rows_in_source
from storage.errors import ConfigError

SHARE = "voice_share"
COLUMNS = ("recording_id", "row", SHARE)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VoiceShares:
    """Voice of slices: rows int64 [n], increasing; share float32 [n]."""

    rows: np.ndarray
    share: np.ndarray

    def louder_than(self, threshold: float) -> np.ndarray:
        """Returns the rows with a larger share of voice, int64, increasing."""
        return np.asarray(self.rows[self.share > threshold])


def read_voice(path: str, recordings: pl.DataFrame) -> VoiceShares:
    """Reads a file for some recordings; raises ConfigError where it is none, or not of these."""
    table = _read_table(path)
    own_id = (
        pl.coalesce(ID_IN_SOURCE, "recording_id")
        if ID_IN_SOURCE in recordings.columns
        else (pl.col("recording_id"))
    )
    source = SOURCE if SOURCE in recordings.columns else pl.lit("").alias(SOURCE)
    known = recordings.select("first_row", source, own_id.alias("recording_id"), "num_slices")
    found = table.join(known, on="recording_id").cast({"num_slices": pl.Int64})
    if found.is_empty():
        raise ConfigError(
            f"sampling.voice_file={path}: none of its {len(table)} lines is of one of the "
            f"{len(recordings)} recordings: measure their store with tools.voice"
        )
    own_first = rows_in_source(found["first_row"].to_numpy())
    slice_no = found["row"].to_numpy() - own_first
    strange = (slice_no < 0) | (slice_no >= found["num_slices"].to_numpy())
    if strange.any():
        first = found.filter(strange).row(0, named=True)
        raise ConfigError(
            f"sampling.voice_file={path}: row {first['row']} is no slice of "
            f"{first['recording_id']}: the file is of another store"
        )
    _check_complete(path, known, found)
    rows = found["first_row"].to_numpy() + slice_no
    order = np.argsort(rows)
    return VoiceShares(rows=rows[order], share=found[SHARE].to_numpy()[order])


def _read_table(path: str) -> pl.DataFrame:
    try:
        table = pl.read_parquet(path, columns=list(COLUMNS), glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ConfigError(
            f"sampling.voice_file={path}: {str(error).splitlines()[0]}; it needs "
            f"{', '.join(COLUMNS)}"
        ) from error
    if not (table["row"].dtype.is_integer() and table[SHARE].dtype.is_float()):
        raise ConfigError(
            f"sampling.voice_file={path}: row must hold whole numbers, {SHARE} fractions"
        )
    table = table.cast({"row": pl.Int64, SHARE: pl.Float32})
    if table.null_count().sum_horizontal()[0] or not table[SHARE].is_between(0, 1).all():
        raise ConfigError(f"sampling.voice_file={path}: {SHARE} must lie between 0 and 1")
    if table.select("recording_id", "row").is_duplicated().any():
        raise ConfigError(f"sampling.voice_file={path} has several lines for one slice")
    return table


def _check_complete(path: str, known: pl.DataFrame, found: pl.DataFrame) -> None:
    """Raises ConfigError where a source is covered in part."""
    wanted = known.group_by(SOURCE).agg(pl.col("num_slices").sum().cast(pl.Int64).alias("all"))
    there = found.group_by(SOURCE).agg(pl.len().cast(pl.Int64).alias("there"))
    lacking = wanted.join(there, on=SOURCE).filter(pl.col("there") < pl.col("all")).sort(SOURCE)
    for name, total, number in lacking.iter_rows():
        of_source = f" of source {name}" if name else ""
        raise ConfigError(
            f"sampling.voice_file={path} lacks {total - number:,} of {total:,} slices{of_source}: "
            "measure the store again with tools.voice"
        )
