"""The recordings that somebody brings: a folder, and the csv that describes them.

Three layouts are understood:

* BirdCLEF: `train.csv` with at least `filename`, mostly `primary_label`, the files below
  `train_audio/`, optionally `taxonomy.csv`, whose other columns are joined by `primary_label`;
* folders named by label, no csv: the folder's name is the label of every file in it;
* a flat folder of recordings without labels, and `source.csv=none`.

The rules for cells, labels, names and files are in docs/tables.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from storage.audio.channels import MEAN, check_channel
from storage.errors import ConfigError
from storage.format.tables import LABEL_COLUMNS, given_names
from storage.objects.client import DEFAULT, RemoteConfig
from storage.objects.urls import check_url
from storage.options import check_choice, option
from storage.source.cells import tidy_label, typed_column
from storage.source.csv_text import TextTable, read_csv
from storage.source.files import SourceFolder, open_folder
from storage.source.listing import Listing
from storage.source.recorder_names import with_recorder_columns
from storage.source.recordings import (
    FILENAME,
    PRIMARY,
    Found,
    Recording,
    class_notes,
    give_ids,
    recordings_of_csv,
    recordings_of_folders,
)
from storage.source.segments import check_no_segments

TAXONOMY = "taxonomy.csv"
LABEL_LIKE = frozenset(  # names that others give to the column primary_label
    {"primary_label", "primarylabel", "primary label", "primary-label", "label", "labels", "class"}
    | {"classes", "species", "species_code", "ebird_code", "scientific_name"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    """Settings of a source: folder of the recordings, and how they are named."""

    root: str = option("data", "folder or URL: train.csv and train_audio/, or a folder per label")
    csv: str = option(
        "auto", "table of the recordings, in root; auto: train.csv, or none if there is none"
    )
    audio_dir: str = option("train_audio", "folder of the files that the csv names, in root")
    id: str = option("stem", "recording_id: stem (filename without ending) or filename")
    keep_duplicates: bool = option(False, "store each of several recordings with equal bytes")
    channel: str = option(
        MEAN, "of several: mean, left, right, loudest (decodes twice), or a number from 0"
    )
    npy_dir: str = option("train_melspectrograms", "folder of ready slices, for import_npy")
    npy_layout: str = option("stem", "its folders are named by: stem (of the filename) or id")

    def __post_init__(self) -> None:
        check_url(self.root)
        check_choice(self, "source", "id", ("stem", "filename"))
        check_layout(self.npy_layout)
        check_channel(self.channel)


def check_layout(layout: str) -> None:
    """Raises ConfigError on anything but a way to name folders of slices."""
    if layout not in ("stem", "id"):
        raise ConfigError(f"npy_layout={layout} is neither stem nor id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One row per recording, sorted by recording_id.

    `recordings`: recording_id, primary_label, secondary_labels, filename, path and reason (null, or
    why it cannot be used). `metadata`: what is stored of them as given, each recording_id once: the
    first four, then the columns of the csv and of taxonomy.csv. `classes` are those of the latter.
    `num_unlisted` counts audio files that the csv does not name. `nearest` has, by filename, a file
    with a name much like one that is missing. `notes` and `disputed`: see `Found`.
    """

    recordings: pl.DataFrame
    metadata: pl.DataFrame
    classes: tuple[str, ...] = ()
    num_unlisted: int = 0
    nearest: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    disputed: tuple[str, ...] = ()

    def metadata_of(self, recordings: pl.DataFrame) -> pl.DataFrame:
        """The metadata of some of the recordings."""
        wanted = self.metadata["recording_id"].is_in(recordings["recording_id"].implode())
        return self.metadata.filter(wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taxonomy:
    """The classes of taxonomy.csv, and its other columns by their row."""

    row_of: dict[str, int] = field(default_factory=dict)
    columns: tuple[pl.Series, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.row_of)


def read_source(config: SourceConfig, remote: RemoteConfig = DEFAULT) -> Source:
    """Lists a source; raises ConfigError where it is none."""
    root = open_folder(config.root, remote)
    csv = _csv_of(root, config)
    if csv is None:
        return _source_of_folders(root, config)
    table = _read_csv(root, csv, root.path(config.audio_dir))
    audio = root.below(config.audio_dir)
    listing = audio.listing()
    taxonomy = _read_taxonomy(root, table)
    found = recordings_of_csv(table, listing, taxonomy.classes)
    found.notes[:0] = table.notes
    found.notes += listing.notes(used=(recording.file for recording in found.recordings))
    give_ids(found.recordings, config.id)
    found.recordings.sort(key=lambda recording: (recording.recording_id, recording.filename))
    names = {recording.file for recording in found.recordings}
    return _source(
        found,
        audio,
        others=_other_columns(table, taxonomy, found.recordings),
        classes=taxonomy.classes,
        num_unlisted=sum(name not in names for name in listing.audio),
    )


def _source_of_folders(root: SourceFolder, config: SourceConfig) -> Source:
    listing = root.listing()
    found = recordings_of_folders(listing, unlabelled=config.csv == "none")
    if not found.recordings:
        raise ConfigError(_nothing_there(root, listing))
    found.notes += [*class_notes(found.recordings), *listing.notes()]
    give_ids(found.recordings, config.id)
    found.recordings.sort(key=lambda recording: (recording.recording_id, recording.filename))
    return _source(found, root)


def _nothing_there(root: SourceFolder, listing: Listing) -> str:
    message = (
        f"source.root={root.path('')} holds neither train.csv nor folders of audio files named by "
        "label"
    )
    if listing.audio:
        message += (
            f"; source.csv=none takes the {len(listing.audio):,} recordings in it without labels"
        )
    return "; ".join([message, *listing.notes()])


def _source(
    found: Found,
    audio: SourceFolder,
    *,
    others: Sequence[pl.Series] = (),
    classes: tuple[str, ...] = (),
    num_unlisted: int = 0,
) -> Source:
    recordings = found.recordings
    texts = {
        "path": [audio.path(one.file) for one in recordings],
        "reason": [one.reason for one in recordings],
    }
    labels = pl.DataFrame(
        {
            "recording_id": [one.recording_id for one in recordings],
            "primary_label": [one.primary for one in recordings],
            "secondary_labels": [one.secondary for one in recordings],
            "filename": [one.filename for one in recordings],
        },
        schema={
            "recording_id": pl.String,
            "primary_label": pl.String,
            "secondary_labels": pl.List(pl.String),
            "filename": pl.String,
        },
    )
    metadata = pl.DataFrame({one.name: one for one in (*labels.get_columns(), *others)})
    metadata = with_recorder_columns(metadata)
    return Source(
        recordings=labels.with_columns(pl.DataFrame(texts, schema=dict.fromkeys(texts, pl.String))),
        metadata=metadata.filter(metadata["recording_id"].is_first_distinct()),
        classes=classes,
        num_unlisted=num_unlisted,
        nearest={one.filename: one.nearest for one in recordings if one.nearest},
        notes=tuple(found.notes),
        disputed=tuple(found.disputed),
    )


def _csv_of(root: SourceFolder, config: SourceConfig) -> str | None:
    if config.csv == "none":
        return None
    name = "train.csv" if config.csv == "auto" else config.csv
    if root.has_file(name):
        return name
    if config.csv != "auto" or root.has_folder(config.audio_dir):
        raise ConfigError(
            f"{root.path(name)} is missing. Put the csv there, name another with source.csv=FILE, "
            "or take folder names as labels with source.csv=none "
            f"source.root={root.path(config.audio_dir)}"
        )
    return None


def _read_csv(root: SourceFolder, csv: str, audio_dir: str) -> TextTable:
    path = root.path(csv)
    table = _read_text(root, csv)
    if FILENAME not in table.columns:
        raise ConfigError(
            f"{path} lacks the columns filename; it needs filename and primary_label, as in "
            f"BirdCLEF, and has {_shown(table)}"
        )
    check_no_segments(table.columns, path, audio_dir)
    likely = [name for name in table.columns if name.lower().strip("_ ") in LABEL_LIKE]
    if PRIMARY not in table.columns and likely:
        raise ConfigError(
            f"{path} lacks the columns primary_label: rename {likely[0]}, if that is the label; "
            "a csv without any label column gives recordings without labels"
        )
    if not table.num_rows:
        raise ConfigError(f"{path} has no rows; it needs filename and primary_label")
    return table


def _read_text(root: SourceFolder, csv: str) -> TextTable:
    try:
        return read_csv(root.table(csv), root.path(csv))
    except OSError as error:
        raise ConfigError(f"{root.path(csv)} is not a readable csv: {error.strerror}") from error


def _shown(table: TextTable) -> str:
    return ", ".join(list(table.columns)[:10]) or "no columns"


def _read_taxonomy(root: SourceFolder, csv: TextTable) -> _Taxonomy:
    """Reads taxonomy.csv, if there is one: the first row of each class, columns the csv lacks."""
    if not root.has_file(TAXONOMY):
        return _Taxonomy()
    table = _read_text(root, TAXONOMY)
    if PRIMARY not in table.columns:
        raise ConfigError(f"{root.path(TAXONOMY)} has no column primary_label")
    labels = [tidy_label(cell) for cell in table.columns[PRIMARY]]
    row_of: dict[str, int] = {}
    for row, label in enumerate(labels):
        if label is not None:
            row_of.setdefault(label, row)
    new = [name for name in table.columns if name not in csv.columns and name != PRIMARY]
    names = given_names(new, taken=[*csv.columns, *given_names(csv.columns).values()])
    columns = [
        typed_column(names[name], table.columns[name], decimal_comma=table.decimal_comma)
        for name in new
    ]
    return _Taxonomy(row_of=row_of, columns=tuple(columns))


def _other_columns(
    table: TextTable, taxonomy: _Taxonomy, recordings: Sequence[Recording]
) -> list[pl.Series]:
    """The columns of the csv and of taxonomy.csv, for each recording."""
    own = [name for name in table.columns if name not in LABEL_COLUMNS]
    names = given_names(own)
    columns = [
        typed_column(
            names[name],
            [table.columns[name][recording.row] for recording in recordings],
            decimal_comma=table.decimal_comma,
        )
        for name in own
    ]
    rows = [taxonomy.row_of.get(recording.primary or "") for recording in recordings]
    places = pl.Series(rows, dtype=pl.UInt32)
    return [*columns, *(column.gather(places) for column in taxonomy.columns)]
