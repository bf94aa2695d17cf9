"""Nearest vectors by the cosine: all compared, or by an index of usearch for large collections.

    search = ExactSearch(unit_NE)
    found = search.nearest(queries_QE, 20, allowed_N)

Several queries, such as the slices of a recording, count as one question: a slice is as near as it
is to the nearest of them. Ties are broken by the position.

The index is a graph (Malkov and Yashunin, HNSW, 2020): it finds nearly all of the nearest.

Shapes: N slices, Q queries, E numbers of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from storage.errors import ConfigError
from storage.output_files import output_file

if TYPE_CHECKING:
    from storage.progress import Progress

BLOCK = 65_536  # slices whose similarity is computed together
FIRST_SEARCH = 4  # times as many as wanted, since some will not be allowed
INDEX_BLOCK = 4096


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """The nearest k: positions int64, similarities float32, falling, and the query of each."""

    places: np.ndarray
    similarities: np.ndarray
    query_no: np.ndarray


class Search(Protocol):
    """Interface of both searches."""

    def nearest(self, queries_QE: np.ndarray, count: int, allowed_N: np.ndarray) -> Found:
        """The `count` nearest positions that are allowed, or fewer where fewer are."""


class ExactSearch:
    """Compares with all vectors, block by block."""

    def __init__(self, unit_NE: np.ndarray) -> None:
        self._unit_NE = unit_NE

    def nearest(self, queries_QE: np.ndarray, count: int, allowed_N: np.ndarray) -> Found:
        best_N = np.empty(len(self._unit_NE), np.float32)
        query_N = np.empty(len(self._unit_NE), np.int64)
        for start in range(0, len(best_N), BLOCK):
            block = slice(start, start + BLOCK)
            similar_BQ = self._unit_NE[block] @ queries_QE.T
            query_N[block] = similar_BQ.argmax(axis=1)
            best_N[block] = similar_BQ.max(axis=1)
        places = np.flatnonzero(allowed_N)
        order = np.argsort(-best_N[places], kind="stable")[:count]
        return Found(
            places=places[order],
            similarities=best_N[places[order]],
            query_no=query_N[places[order]],
        )


class IndexSearch:
    """Asks an index of usearch."""

    def __init__(self, index: Any) -> None:
        self._index = index

    def nearest(self, queries_QE: np.ndarray, count: int, allowed_N: np.ndarray) -> Found:
        num_allowed = int(allowed_N.sum())
        wanted = FIRST_SEARCH * count
        while True:
            wanted = min(wanted, len(allowed_N))
            found = _joined(self._index.search(queries_QE, wanted), len(queries_QE), wanted)
            kept = allowed_N[found.places]
            if kept.sum() >= min(count, num_allowed) or wanted == len(allowed_N):
                break
            wanted *= FIRST_SEARCH
        return Found(
            places=found.places[kept][:count],
            similarities=found.similarities[kept][:count],
            query_no=found.query_no[kept][:count],
        )


def _joined(matches: Any, num_queries: int, wanted: int) -> Found:
    """The matches of all queries, each position once with its best similarity."""
    places = np.asarray(matches.keys, np.int64).reshape(num_queries, -1)
    similarities = 1 - np.asarray(matches.distances, np.float32).reshape(num_queries, -1)
    query_no = np.repeat(np.arange(num_queries), places.shape[1])
    flat, values = places.ravel(), similarities.ravel()
    order = np.lexsort((flat, -values))
    _, first = np.unique(flat[order], return_index=True)
    chosen = order[np.sort(first)][:wanted]
    return Found(places=flat[chosen], similarities=values[chosen], query_no=query_no[chosen])


def open_index(path: Path, unit_NE: np.ndarray, progress: Progress) -> IndexSearch:
    """An index in a file, which is made where it is missing; needs the extra `similar`."""
    try:
        from usearch.index import Index
    except ImportError as error:
        raise ConfigError(
            f"{len(unit_NE):,} slices are more than similar.exact_rows, which needs usearch: "
            "uv sync --extra similar; or raise similar.exact_rows"
        ) from error
    index = Index(ndim=unit_NE.shape[1], metric="cos", dtype="f16")
    if not path.is_file():
        with progress("index", len(unit_NE), "slice") as step, output_file(path) as file:
            for start in range(0, len(unit_NE), INDEX_BLOCK):
                block = unit_NE[start : start + INDEX_BLOCK]
                index.add(np.arange(start, start + len(block)), block)
                step(len(block))
            index.save(str(file))
    index.view(str(path))
    if len(index) != len(unit_NE):
        raise ConfigError(f"{path} has {len(index)} slices, not {len(unit_NE)}: remove it")
    return IndexSearch(index)
