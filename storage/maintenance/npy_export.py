"""Writes recordings of a store as the usual Kaggle folder. Safe to kill at any time.

    root/train_melspectrograms/{stem}/{slice_no}.npy    normalised float32 [mel bands, frames]
    root/train.csv                                      the recordings, as `import_npy` reads them

Each file appears whole. Running it again compares every file and puts what is missing or differs.
A train.csv that somebody else has made is left as it is. About 5 times the space of the store.
"""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import polars as pl

from storage.checksums import digest
from storage.encoding import to_unit
from storage.errors import ConfigError
from storage.format.tables import OUR_COLUMNS
from storage.objects.local import TEMPORARY, LocalObjects
from storage.objects.lock import builder_lock
from storage.options import option
from storage.progress import Progress, silent
from storage.source.npy_folder import folder_name
from storage.source.table import check_layout
from storage.store import Store

FOLDER, CSV = "train_melspectrograms", "train.csv"
MARKER = f"{FOLDER}/.melbank-export.json"
FORMAT = "melbank npy export"
NUM_THREADS = 8
BLOCK_SLICES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class NpyExportConfig:
    """Settings of an export: target folder, selection, names of folders."""

    root: str = option("data/npy", f"folder that gets {FOLDER}/ and {CSV}")
    where: str | None = option(None, "SQL condition on recordings, such as rating >= 3")
    layout: str = option("stem", "folders are named by: stem (of the filename) or id (recording)")

    def __post_init__(self) -> None:
        check_layout(self.layout)


@dataclass(frozen=True, slots=True, kw_only=True)
class NpyExportReport:
    """Summary of an export: what the folder holds, and how much of it is new."""

    folder: str
    num_recordings: int
    num_slices: int
    new_slices: int
    csv: str

    def summary(self) -> str:
        """Two lines for the user."""
        return (
            f"{self.folder}: {self.num_slices:,} slices of {self.num_recordings:,} recordings, "
            f"{self.new_slices:,} newly written\n{self.csv}"
        )


def export_npy(
    store: Store, recordings: pl.DataFrame, config: NpyExportConfig, progress: Progress = silent
) -> NpyExportReport:
    """Writes or repairs the folder; `recordings` are lines of `store.recordings()`.

    Raises ConfigError where two recordings would share a folder, or the folder holds anything
    else, and DamageError where a slice cannot be read.
    """
    objects = LocalObjects(config.root)
    folders = _folders(recordings, config)
    exported = _read_marker(objects, store, config)
    with builder_lock(objects):
        objects.clear_temporary()
        csv = _csv(recordings)
        there = {digest(objects.get(CSV))} if objects.exists(CSV) else set()
        csv_is_ours = there <= exported
        # Both checksums, so that a killed export knows either csv again.
        objects.put(MARKER, _marker(store, config, {digest(csv)} | (there & exported)))
        new_slices = _export(store, recordings, folders, objects, progress)
        if csv_is_ours:
            objects.put(CSV, csv)
        objects.path(TEMPORARY).rmdir()
    return NpyExportReport(
        folder=str(objects.path(FOLDER)),
        num_recordings=len(recordings),
        num_slices=int(recordings["num_slices"].sum()),
        new_slices=new_slices,
        csv=f"{objects.path(CSV)}: "
        + ("these recordings" if csv_is_ours else "was there before and is left as it is"),
    )


def _export(
    store: Store,
    recordings: pl.DataFrame,
    folders: list[str],
    objects: LocalObjects,
    progress: Progress,
) -> int:
    """Puts the slices of all recordings, in threads: most of the time is waiting for the disk."""
    lines = zip(folders, recordings["first_row"], recordings["num_slices"], strict=True)
    threads = ThreadPoolExecutor(NUM_THREADS)
    new_slices = 0
    with progress("exporting", int(recordings["num_slices"].sum()), "slice") as step:
        try:
            for num_slices, num_new in threads.map(
                lambda line: _export_recording(store, objects, *line), lines
            ):
                step(num_slices)
                new_slices += num_new
        finally:
            threads.shutdown(cancel_futures=True)
    return new_slices


def _export_recording(
    store: Store, objects: LocalObjects, folder: str, first_row: int, num_slices: int
) -> tuple[int, int]:
    """(slices of a recording, how many of them were put)."""
    num_new = 0
    wanted = set()
    for start in range(0, num_slices, BLOCK_SLICES):
        rows = first_row + np.arange(start, min(start + BLOCK_SLICES, num_slices))
        for slice_no, values_MT in enumerate(to_unit(store.read(rows)), start):
            name = f"{folder}/{slice_no}.npy"
            file = io.BytesIO()
            np.save(file, values_MT, allow_pickle=False)
            if not (objects.exists(name) and objects.get(name) == file.getvalue()):
                objects.put(name, file.getvalue())
                num_new += 1
            wanted.add(name)
    for name in objects.list(folder):  # of an earlier export, when the recording was longer
        if name.endswith(".npy") and name not in wanted:
            objects.delete(name)
    return num_slices, num_new


def _folders(recordings: pl.DataFrame, config: NpyExportConfig) -> list[str]:
    """The folder of each recording; raises ConfigError where two would share one."""
    owners: dict[str, str] = {}
    for filename, recording_id in recordings.select("filename", "recording_id").iter_rows():
        name = folder_name(filename, recording_id, config.layout)
        path = PurePosixPath(name)
        if not name or path.is_absolute() or ".." in path.parts:
            raise ConfigError(f"{recording_id!r} is no name for a folder: leave it out by `where`")
        if name in owners:
            raise ConfigError(
                f"{owners[name]} and {filename} would share the folder {name}: use "
                "export_npy.layout=id, which keeps their folders apart"
            )
        owners[name] = filename
    return [f"{FOLDER}/{name}" for name in owners]


def _read_marker(objects: LocalObjects, store: Store, config: NpyExportConfig) -> set[str]:
    """Reads the checksums of train.csv as exported; ConfigError where the folder is no export."""
    folder = objects.path(FOLDER)
    if not objects.exists(MARKER):
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise ConfigError(
                f"{folder} is not empty and not an export: give a new export_npy.root"
            )
        return set()
    try:
        marker = json.loads(objects.get(MARKER))
        origin = (marker["format"], marker["store_id"], marker["layout"])
        exported = {str(checksum) for checksum in marker["csv_sha256"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{objects.path(MARKER)} is damaged: delete {folder}") from error
    if origin != (FORMAT, store.store_id, config.layout):
        raise ConfigError(
            f"{folder} was exported from another store or with another layout "
            f"({', '.join(origin[1:])}; now {store.store_id}, {config.layout}): give a new "
            "export_npy.root"
        )
    return exported


def _marker(store: Store, config: NpyExportConfig, csv_sha256: set[str]) -> bytes:
    document = {
        "format": FORMAT,
        "store_id": store.store_id,
        "layout": config.layout,
        "recipe": store.recipe.to_dict(),
        "csv_sha256": sorted(csv_sha256),
    }
    return (json.dumps(document, indent=2) + "\n").encode()


def _csv(recordings: pl.DataFrame) -> bytes:
    """The recordings as a csv of BirdCLEF's kind: what was given, without what was found."""
    labels = [str(labels or []) for labels in recordings["secondary_labels"].to_list()]
    given = recordings.drop(name for name in OUR_COLUMNS if name in recordings.columns)
    given = given.with_columns(pl.Series("secondary_labels", labels, pl.String))
    return given.write_csv().encode()
