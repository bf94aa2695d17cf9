"""The usual Kaggle folder, `train_melspectrograms/{stem}/{slice_no}.npy`: slices made elsewhere.

A recording is a folder here, a slice a file: normalised values in [0, 1], float32 [mel bands,
frames]; float16 and float64 are taken too. The rules, for every recording that the csv names:

Stored whole: the files 0.npy to n-1.npy are all there, of the recipe's shape, finite, in [0, 1]
(1e-6 beyond is clipped). Other files than *.npy, and hidden ones, are left alone.

Stored as far as it is sound, marked `partial`, with the reason in the rejects: a number is
missing, or a file is bad; what is before it is stored.

Rejected: no folder, no slice files, 0.npy missing or bad, a .npy file without a number, two files
of one number, two recordings with one folder (`source.npy_layout=id`).

What cannot be known stays null: `max_db`, `mean_db`, `sample_rate_hz`, `num_channels`. Times,
frequencies and dB are as true as the recipe that is given with the folder.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import polars as pl

from storage.errors import AudioError, ConfigError
from storage.objects.urls import is_remote
from storage.recipe import FOREIGN, Recipe
from storage.source.probe import Probe
from storage.source.recordings import without_ending
from storage.source.table import Source, SourceConfig, read_source
from storage.untrusted import read_npy_header

TOLERANCE = 1e-6
NUM_LOOKED_AT = 64


def folder_name(filename: str, recording_id: str, layout: str) -> str:
    """The folder of a recording: its file's stem, or its id, where the layout is `id`."""
    return recording_id if layout == "id" else PurePosixPath(without_ending(filename)).name


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceFiles:
    """The files 0.npy, 1.npy, ... of a recording; `problem`: why those after are left out."""

    files: list[Path]
    problem: str | None


def list_slices(folder: Path) -> SliceFiles:
    """The slices of a recording; raises AudioError where there are none that can be used."""
    numbered: dict[int, str] = {}
    for name in _npy_names(folder):
        stem = name[:-4]
        if not (stem.isascii() and stem.isdecimal()):
            raise AudioError(f"{name} has no slice number: slices are named 0.npy, 1.npy, ...")
        if int(stem) in numbered:
            raise AudioError(f"{numbered[int(stem)]} and {name} are the same slice: delete one")
        numbered[int(stem)] = name
    if not numbered:
        raise AudioError("the folder holds no .npy files")
    if 0 not in numbered:
        raise AudioError(f"0.npy is missing, the first is {numbered[min(numbered)]}: count from 0")
    end = next(number for number in range(len(numbered) + 1) if number not in numbered)
    behind = len(numbered) - end
    return SliceFiles(
        files=[folder / numbered[number] for number in range(end)],
        problem=f"{end}.npy is missing, {behind} files are after it: left out" if behind else None,
    )


def hash_slices(folder: Path) -> str:
    """sha256 of the names, sizes and bytes of a recording's slices, in hex."""
    total = hashlib.sha256()
    for name in _npy_names(folder):
        with (folder / name).open("rb") as file:
            total.update(f"{name}\n{os.fstat(file.fileno()).st_size}\n".encode())
            hashlib.file_digest(file, lambda: total)
    return total.hexdigest()


def probe_slices(folder: Path, recipe: Recipe) -> Probe:
    """A first look at a recording: `header_s` is the time that its slices span."""
    try:
        size = sum((folder / name).stat().st_size for name in _npy_names(folder))
        content_hash = hash_slices(folder)
    except AudioError as error:
        return Probe(problem=str(error))
    except OSError as error:
        return Probe(problem=f"it cannot be read: {error.strerror}")
    try:
        num_slices = len(list_slices(folder).files)
    except AudioError as error:
        return Probe(content_hash=content_hash, size_bytes=size, problem=str(error))
    return Probe(content_hash=content_hash, size_bytes=size, header_s=span_s(num_slices, recipe))


def span_s(num_slices: int, recipe: Recipe) -> float:
    """The time from the start of the first to the end of the last slice, s."""
    samples = (num_slices - 1) * recipe.step_samples + recipe.slice_samples
    return samples / recipe.sample_rate_hz


class NpyReader:
    """Iterates over one recording's slices, float32 [M, T]; afterwards knows what it met.

    As `storage.audio.decode.Decoder`: raises AudioError where the first slice is bad.
    """

    header = None  # nothing is known of the audio

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self._folder = folder
        self._recipe = recipe
        self.duration_s = 0.0
        self.problem: str | None = None

    def __iter__(self) -> Iterator[np.ndarray]:
        slices = list_slices(self._folder)
        self.problem = slices.problem
        for number, path in enumerate(slices.files):
            try:
                unit_MT = read_slice(path, self._recipe.slice_shape)
            except AudioError as error:
                if number == 0:
                    raise
                self.problem = f"{error}; the {number} slices before it are stored"
                return
            self.duration_s = span_s(number + 1, self._recipe)
            yield unit_MT


def read_slice(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """One file as float32 [M, T] in [0, 1]; raises AudioError with what to do."""
    found, dtype = read_shape(path)
    if found != shape:
        raise AudioError(
            f"{path.name} has the shape {list(found)}, the recipe's slices {list(shape)}"
        )
    if dtype.kind != "f":
        raise AudioError(f"{path.name} holds {dtype}, not float32: normalise it to [0, 1]")
    try:
        values: np.ndarray = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise AudioError(f"{path.name} is cut short or damaged: write it again") from error
    if not np.isfinite(values).all():
        raise AudioError(f"{path.name} holds NaN or infinite values")
    low, high = float(values.min()), float(values.max())
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise AudioError(
            f"{path.name} holds values from {low:g} to {high:g}, outside [0, 1]: normalise them, "
            "dB as (dB + 80) / 80"
        )
    return values.clip(0, 1).astype(np.float32, order="C")


def read_shape(path: Path) -> tuple[tuple[int, ...], "np.dtype[np.generic]"]:
    """Shape and dtype in the header of a .npy file; raises AudioError where there is none."""
    try:
        with path.open("rb") as file:
            shape, _, dtype = read_npy_header(file)
    except ValueError as error:
        raise AudioError(f"{path.name} is no .npy file, or a damaged one ({error})") from error
    except OSError as error:
        raise AudioError(f"{path.name} cannot be read: {error.strerror}") from error
    if dtype.hasobject:
        raise AudioError(f"{path.name} holds Python objects, which are never loaded")
    return shape, dtype


def read_npy_source(config: SourceConfig) -> Source:
    """Lists a source whose recordings are folders below `source.npy_dir`."""
    if is_remote(config.root):
        raise ConfigError(
            f"source.root={config.root}: slices are imported from a folder of this machine; copy "
            "them there first. The store itself may be in a bucket"
        )
    source = read_source(config)
    root = Path(config.root) / config.npy_dir
    if not root.is_dir():
        raise ConfigError(
            f"{root} is missing: it should hold a folder of slices per recording; name another "
            "with source.npy_dir=FOLDER"
        )
    paths = [
        str(root / folder_name(filename, recording_id, config.npy_layout))
        for filename, recording_id in source.recordings.select(
            "filename", "recording_id"
        ).iter_rows()
    ]
    table = source.recordings.with_columns(pl.Series("path", paths, pl.String))
    count = pl.len().over("path")
    remedy = pl.format("{} recordings share its folder: use source.npy_layout=id", count)
    table = table.with_columns(pl.coalesce("reason", pl.when(count > 1).then(remedy)))
    return replace(source, recordings=table, num_unlisted=len(_folders(root) - set(paths)))


def foreign_recipe(config: SourceConfig, recipe: Recipe) -> Recipe:
    """The recipe of a folder's slices: as given, with the number of mel bands of the files.

    Raises ConfigError where the frames of the files are not those of the recipe.
    """
    shapes: Counter[tuple[int, ...]] = Counter()
    paths = read_npy_source(config).recordings.filter(pl.col("reason").is_null())["path"]
    trouble = "no recording can be used"
    for path in paths[:: max(1, len(paths) // NUM_LOOKED_AT)]:
        try:
            shapes[read_shape(list_slices(Path(path)).files[0])[0]] += 1
        except AudioError as error:
            trouble = f"{path}: {error}"
    shape = shapes.most_common(1)[0][0] if shapes else ()
    if len(shape) != 2:
        what = f"the slices have the shape {list(shape)}" if shapes else trouble
        raise ConfigError(
            f"source.root={config.root} holds no slices [mel bands, frames]: {what}; "
            f"source.npy_layout is {config.npy_layout}"
        )
    foreign = replace(recipe, origin=FOREIGN, n_mels=shape[0])
    if foreign.slice_shape != shape:
        raise ConfigError(
            f"the slices have {shape[1]} frames; recipe.slice_s={recipe.slice_s:g}, sample_rate_hz="
            f"{recipe.sample_rate_hz} and hop={recipe.hop} give {recipe.num_frames}: give the "
            f"numbers that they were made with, such as recipe.slice_s="
            f"{(shape[1] - 1) * recipe.hop / recipe.sample_rate_hz:g}"
        )
    return foreign


def _npy_names(folder: Path) -> list[str]:
    """The names of the .npy files in a folder, sorted; AudioError where there is no folder."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AudioError(f"there is no folder of slices: {folder.name}") from error
    return sorted(name for name in names if name.endswith(".npy") and not name.startswith("."))


def _folders(root: Path) -> set[str]:
    """The folders that hold .npy files."""
    return {
        folder for folder, _, names in os.walk(root) if any(name.endswith(".npy") for name in names)
    }
