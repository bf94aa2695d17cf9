"""The recordings that somebody brings: a folder, and the csv that describes them.

Two layouts are understood:

* BirdCLEF: `train.csv` with at least `filename` and `primary_label`, the files below
  `train_audio/`, optionally `taxonomy.csv`, whose other columns are joined by `primary_label`;
* folders named by label, no csv: the folder's name is the label of every file in it.
"""

import ast
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import polars as pl

from storage.audio.integrity import AUDIO_ENDINGS
from storage.errors import ConfigError
from storage.format.tables import LABEL_COLUMNS, OUR_COLUMNS
from storage.objects.client import DEFAULT, RemoteConfig
from storage.objects.urls import check_url
from storage.options import check_choice, option
from storage.source.files import SourceFolder, open_folder

TAXONOMY = "taxonomy.csv"


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
    npy_dir: str = option("train_melspectrograms", "folder of ready slices, for import_npy")
    npy_layout: str = option("stem", "its folders are named by: stem (of the filename) or id")

    def __post_init__(self) -> None:
        check_url(self.root)
        check_choice(self, "source", "id", ("stem", "filename"))
        check_layout(self.npy_layout)


def check_layout(layout: str) -> None:
    """Raises ConfigError on anything but a way to name folders of slices."""
    if layout not in ("stem", "id"):
        raise ConfigError(f"npy_layout={layout} is neither stem nor id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One row per recording, sorted by recording_id.

    Columns: recording_id, path, reason (null, or why it cannot be used), then the csv's own.
    `num_unlisted` counts audio files that the csv does not name.
    """

    recordings: pl.DataFrame
    num_unlisted: int = 0

    @property
    def metadata_columns(self) -> list[str]:
        """The columns that are copied into the store as given."""
        return [name for name in self.recordings.columns if name not in ("path", "reason")]


def read_source(config: SourceConfig, remote: RemoteConfig = DEFAULT) -> Source:
    """Lists a source; raises ConfigError where it is none."""
    root = open_folder(config.root, remote)
    csv = _csv_of(root, config)
    table = _read_csv(root.table(csv), root.path(csv)) if csv else _read_folders(root)
    audio = root.below(config.audio_dir) if csv else root
    table = _with_identity(table, config, audio)
    if csv and root.has_file(TAXONOMY):
        table = _with_taxonomy(table, root.table(TAXONOMY), root.path(TAXONOMY))
    return Source(
        recordings=table.sort("recording_id", "filename"),
        num_unlisted=_num_unlisted(table, audio) if csv else 0,
    )


def parse_labels(text: str | None) -> list[str]:
    """Secondary labels from a csv cell: `['a', 'b']`, `a b`, `a;b`, `a,b`, or nothing."""
    text = (text or "").strip()
    if text.startswith("["):
        try:
            values = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values = text.strip("[]").replace("'", "").replace('"', "").split(",")
    else:
        values = text.replace(";", " ").replace(",", " ").split()
    labels = (str(value).strip() for value in values)
    return [label for label in labels if label and label != "nan"]


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


def _read_csv(csv: Path | bytes, path: str) -> pl.DataFrame:
    try:
        header = pl.read_csv(csv, n_rows=0).columns
        text = {name: pl.String for name in LABEL_COLUMNS if name in header}
        table = pl.read_csv(csv, schema_overrides=text, infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a readable csv: {str(error).splitlines()[0]}") from error
    missing = {"filename", "primary_label"} - set(table.columns)
    if missing or table.is_empty():
        what = f"lacks the columns {', '.join(sorted(missing))}" if missing else "has no rows"
        raise ConfigError(f"{path} {what}; it needs filename and primary_label, as in BirdCLEF")
    table = table.rename({name: f"csv_{name}" for name in OUR_COLUMNS if name in table.columns})
    if "secondary_labels" not in table.columns:
        table = table.with_columns(pl.lit(None, pl.String).alias("secondary_labels"))
    secondary = [parse_labels(text) for text in table["secondary_labels"]]
    return table.with_columns(
        pl.Series("secondary_labels", secondary, pl.List(pl.String)),
        pl.col("primary_label").fill_null(""),
        pl.col("filename").fill_null(""),
    )


def _read_folders(root: SourceFolder) -> pl.DataFrame:
    names = [name for name in root.audio_files() if "/" in name]
    if not names:
        raise ConfigError(
            f"{root.path('')} holds neither train.csv nor folders of audio files named by label"
        )
    return pl.DataFrame(
        {
            "filename": names,
            "primary_label": [PurePosixPath(name).parts[0] for name in names],
            "secondary_labels": [[] for _ in names],
        },
        schema_overrides={"secondary_labels": pl.List(pl.String)},
    )


def _with_identity(table: pl.DataFrame, config: SourceConfig, audio: SourceFolder) -> pl.DataFrame:
    """Adds recording_id, path and reason; rows that cannot be used say why."""
    names = table["filename"].to_list()
    ids = [without_ending(name) if config.id == "stem" else name for name in names]
    table = table.with_columns(
        pl.Series("recording_id", ids, pl.String),
        pl.Series("path", [audio.path(name) for name in names], pl.String),
        pl.Series("reason", [_name_problem(name) for name in names], pl.String),
    )
    count = pl.len().over("filename")
    table = table.with_columns(
        pl.coalesce(
            "reason",
            pl.when(count > 1).then(pl.format("the csv names this file {} times", count)),
            pl.when(pl.col("primary_label") == "").then(pl.lit("it has no primary_label")),
        ).alias("reason")
    ).unique("filename", keep="first", maintain_order=True)
    count = pl.len().over("recording_id")
    remedy = pl.format(
        "{} files have the recording_id {}: use source.id=filename", count, "recording_id"
    )
    table = table.with_columns(
        pl.coalesce("reason", pl.when(count > 1).then(remedy)).alias("reason")
    )
    first = ["recording_id", *LABEL_COLUMNS]
    return table.select(*first, pl.exclude(first))


def _with_taxonomy(table: pl.DataFrame, csv: Path | bytes, path: str) -> pl.DataFrame:
    try:
        taxonomy = pl.read_csv(
            csv, schema_overrides={"primary_label": pl.String}, infer_schema_length=None
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ConfigError(f"{path} is not a readable csv: {str(error).splitlines()[0]}") from error
    if "primary_label" not in taxonomy.columns:
        raise ConfigError(f"{path} has no column primary_label")
    new = [name for name in taxonomy.columns if name not in (*table.columns, *OUR_COLUMNS)]
    columns = taxonomy.select("primary_label", *new).unique("primary_label", keep="first")
    return table.join(columns, on="primary_label", how="left", maintain_order="left")


def without_ending(name: str) -> str:
    """A filename less the ending of an audio file, if it has one."""
    path = PurePosixPath(name)
    known = path.suffix.lower() in AUDIO_ENDINGS
    return str(path.with_suffix("")) if known else name


def _name_problem(name: str) -> str | None:
    if not name:
        return "the csv row has no filename"
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        return "the filename leads out of the source folder"
    return None


def _num_unlisted(table: pl.DataFrame, audio: SourceFolder) -> int:
    listed = set(table["path"])
    return sum(path not in listed for path in audio.audio_paths())
