"""A store as input of a prediction: its rows as they are, recording by recording."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import polars as pl

from datasets.chunks import Chunks
from datasets.levels import Levels
from storage.errors import ConfigError
from storage.objects.client import RemoteConfig
from storage.store import Store, open_store
from training.inference.members import Member
from training.inference.reading.audio_input import WINDOWS, sample_length_s
from training.inference.reading.inputs import InputRecording
from training.inference.reading.loading import CHUNK_WINDOWS, Job
from training.inference.reading.messages import Chunk, Ended, Message
from training.inference.reading.windows import joined_slices
from training.model.recipe_check import check_recipe


class StoreInput:
    """The slices of a store; its models take them as they are, or joined to chunks.

    Windows are its rows, at the times of their slices. The chunk of one of the last rows of a
    recording begins before it, so that it fits.
    """

    def __init__(self, url: str, members: Sequence[Member], remote: RemoteConfig) -> None:
        self._store = open_store(url, remote)
        for member in members:
            if member.waveform is not None:
                raise ConfigError(
                    f"{member.path} hears the recordings themselves, which the store {url} does "
                    "not hold: give their folder as predict.input"
                )
            check_recipe(member.path, member.recipe, self._store.recipe)
        if not len(self._store):
            raise ConfigError(f"predict.input={url} is a store without slices")
        recipe = self._store.recipe
        self.windows = replace(recipe, slice_s=sample_length_s(members[0]))
        chunks = {member.path: member.chunks.fitted(recipe) for member in members}
        self._chunks = list(dict.fromkeys(chunks.values()))
        if any(one.count > 1 for one in self._chunks):
            Levels(self._store).load()  # or say now why not
        self.places = {path: self._chunks.index(given) for path, given in chunks.items()}
        self.recordings = recordings_of_store(self._store)

    def total(self) -> tuple[int, str]:
        """Amount of work, and its unit."""
        return len(self._store), WINDOWS

    @contextmanager
    def messages(self, jobs: Sequence[Job]) -> Iterator[Iterable[Message]]:
        """The messages of recordings, in order, read in this process."""
        ids = [one.recording_id for one in self.recordings]
        with self._store:
            yield load_store(self._store, jobs, ids, self._chunks)


def recordings_of_store(store: Store) -> tuple[InputRecording, ...]:
    """The recordings of a store, sorted by name; the version is the hash of the content."""
    columns = ("recording_id", "filename", "content_hash", "num_slices", "first_row")
    table = store.recordings().select(columns).sort("recording_id")
    return tuple(
        InputRecording(
            recording_id=row["recording_id"],
            path=row["filename"],
            version=f"{row['content_hash']}, {row['num_slices']} slices from {row['first_row']}",
        )
        for row in table.iter_rows(named=True)
    )


def load_store(
    store: Store, jobs: Sequence[Job], ids: Sequence[str], chunks: Sequence[Chunks]
) -> Iterator[Message]:
    """Yields the messages of recordings of a store; `ids` are their names, by recording number.

    Windows are rows: the slice, or the chunk of that row, for each of `chunks`.
    """
    wanted = pl.Series("recording_id", [ids[job.recording_no] for job in jobs])
    index = store.slice_index().filter(pl.col("recording_id").is_in(wanted.implode()))
    by_id = index.sort("row").partition_by("recording_id", as_dict=True)
    facts = {row["recording_id"]: row for row in store.recordings().iter_rows(named=True)}
    for job in jobs:
        name = ids[job.recording_no]
        slices = by_id[(name,)]
        for first in range(0, len(slices), CHUNK_WINDOWS):
            part = slices[first : first + CHUNK_WINDOWS]
            yield Chunk(
                recording_no=job.recording_no,
                cells=tuple(
                    _cells(store, part["row"].to_numpy(), slices, one)[:, None] for one in chunks
                ),
                start_s=part["start_s"].to_numpy(),
                silent=part["silent"].fill_null(False).to_numpy(),
            )
        yield Ended(
            recording_no=job.recording_no,
            num_windows=len(slices),
            duration_s=facts[name]["duration_s"] or 0.0,
            sample_rate_hz=facts[name]["sample_rate_hz"],
        )


def _cells(store: Store, rows: np.ndarray, slices: pl.DataFrame, chunks: Chunks) -> np.ndarray:
    """The cells of rows of a recording, of which `slices` is the index: [n, M, T], or joined."""
    if chunks.count == 1:
        return store.read(rows)
    known, max_db = slices["row"].to_numpy(), slices["max_db"].to_numpy()
    bounds = np.full(len(rows), known[0]), np.full(len(rows), known[-1] + 1)
    rows_NK, present_NK = chunks.rows(rows, *bounds)
    needed = np.unique(rows_NK[present_NK])
    cells, levels = store.read(needed), max_db[np.searchsorted(known, needed)]
    place_NK = np.searchsorted(needed, rows_NK)
    joined = [
        joined_slices(
            list(cells),
            levels.tolist(),
            [place if there else None for place, there in zip(places, present, strict=True)],
            store.recipe.top_db,
        )
        for places, present in zip(place_NK.tolist(), present_NK.tolist(), strict=True)
    ]
    return np.stack(joined)
