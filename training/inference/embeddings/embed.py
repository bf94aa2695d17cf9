"""Embeds the slices of a store, in parts that are committed one after the other.

    about = embed_store(store, recordings, embedder, config, audio=audio_of(source))

A run that was stopped goes on where it was: its parts are in `.NAME.parts` next to the file, and
the same call takes those that are there. The same call gives the same bytes, whatever was stopped.

Shapes: N slices of a part, E numbers of an embedding.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import polars as pl

from storage.errors import ConfigError
from storage.objects.client import DEFAULT, RemoteConfig
from storage.output_files import output_file
from storage.progress import Progress, Step, silent
from storage.source.files import RecordingFiles
from storage.source.table import Source
from storage.store import Store
from training.inference.embeddings.config import EmbedConfig
from training.inference.embeddings.embedders import Embedder
from training.inference.embeddings.slice_audio import (
    WaveformInput,
    read_windows,
    slice_means,
)
from training.inference.embeddings.table import (
    About,
    frame_of,
    join_tables,
    read_about,
    read_table,
    write_table,
)

PART_SLICES = 512  # at least, of whole recordings
MAX_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioFiles:
    """The recordings of a store as files, for models of waveforms."""

    paths: Mapping[str, str]  # by recording_id, a path or a URL
    channel: str
    remote: RemoteConfig = DEFAULT


def audio_of(source: Source, channel: str, remote: RemoteConfig = DEFAULT) -> AudioFiles:
    """The files of a source."""
    paths = dict(source.recordings.select("recording_id", "path").iter_rows())
    return AudioFiles(paths=paths, channel=channel, remote=remote)


def embed_store(
    store: Store,
    recordings: pl.DataFrame,
    embedder: Embedder,
    config: EmbedConfig,
    *,
    audio: AudioFiles | None = None,
    progress: Progress = silent,
) -> About:
    """Writes `config.out`, with the embeddings of all slices of some recordings, in their order.

    `audio` is for models that take waveforms. Raises ConfigError where the file or its parts are
    of another call, or recordings have no file.
    """
    slices = slices_of(store, recordings)
    about = _about(store, slices, embedder)
    target = Path(config.out)
    parts = target.with_name(f".{target.name}.parts")
    if target.is_file():
        _check_same(about, target)
        return about
    _check_audio(recordings, embedder, audio)
    parts.mkdir(parents=True, exist_ok=True)
    files = []
    with progress("embeddings", len(slices), "slice") as step:
        for number, part in enumerate(_split(slices)):
            files.append(parts / f"{number:06d}.parquet")
            if files[-1].is_file():
                _check_same(about, files[-1])
                read_table(files[-1])  # its bytes are checked before the work goes on
                step(len(part))
                continue
            found = list(_embed_part(store, part, embedder, config.batch_size, audio, step))
            names = part["recording_id"].to_list()
            frame = frame_of(part["row"].to_numpy(), names, np.concatenate(found))
            with _committing(files[-1]) as unfinished:
                write_table(frame, about, unfinished)
    with _committing(target) as unfinished:
        join_tables(files, about, unfinished)
    shutil.rmtree(parts)
    return about


def slices_of(store: Store, recordings: pl.DataFrame) -> pl.DataFrame:
    """row, recording_id and start_s of all slices of some recordings, by row."""
    wanted = recordings["recording_id"].implode()
    index = store.slice_index().select("row", "recording_id", "start_s")
    return index.filter(pl.col("recording_id").is_in(wanted))


def _about(store: Store, slices: pl.DataFrame, embedder: Embedder) -> About:
    rows = slices["row"].to_numpy().astype("<i8")
    return About(
        model=embedder.record,
        store_id=store.store_id,
        recipe=store.recipe,
        num_slices=len(slices),
        rows_sha256=sha256(rows.tobytes()).hexdigest(),
    )


def _check_same(about: About, path: Path) -> None:
    if difference := about.difference(read_about(path)):
        raise ConfigError(
            f"{path} has embeddings of another call ({difference}): remove it, or give another "
            "embed.out"
        )


def _check_audio(recordings: pl.DataFrame, embedder: Embedder, audio: AudioFiles | None) -> None:
    if embedder.takes is None:
        return
    paths = {} if audio is None else audio.paths
    missing = [name for name in recordings["recording_id"] if paths.get(name) is None]
    if missing:
        more = f" and {len(missing) - MAX_NAMED} more" if len(missing) > MAX_NAMED else ""
        raise ConfigError(
            f"{embedder.record.name} takes waveforms, and {len(missing)} recordings of the store "
            f"have no file in source.root: {', '.join(missing[:MAX_NAMED])}{more}; give the "
            "source.* keys by which the store was built"
        )


def _split(slices: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yields the slices of whole recordings, PART_SLICES or more in each but the last."""
    names = slices["recording_id"].to_numpy()
    begins = np.flatnonzero(names[1:] != names[:-1]) + 1  # of all recordings but the first
    start = 0
    for begin in begins:
        if begin - start >= PART_SLICES:
            yield slices[start:begin]
            start = int(begin)
    if start < len(slices):
        yield slices[start:]


def _embed_part(
    store: Store,
    part: pl.DataFrame,
    embedder: Embedder,
    batch_size: int,
    audio: AudioFiles | None,
    step: Step,
) -> Iterator[np.ndarray]:
    """Yields the embeddings of a part in batches, float32 [n, E]."""
    if embedder.takes is None or audio is None:
        rows = part["row"].to_numpy()
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            yield embedder.embed(store.read(batch))
            step(len(batch))
        return
    windows = _part_windows(part, embedder.takes, audio, store.recipe.slice_s)
    for held in _whole_slices(windows, batch_size):
        yield _means(held, embedder)
        step(len(held))


def _part_windows(
    part: pl.DataFrame, takes: WaveformInput, audio: AudioFiles, slice_s: float
) -> Iterator[np.ndarray]:
    """Yields the windows of each slice, float32 [k, S]."""
    files = RecordingFiles(audio.remote)
    for (name,), slices in part.group_by("recording_id", maintain_order=True):
        with files.open(audio.paths[str(name)]) as path:
            yield from read_windows(
                path, audio.channel, takes, slices["start_s"].to_list(), slice_s
            )


def _whole_slices(windows: Iterator[np.ndarray], batch_size: int) -> Iterator[list[np.ndarray]]:
    """Yields the windows of whole slices, `batch_size` windows or more in each but the last."""
    held: list[np.ndarray] = []
    for one in windows:
        held.append(one)
        if sum(map(len, held)) >= batch_size:
            yield held
            held = []
    if held:
        yield held


def _means(held: list[np.ndarray], embedder: Embedder) -> np.ndarray:
    """The mean embedding of the windows of each slice, float32 [n, E]."""
    found = embedder.embed(np.concatenate(held))
    return slice_means(found, [len(windows) for windows in held])


@contextmanager
def _committing(path: Path) -> Iterator[Path]:
    """A path next to a file, which is there as a whole afterwards, or not at all."""
    with output_file(path) as unfinished:
        yield unfinished
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
