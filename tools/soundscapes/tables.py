"""Tables of a test bed: labels of windows, the truth of each call, who is in which role."""

import math
from collections.abc import Sequence

import numpy as np
import polars as pl

from tools.soundscapes.config import ROLES
from tools.soundscapes.render import HeardCall
from tools.soundscapes.schedule import PlannedSoundscape

LEAST_S = 0.25  # of a call in a window that has its label, or half of a shorter call
CALL_SCHEMA = {
    "role": pl.String,
    "file": pl.String,
    "start_s": pl.Float64,
    "end_s": pl.Float64,
    "label": pl.String,
    "snr_db": pl.Float64,
    "echo_s": pl.Float64,
    "recording": pl.String,
}


def truth_table(calls: Sequence[HeardCall]) -> pl.DataFrame:
    """Returns a row per call, with the columns of CALL_SCHEMA."""
    rows = [[getattr(call, name) for name in CALL_SCHEMA] for call in calls]
    return pl.DataFrame(rows, schema=CALL_SCHEMA, orient="row")


def window_labels(
    planned: Sequence[PlannedSoundscape], calls: Sequence[HeardCall], window_s: float
) -> pl.DataFrame:
    """Returns a row per window of each soundscape: file, start_s, end_s, labels.

    A window has the label of a call of which at least LEAST_S, or half of a shorter call, is in it.
    Labels are sorted and separated by `;`; a window without any has an empty cell.
    """
    by_file: dict[str, list[HeardCall]] = {}
    for call in calls:
        by_file.setdefault(call.file, []).append(call)
    rows = []
    for one in planned:
        num_windows = math.ceil(round(one.duration_s / window_s, 6))
        for start_s in (np.arange(num_windows) * window_s).tolist():
            end_s = min(start_s + window_s, one.duration_s)
            labels = {
                call.label
                for call in by_file.get(one.name, [])
                if _is_in(call.start_s, call.end_s, start_s, end_s)
            }
            rows.append((one.name, start_s, end_s, ";".join(sorted(labels))))
    schema = {"file": pl.String, "start_s": pl.Float64, "end_s": pl.Float64, "labels": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def segment_table(windows: pl.DataFrame) -> pl.DataFrame:
    """Returns windows as BirdCLEF 2026 labels segments: filename, start, end, labels."""
    clock = [pl.col(name).map_elements(_clock, pl.String) for name in ("start_s", "end_s")]
    return windows.select(
        pl.col("file").alias("filename"), clock[0].alias("start"), clock[1].alias("end"), "labels"
    )


def focal_table(recordings: pl.DataFrame, metadata: pl.DataFrame) -> pl.DataFrame:
    """Returns the train.csv of focal recordings: their columns, secondary labels as a list."""
    known = recordings["primary_label"].unique()
    others = metadata.filter(metadata["recording_id"].is_first_distinct()).drop(
        "primary_label", "secondary_labels", "filename"
    )
    names = [name for name, kind in others.schema.items() if not kind.is_nested()]
    secondary = [
        str([label for label in labels if label in known] or [""])
        for labels in recordings["secondary_labels"].fill_null([])
    ]
    return (
        recordings.select("recording_id", "primary_label", "filename")
        .with_columns(pl.Series("secondary_labels", secondary, pl.String))
        .join(others.select(names), on="recording_id", how="left", maintain_order="left")
        .drop("recording_id")
    )


def summarise(recordings: pl.DataFrame, planned: Sequence[PlannedSoundscape]) -> str:
    """Returns the summary of a test bed as text."""
    lines = [f"{recordings['primary_label'].n_unique()} classes"]
    for role in ROLES:
        own = recordings.filter(pl.col("role") == role)
        lines.append(f"{role}: {len(own)} recordings, {own['group'].n_unique()} groups")
    for role in dict.fromkeys(one.role for one in planned):
        scapes = [one for one in planned if one.role == role]
        calls = [call for one in scapes for call in one.calls]
        minutes = sum(one.duration_s for one in scapes) / 60
        lines.append(
            f"{role}: {len(scapes)} soundscapes, {minutes:.0f} min, {len(calls)} calls of "
            f"{len({call.label for call in calls})} classes"
        )
    return "\n".join(lines)


def _is_in(begin_s: float, stop_s: float, start_s: float, end_s: float) -> bool:
    inside_s = min(stop_s, end_s) - max(begin_s, start_s)
    return inside_s >= min(LEAST_S, (stop_s - begin_s) / 2) - 1e-9


def _clock(seconds_s: float) -> str:
    """A time as hh:mm:ss, with a fraction where there is one."""
    whole = int(seconds_s)
    text = f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"
    fraction = f"{seconds_s - whole:.3f}"[1:].rstrip("0").rstrip(".")
    return text + fraction
