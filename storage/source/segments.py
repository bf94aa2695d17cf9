"""Recognises tables of labelled segments: filename, start, end, labels; several rows per file.

A build refuses them: the labels of a row would be taken for those of the whole recording. They are
for a training, as `sources.NAME.segments`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from storage.errors import ConfigError
from storage.source.cells import is_missing, tidy

MAX_SEGMENT_S = 60.0  # of tables with one row per file: a longer time is that of the recording
_UNIT = r"(?:time|pos|position|seconds?|secs?|s|ms|samples?|frames?){0,2}"
_START = re.compile(rf"(?:(?:segment|t|time)?(?:start|begin|onset)|tmin){_UNIT}")
_END = re.compile(rf"(?:(?:segment|t|time)?(?:end|stop|offset)|tmax){_UNIT}")
_LENGTH = re.compile(rf"(?:segment|clip)?(?:duration|length){_UNIT}")
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:[.,]\d+)?)")


def check_no_segments(columns: Mapping[str, Sequence[str]], path: str, audio_dir: str) -> None:
    """Raises ConfigError on a table that labels segments, and says what can be done with it."""
    start, end = _column(columns, _START), _column(columns, _END) or _column(columns, _LENGTH)
    if start is None or end is None:
        return
    starts, ends = ([parse_seconds(cell) for cell in columns[name]] for name in (start, end))
    known = [(a, b) for a, b in zip(starts, ends, strict=True) if a is not None and b is not None]
    if not known or len(known) < sum(not is_missing(cell) for cell in columns[start]):
        return  # dates, words: no times in the recording
    files = [tidy(name) for name in columns["filename"]]
    repeated = len(set(files)) < len(set(zip(files, starts, ends, strict=True)))
    short = all(0 < b - a <= MAX_SEGMENT_S for a, b in known) and _is(end, _END)
    if repeated or short:
        raise ConfigError(
            f"{path} labels segments ({start} to {end}): its labels would be taken for those of "
            "whole recordings. Instead: build the recordings without labels (source.csv=none "
            f"source.root=FOLDER, here {audio_dir}), and give this table to the training, as "
            f"sources.NAME.segments={path} (see docs/soundscapes.md); "
            f"or make a csv with one row per file, without {start} and {end}"
        )


def _column(columns: Iterable[str], pattern: re.Pattern[str]) -> str | None:
    """The first column whose name, without marks, fits a pattern."""
    return next((name for name in columns if _is(name, pattern)), None)


def _is(name: str, pattern: re.Pattern[str]) -> bool:
    return bool(pattern.fullmatch(re.sub(r"[^a-z]", "", name.lower())))


def parse_seconds(cell: str) -> float | None:
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
