"""From the rows of a csv, or the files of folders, to recordings: labels, names, ids.

Rows of one file are one recording: equal rows count once, and where labels differ all are kept,
the first as primary. A cell of several primary labels, `a;b`, gives the first, and the others as
secondary ones.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import PurePosixPath

from storage.audio.integrity import AUDIO_ENDINGS
from storage.errors import ConfigError
from storage.source.cells import is_missing, tidy, tidy_label
from storage.source.csv_text import TextTable
from storage.source.label_lists import parse_labels
from storage.source.listing import Listing, shown_name
from storage.source.matching import match_names

PRIMARY, SECONDARY, FILENAME = "primary_label", "secondary_labels", "filename"
MAX_SHOWN = 5
MAX_LETTERS = 60  # of a label in a sentence
NO_LABEL = "it has no primary_label"


@dataclass(slots=True, kw_only=True)
class Recording:
    """One recording of a source; `row` is that of the csv, the first of several.

    `file` is its name on disk. `reason`: why it cannot be used. `nearest`: a file with a name much
    like it, where there is none of its name.
    """

    row: int
    filename: str
    file: str
    primary: str | None
    secondary: list[str] = field(default_factory=list)
    recording_id: str = ""
    reason: str | None = None
    nearest: str | None = None


@dataclass(slots=True, kw_only=True)
class Found:
    """Recordings of a source, and `notes` for the user on them.

    `disputed`: recordings that the csv has under several primary labels, as sentences.
    """

    recordings: list[Recording]
    notes: list[str] = field(default_factory=list)
    disputed: list[str] = field(default_factory=list)


def recordings_of_csv(table: TextTable, files: Listing, classes: Collection[str]) -> Found:
    """The recordings that a csv names; `classes` are those of taxonomy.csv."""
    names = ["" if is_missing(cell) else tidy(cell) for cell in table.columns[FILENAME]]
    found = Found(recordings=[])
    matches = match_names(names, files.names())
    labels = _Labels.of(table, classes)
    for row, name in enumerate(names):
        match = matches.get(name)
        file = match.file if match and match.file else name
        shown = shown_name(file)
        recording = Recording(
            row=row,
            filename=tidy(shown) if file != name else name,
            file=shown,
            primary=labels.primary[row],
            reason=_not_utf8(shown) if shown != file else None,
            nearest=shown_name(match.nearest) if match and match.nearest else None,
        )
        if file == name:
            recording.reason = _name_problem(name)
        try:
            recording.secondary = labels.secondary(row)
        except ConfigError as error:
            recording.reason = str(error)
        found.recordings.append(recording)
    renamed = {name: match.file for name, match in matches.items() if match.file}
    found.notes += _matched_note(renamed)
    _join_rows(found, table)
    if all(recording.primary is None for recording in found.recordings):
        found.notes.append("no recording has a primary_label: they are stored without labels")
    else:
        for recording in found.recordings:
            if recording.primary is None:
                recording.reason = recording.reason or NO_LABEL
    found.notes += labels.notes(found.recordings)
    return found


def recordings_of_folders(files: Listing, *, unlabelled: bool) -> Found:
    """The recordings below a folder: its folders are labels; or all of one flat folder, without."""
    inside = [name for name in files.audio if "/" in name]
    flat = [name for name in files.audio if "/" not in name]
    found = Found(recordings=[])
    if inside and flat:
        found.notes.append(
            f"{len(flat):,} recordings are in no folder that gives their label, such as "
            f"{shown_name(flat[0])}: left out"
        )
    unread = {name.split("/")[0] for name in files.unread() if "/" in name}
    if lost := sorted(unread - {name.split("/")[0] for name in inside}):
        more = ", ..." if len(lost) > MAX_SHOWN else ""
        found.notes.append(
            f"{len(lost):,} folders have only recordings that are not decoded here: "
            f"{', '.join(map(shown_name, lost[:MAX_SHOWN]))}{more}"
        )
    if not inside and unlabelled and flat:
        found.notes.append("the recordings are in no folders of labels: stored without labels")
    for file in inside or (flat if unlabelled else []):
        shown = shown_name(file)
        filename = tidy(shown)
        found.recordings.append(
            Recording(
                row=len(found.recordings),
                filename=filename,
                file=shown,
                primary=tidy(PurePosixPath(shown).parts[0]) if inside else None,
                reason=_not_utf8(shown) if shown != file else None,
            )
        )
    once = {recording.filename: recording for recording in reversed(found.recordings)}
    counts = Counter(recording.filename for recording in found.recordings)
    for recording in once.values():
        if counts[recording.filename] > 1:
            recording.reason = f"{counts[recording.filename]} files have this name in Unicode NFC"
    found.recordings = list(once.values())
    return found


def give_ids(recordings: Iterable[Recording], kind: str) -> None:
    """Sets the recording_id, `stem` or `filename`; those that share one cannot be used."""
    by_id = defaultdict(list)
    for recording in recordings:
        name = recording.filename
        recording.recording_id = without_ending(name) if kind == "stem" else name
        by_id[recording.recording_id].append(recording)
    for recording_id, members in by_id.items():
        for recording in members if len(members) > 1 else ():
            recording.reason = recording.reason or (
                f"{len(members)} files have the recording_id {recording_id}: use source.id=filename"
            )


def without_ending(name: str) -> str:
    """A filename less the ending of an audio file, if it has one."""
    path = PurePosixPath(name)
    known = path.suffix.lower() in AUDIO_ENDINGS
    return str(path.with_suffix("")) if known else name


@dataclass(slots=True, kw_only=True)
class _Labels:
    """The labels of a csv's rows, read by one grammar; `known` are the names of the classes."""

    primary: list[str | None]
    others: list[list[str]]  # further ones in the cell of the primary label
    second: list[str]  # cells of secondary labels
    known: frozenset[str]
    taxonomy: Collection[str]
    parsed: dict[str, list[str]] = field(default_factory=dict)  # cells of secondary labels

    @classmethod
    def of(cls, table: TextTable, taxonomy: Collection[str]) -> "_Labels":
        empty = [""] * table.num_rows
        cells = table.columns.get(PRIMARY, empty)
        names = {tidy_label(cell) for cell in set(cells)} - {None}
        plain = frozenset(name for name in names if name is not None) | frozenset(taxonomy)
        split = {cell: _split_primary(cell, plain, taxonomy) for cell in set(cells)}
        firsts = {labels[0] for labels in split.values() if labels}
        return cls(
            primary=[next(iter(split[cell]), None) for cell in cells],
            others=[split[cell][1:] for cell in cells],
            second=table.columns.get(SECONDARY, empty),
            known=frozenset(firsts) | frozenset(taxonomy),
            taxonomy=taxonomy,
        )

    def secondary(self, row: int) -> list[str]:
        """The secondary labels of a row; ConfigError where its cell is too long."""
        cell = self.second[row]
        if cell not in self.parsed:
            self.parsed[cell] = parse_labels(cell, self.known)
        return [*self.others[row], *self.parsed[cell]]

    def notes(self, recordings: Sequence[Recording]) -> Iterator[str]:
        """Sentences on labels that are no class, or not quite those of others."""
        several = [recording for recording in recordings if self.others[recording.row]]
        if several:
            yield (
                f"{len(several):,} recordings have several labels in primary_label, such as "
                f"{several[0].filename}: the first counts as primary, the others as secondary"
            )
        known = self.known | {recording.primary for recording in recordings}
        strange = Counter(
            label for recording in recordings for label in recording.secondary if label not in known
        )
        if strange:
            yield f"secondary labels that are no class, and not learned: {_named(strange)}"
        primary = Counter(recording.primary for recording in recordings if recording.primary)
        unknown = Counter({name: n for name, n in primary.items() if name not in self.taxonomy})
        if self.taxonomy and unknown:
            yield f"labels that taxonomy.csv does not have: {_named(unknown)}"
        if unrecorded := [name for name in self.taxonomy if name not in primary]:
            more = ", ..." if len(unrecorded) > MAX_SHOWN else ""
            yield (
                f"{len(unrecorded):,} classes of taxonomy.csv have no recording: "
                f"{', '.join(unrecorded[:MAX_SHOWN])}{more}; labels.classes=taxonomy adds them"
            )
        yield from _alike(known)


def class_notes(recordings: Iterable[Recording]) -> Iterator[str]:
    """Sentences on folders whose names are almost the same."""
    yield from _alike({recording.primary for recording in recordings})


@cache
def _loose(label: str) -> str:
    return "".join(label.casefold().replace("_", " ").split())


def _alike(labels: Iterable[str | None]) -> Iterator[str]:
    """Names classes that differ by case or blanks only."""
    groups = defaultdict(set)
    for label in labels:
        if label is not None:
            groups[_loose(label)].add(label)
    alike = sorted(" / ".join(sorted(group)) for group in groups.values() if len(group) > 1)
    if alike:
        more = "; ..." if len(alike) > MAX_SHOWN else ""
        yield f"classes that differ only by case or blanks: {'; '.join(alike[:MAX_SHOWN])}{more}"


def _split_primary(cell: str, names: frozenset[str], taxonomy: Collection[str]) -> list[str]:
    """The labels in a cell of the primary label: one, unless it is a list of several.

    `;` and `|` and brackets always make a list; commas and blanks where each piece is a label of
    other rows.
    """
    label = tidy_label(cell)
    if label is None:
        return []
    if label in taxonomy or len(label) > 1000:
        return [label]
    pieces = parse_labels(cell, names - {label})
    is_list = any(mark in label for mark in ";|") or label[0] in "[({\"'"
    if pieces and (is_list or all(piece in names and piece != label for piece in pieces)):
        return list(dict.fromkeys(pieces))
    return [label]


def _join_rows(found: Found, table: TextTable) -> None:
    """Makes one recording of the rows of one file."""
    by_name: dict[str, list[Recording]] = defaultdict(list)
    for recording in found.recordings:
        by_name[recording.filename].append(recording)
    num_equal, differing = 0, []
    for members in by_name.values():
        if len(members) == 1 or not members[0].filename:
            continue
        first = members[0]
        rows = [tuple(column[one.row] for column in table.columns.values()) for one in members]
        num_equal += len(rows) - len(set(rows))
        if len(set(rows)) == 1:
            continue
        differing.append(first.filename)
        primary = list(dict.fromkeys(one.primary for one in members if one.primary))
        secondary = dict.fromkeys(label for one in members for label in one.secondary)
        first.primary = primary[0] if primary else None
        first.secondary = list(dict.fromkeys([*primary[1:], *secondary]))
        first.secondary = [label for label in first.secondary if label != first.primary]
        if len(primary) > 1:
            found.disputed.append(f"{first.filename} is in the csv as {' and '.join(primary)}")
    found.recordings = [
        one
        for members in by_name.values()
        for one in (members[:1] if members[0].filename else members)
    ]
    if num_equal:
        found.notes.append(f"{num_equal:,} rows of the csv are there twice: each counts once")
    if differing:
        found.notes.append(
            f"{len(differing):,} files are in several rows of the csv, such as {differing[0]}: "
            "their labels are joined, other columns are those of the first row"
        )


def _matched_note(renamed: dict[str, str]) -> Iterator[str]:
    if renamed:
        name, file = next(iter(renamed.items()))
        yield (
            f"{len(renamed):,} filenames of the csv are not written like the files that fit them, "
            f"such as {name} for {shown_name(file)}: the files are taken"
        )


def _named(counts: Counter[str]) -> str:
    names = [(name[:MAX_LETTERS], count) for name, count in counts.most_common(MAX_SHOWN)]
    shown = ", ".join(f"{name} ({count:,})" for name, count in names)
    more = f" and {len(counts) - MAX_SHOWN:,} more" if len(counts) > MAX_SHOWN else ""
    return f"{len(counts):,}, {shown}{more}"


def _not_utf8(shown: str) -> str:
    return f"its name is not UTF-8 ({shown}): rename it"


def _name_problem(name: str) -> str | None:
    if not name:
        return "the csv row has no filename"
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        return "the filename leads out of the source folder"
    return None
