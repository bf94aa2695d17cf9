"""Reads when and where a recording was made, from a table, its name and its GUANO metadata.

    facts = RecorderFacts.open(RecorderConfig(pattern="{site}_{date}_{time}"))
    facts.of("marsh/H02_20230420_074000.ogg", None).site  # H02

The first source that knows a value gives it, in this order:

1. `recorder.table`, a csv with the column `file` and any of date, time, site, latitude, longitude;
2. the name, by `recorder.pattern`, or as recorders name their files (recorder_names.py);
3. the GUANO metadata of a wav file (storage/audio/guano.py).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time
from pathlib import Path
from typing import TypeVar

import polars as pl

from storage.audio.guano import guano_position, guano_site, guano_time, read_guano
from storage.errors import ConfigError
from storage.options import option
from storage.source.cells import is_missing, tidy
from storage.source.csv_text import read_csv
from storage.source.recorder_names import DATE, SITE, TIME, parse_names

AUTO = "auto"
FILE_COLUMNS = ("file", "filename", "path", "recording_id")
_DATE = r"\d{4}-\d{2}-\d{2}|\d{8}"
_TIME = r"\d{2}[-:.]\d{2}[-:.]\d{2}|\d{6}|\d{4}"
_DEGREES = r"[-+]?\d{1,3}(?:\.\d+)?"
_FIELDS = {
    "site": r"[^/]+?",
    "date": _DATE,
    "time": _TIME,
    "latitude": _DEGREES,
    "longitude": _DEGREES,
}
Value = TypeVar("Value")
_FIELD = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderConfig:
    """Settings of date, time, site and coordinates of recordings."""

    pattern: str = option(
        AUTO,
        "form of the file names, less the ending: {site} {date} {time} {latitude} {longitude}, "
        "{*} for anything; auto: AudioMoth, Song Meter, H02_20230420_074000",
    )
    table: str | None = option(
        None, "csv with file and any of date, time, site, latitude, longitude; null: none"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Start and place of a recording, as far as known.

    `date` is ISO 8601 and `time` HH:MM:SS on the recorder's clock; coordinates are in degrees.
    """

    date: str | None = None
    time: str | None = None
    site: str | None = None
    latitude: float | None = None
    longitude: float | None = None

    def filled(self, other: "Facts") -> "Facts":
        """Returns these facts with those of another source where one is missing."""
        missing = {name for name in self.__slots__ if getattr(self, name) is None}
        return replace(self, **{name: getattr(other, name) for name in missing})


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderFacts:
    """Sources of facts on recordings. Pure after `open`, apart from reading GUANO metadata."""

    pattern: re.Pattern[str] | None = None
    num_folders: int = 0  # that the pattern names, before the file
    table: Mapping[str, Facts] = field(default_factory=dict)

    @classmethod
    def open(cls, config: RecorderConfig) -> "RecorderFacts":
        """Reads the table and compiles the pattern; ConfigError where one is not as described."""
        pattern = None if config.pattern == AUTO else compile_pattern(config.pattern)
        table = {} if config.table is None else read_facts(config.table)
        return cls(pattern=pattern, num_folders=config.pattern.count("/"), table=table)

    def of(self, name: str, file: Path | None) -> Facts:
        """Facts on a recording by its name with folders, and its local file, if there is one."""
        facts = self._listed(name).filled(self._named(name))
        return facts if file is None else facts.filled(_guano_facts(file))

    def _listed(self, name: str) -> Facts:
        """The row of the table, by the longest end of the name that it has."""
        parts = name.replace("\\", "/").split("/") if self.table else []
        for start in range(len(parts)):
            end = "/".join(parts[start:])
            for key in (end, _without_ending(end)):
                if key in self.table:
                    return self.table[key]
        return Facts()

    def _named(self, name: str) -> Facts:
        if self.pattern is None:
            found = parse_names(pl.Series([name], dtype=pl.String)).row(0, named=True)
            return Facts(date=found[DATE], time=found[TIME], site=found[SITE])
        parts = name.replace("\\", "/").split("/")[-1 - self.num_folders :]
        match = self.pattern.fullmatch(_without_ending("/".join(parts)))
        if match is None:
            return Facts()
        try:
            return _checked(match.groupdict())
        except ValueError:  # digits that are no date
            return Facts()


def compile_pattern(text: str) -> re.Pattern[str]:
    """Makes a regular expression of a pattern; ConfigError on unknown and repeated fields."""
    names = [name for name in _FIELD.findall(text) if name != "*"]
    unknown = next((name for name in names if name not in _FIELDS), None)
    if unknown is not None or not names or len(set(names)) < len(names):
        wrong = (
            f"{{{unknown}}} is no field" if unknown is not None else "each field once, at least one"
        )
        raise ConfigError(
            f"recorder.pattern={text}: {wrong}; the fields are "
            f"{', '.join(f'{{{name}}}' for name in _FIELDS)} and {{*}}"
        )
    pieces, at = [], 0
    for match in _FIELD.finditer(text):
        pieces.append(re.escape(text[at : match.start()]))
        name, at = match[1], match.end()
        pieces.append("[^/]*?" if name == "*" else f"(?P<{name}>{_FIELDS[name]})")
    return re.compile("".join(pieces) + re.escape(text[at:]))


def read_facts(path: str) -> dict[str, Facts]:
    """Facts by the name of the file, from a csv; ConfigError where it is not as described."""
    try:
        table = read_csv(Path(path).read_bytes(), path)
    except OSError as error:
        raise ConfigError(f"recorder.table={path} cannot be read ({error.strerror})") from error
    key = next((name for name in FILE_COLUMNS if name in table.columns), None)
    known = [name for name in _FIELDS if name in table.columns]
    if key is None or not known:
        raise ConfigError(
            f"recorder.table={path} has the columns {', '.join(table.columns)}; it needs file and "
            f"any of {', '.join(_FIELDS)}"
        )
    found: dict[str, Facts] = {}
    for row, name in enumerate(tidy(cell).replace("\\", "/") for cell in table.columns[key]):
        cells = {column: table.columns[column][row] for column in known}
        try:
            facts = _checked({name: cell for name, cell in cells.items() if not is_missing(cell)})
        except ValueError as error:
            raise ConfigError(f"recorder.table={path}, {name}: {error}") from error
        if found.setdefault(name, facts) != facts:
            raise ConfigError(f"recorder.table={path} has two rows for {name}, and they differ")
    return found


def _checked(cells: Mapping[str, str | None]) -> Facts:
    """Facts from text; ValueError, in words for users, where a value is impossible."""
    return Facts(
        date=_parsed(cells.get(DATE), _iso_date),
        time=_parsed(cells.get(TIME), _iso_time),
        site=_parsed(cells.get(SITE), tidy),
        latitude=_parsed(cells.get("latitude"), lambda text: _degrees(text, 90)),
        longitude=_parsed(cells.get("longitude"), lambda text: _degrees(text, 180)),
    )


def _parsed(cell: str | None, parse: Callable[[str], Value]) -> Value | None:
    return None if cell is None else parse(cell.strip())


def _iso_date(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise ValueError(f"{text} is no date; write 2024-06-01 or 20240601") from error


def _iso_time(text: str) -> str:
    digits = re.sub(r"[-.]", ":", text)
    try:
        return time.fromisoformat(digits).replace(microsecond=0, tzinfo=None).isoformat()
    except ValueError as error:
        raise ValueError(f"{text} is no time of day; write 05:30:00 or 053000") from error


def _degrees(text: str, most: int) -> float:
    try:
        value = float(text.replace(",", "."))
    except ValueError as error:
        raise ValueError(f"{text} is no number of degrees") from error
    if not abs(value) <= most:  # so for NaN
        raise ValueError(f"{text} degrees are beyond {most}")
    return value


def _guano_facts(file: Path) -> Facts:
    fields = read_guano(file)
    began: datetime | None = guano_time(fields)
    latitude, longitude = guano_position(fields) or (None, None)
    return Facts(
        date=None if began is None else began.date().isoformat(),
        time=None if began is None else began.time().replace(microsecond=0).isoformat(),
        site=guano_site(fields),
        latitude=latitude,
        longitude=longitude,
    )


def _without_ending(name: str) -> str:
    """A name less its ending, as recording_id has it."""
    folder, slash, file = name.rpartition("/")
    stem, dot, _ = file.rpartition(".")
    return f"{folder}{slash}{stem}" if dot and stem else name
