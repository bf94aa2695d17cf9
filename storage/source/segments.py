"""Recognises tables of labelled segments: filename, start, end, labels; several rows per file.

They cannot be used yet: the labels of a row would be taken for those of the whole recording.
"""

import re
from collections.abc import Mapping, Sequence

from storage.errors import ConfigError
from storage.source.cells import is_missing, tidy

MAX_SEGMENT_S = 60.0  # of tables with one row per file: a longer time is that of the recording
_BOUNDS = (
    ("start", "end"),
    ("start_s", "end_s"),
    ("start_sec", "end_sec"),
    ("start_seconds", "end_seconds"),
    ("start_time", "end_time"),
    ("start_time_s", "end_time_s"),
    ("start time (s)", "end time (s)"),
    ("begin time (s)", "end time (s)"),
    ("start (s)", "end (s)"),
    ("begin", "end"),
    ("begin_time", "end_time"),
    ("onset", "offset"),
    ("t_start", "t_end"),
    ("t_min", "t_max"),
)
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:[.,]\d+)?)")


def check_no_segments(columns: Mapping[str, Sequence[str]], path: str, audio_dir: str) -> None:
    """Raises ConfigError on a table that labels segments, and says what can be done with it."""
    by_name = {name.lower(): name for name in columns}
    bounds = next((pair for pair in _BOUNDS if by_name.keys() >= set(pair)), None)
    if bounds is None:
        return
    names = [by_name[bound] for bound in bounds]
    starts, ends = ([_seconds(cell) for cell in columns[name]] for name in names)
    known = [(a, b) for a, b in zip(starts, ends, strict=True) if a is not None and b is not None]
    if not known or len(known) < sum(not is_missing(cell) for cell in columns[names[0]]):
        return  # dates, words: no times in the recording
    files = [tidy(name) for name in columns["filename"]]
    repeated = len(set(files)) < len(set(zip(files, starts, ends, strict=True)))
    if repeated or all(0 < end - start <= MAX_SEGMENT_S for start, end in known):
        raise ConfigError(
            f"{path} labels segments ({names[0]} to {names[1]}), which is not supported yet: its "
            "labels would be taken for those of whole recordings. Instead: build the recordings "
            f"without labels (source.csv=none source.root=FOLDER, here {audio_dir}), and give the "
            "labels of their slices as soft targets (sources.NAME.targets, see docs/training.md); "
            f"or make a csv with one row per file, without {names[0]} and {names[1]}"
        )


def _seconds(cell: str) -> float | None:
    """A time in a recording, s: 12.5, 00:00:12, 0:12; None where it is neither."""
    text = tidy(cell)
    clock = _CLOCK.fullmatch(text)
    if clock:
        hours, minutes, seconds = clock.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds.replace(",", "."))
    try:
        seconds_s = float(text.replace(",", "."))
    except ValueError:
        return None
    return seconds_s if abs(seconds_s) < 1e9 else None
