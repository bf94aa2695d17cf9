"""Slices that sound alike: neighbours of a slice, of a recording, or of a sound file given now.

    neighbours = Neighbours(store, frame, by)
    places, similarities = neighbours.nearest("row:7", "recording")
    upload = neighbours.add_file("call.wav", path)    # then like=upload:ID

Embeddings are computed when they are first asked for; until then ComputingError is raised. Shapes:
N embedded slices, Q slices of a question, E numbers of an embedding.
"""

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from storage.errors import AudioError, ConfigError, ObjectMissingError
from storage.progress import Progress
from storage.recipe import FOREIGN
from storage.store import Store
from training.inference.exploring.frame import SliceFrame
from training.inference.exploring.nearness.waiting import Later
from training.inference.similarity.config import SimilarConfig
from training.inference.similarity.place import EmbeddingPlace

if TYPE_CHECKING:  # they import torch, which takes seconds
    from training.inference.embeddings.embedders import Embedder
    from training.inference.similarity.query import Collection, Question
    from training.inference.similarity.search import Search

KEPT_UPLOADS = 16
KEPT_ANSWERS = 8
MAX_UPLOAD_S = 600.0
MAX_INDEXED = 10_000  # neighbours by an index, which finds the nearest only


class ForgottenError(ObjectMissingError):
    """A file that was given, and is no longer held."""


class TooLongError(ConfigError):
    """A file with more sound than is taken."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Upload:
    """A sound file given to the page: cells uint8 or float [Q, M, T] and vectors [Q, E]."""

    name: str
    seconds: float
    cells: np.ndarray
    vectors_QE: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Opened:
    """Embeddings of a store that are there: `places` of each in the frame, int64 [N]."""

    collection: "Collection"
    search: "Search"
    embedder: "Embedder | None"
    places: np.ndarray
    start_s: np.ndarray
    is_exact: bool


class Neighbours:
    """Neighbours by one embedding. Safe to use from threads."""

    def __init__(self, store: Store, frame: SliceFrame, place: EmbeddingPlace) -> None:
        self._store, self._frame, self._place = store, frame, place
        self.opened = Later("embeddings", self._open)
        self._uploads: OrderedDict[str, Upload] = OrderedDict()
        self._lock = threading.Lock()
        self._kept = lru_cache(KEPT_ANSWERS)(self._answer)

    def nearest(self, like: str, leave_out: str) -> tuple[np.ndarray, np.ndarray]:
        """Places of slices by falling similarity, int64 [k], and that similarity [k].

        `like`: row:ROW, recording:ID or upload:ID; see `allowed_slices` for `leave_out`.
        """
        return self._kept(like, leave_out)

    def upload(self, upload_id: str) -> Upload:
        """A file that was given; ForgottenError where it is no longer held."""
        with self._lock:
            if upload_id not in self._uploads:
                raise ForgottenError("the file is no longer held: drop it again")
            return self._uploads[upload_id]

    def add_file(self, name: str, path: Path) -> str:
        """Cuts and embeds a sound file; returns the id by which it is known.

        Raises ConfigError where it is no sound, TooLongError where it is too long.
        """
        opened = self.opened.get()
        if opened.embedder is None:
            raise ConfigError(
                f"explore.embeddings={self._place.similar.by} is a file, but a sound file needs "
                "the model itself: give the one that made it, such as spectral or exp_003/fold_0"
            )
        cells = self._cut(path)
        upload = Upload(
            name=name,
            seconds=_seconds(path),
            cells=cells,
            vectors_QE=_vectors(path, cells, opened.embedder, opened.collection),
        )
        upload_id = secrets.token_hex(8)
        with self._lock:
            self._uploads[upload_id] = upload
            while len(self._uploads) > KEPT_UPLOADS:
                self._uploads.popitem(last=False)
        return upload_id

    def _cut(self, path: Path) -> np.ndarray:
        from storage.audio.filterbank import mel_filterbank
        from storage.build.slice_maker import AudioSlices

        recipe = self._store.recipe
        if recipe.origin == FOREIGN:
            raise ConfigError("the store has imported slices, whose audio is not known: take a row")
        most = ceil(MAX_UPLOAD_S / recipe.slice_step_s)
        try:
            _, slices = AudioSlices(recipe, mel_filterbank(recipe)).open(path)
            cells = [cells_MT for cells_MT, _ in islice(slices, most + 1)]
        except AudioError as error:
            raise ConfigError(f"the file cannot be used: {error}") from error
        if len(cells) > most:
            raise TooLongError(f"the file is longer than {MAX_UPLOAD_S:g} s: cut a part of it")
        return np.stack(cells)

    def _open(self, progress: Progress) -> Opened:
        from training.inference.similarity.opening import (
            make_embeddings,
            open_collection,
            open_search,
            slice_starts,
        )

        similar = self._place.similar
        file, embedder = make_embeddings(self._place, self._store, progress)
        collection = open_collection(file, self._store)
        starts = slice_starts(collection, self._store.slice_index())
        return Opened(
            collection=collection,
            search=open_search(similar, collection, file, progress),
            embedder=embedder,
            places=self._frame.places_of(collection.table.frame["row"].to_numpy()),
            start_s=starts["start_s"].to_numpy(),
            is_exact=len(starts) <= similar.exact_rows,
        )

    def _answer(self, like: str, leave_out: str) -> tuple[np.ndarray, np.ndarray]:
        opened = self.opened.get()  # which imports what follows, in the background
        from training.inference.similarity.query import allowed_slices

        question = self._question(like, opened)
        allowed_N = allowed_slices(question, opened.collection, leave_out)
        count = len(allowed_N) if opened.is_exact else MAX_INDEXED
        found = opened.search.nearest(question.vectors_QE, count, allowed_N)
        return opened.places[found.places], found.similarities

    def _question(self, like: str, opened: Opened) -> "Question":
        from training.inference.similarity.query import Question, ask

        kind, _, name = like.partition(":")
        if kind == "upload":
            vectors_QE = self.upload(name).vectors_QE
            return Question(
                vectors_QE=vectors_QE,
                start_s=np.zeros(len(vectors_QE)),
                own_N=np.zeros(len(opened.places), bool),
            )
        if kind == "recording":
            return ask(SimilarConfig(recording=name), opened.collection, opened.start_s)
        if not name.isdecimal() or len(name) > 18:
            raise ConfigError(f"like={like} names no row, as in row:7")
        return ask(SimilarConfig(row=int(name)), opened.collection, opened.start_s)


def _vectors(
    path: Path, cells: np.ndarray, embedder: "Embedder", collection: "Collection"
) -> np.ndarray:
    from training.inference.similarity.query import ask_file, embed_cells

    if embedder.takes is None:
        return collection.space.units(embed_cells(list(cells), embedder))
    return ask_file(path, embedder, collection).vectors_QE


def _seconds(path: Path) -> float:
    from storage.audio.decode import read_header

    return read_header(path).duration_s
