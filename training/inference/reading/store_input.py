"""A store as input of a prediction: its rows as they are, recording by recording."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import polars as pl

from storage.errors import ConfigError
from storage.objects.client import RemoteConfig
from storage.store import Store, open_store
from training.inference.members import Member
from training.inference.reading.audio_input import WINDOWS
from training.inference.reading.inputs import InputRecording
from training.inference.reading.loading import CHUNK_WINDOWS, Job
from training.inference.reading.messages import Chunk, Ended, Message
from training.model.recipe_check import check_recipe


class StoreInput:
    """The slices of a store; its models take them as they are."""

    def __init__(self, url: str, members: Sequence[Member], remote: RemoteConfig) -> None:
        self._store = open_store(url, remote)
        for member in members:
            check_recipe(member.path, member.recipe, self._store.recipe)
        if not len(self._store):
            raise ConfigError(f"predict.input={url} is a store without slices")
        self.windows = self._store.recipe
        self.places = {member.path: 0 for member in members}
        self.recordings = recordings_of_store(self._store)

    def total(self) -> tuple[int, str]:
        """Amount of work, and its unit."""
        return len(self._store), WINDOWS

    @contextmanager
    def messages(self, jobs: Sequence[Job]) -> Iterator[Iterable[Message]]:
        """The messages of recordings, in order, read in this process."""
        ids = [one.recording_id for one in self.recordings]
        with self._store:
            yield load_store(self._store, jobs, ids)


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


def load_store(store: Store, jobs: Sequence[Job], ids: Sequence[str]) -> Iterator[Message]:
    """Yields the messages of recordings of a store; `ids` are their names, by recording number."""
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
                cells=(store.read(part["row"].to_numpy())[:, None],),
                start_s=part["start_s"].to_numpy(),
                silent=part["silent"].fill_null(False).to_numpy(),
            )
        yield Ended(
            recording_no=job.recording_no,
            num_windows=len(slices),
            duration_s=facts[name]["duration_s"] or 0.0,
            sample_rate_hz=facts[name]["sample_rate_hz"],
        )
