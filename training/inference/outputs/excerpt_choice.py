"""Selects detections for review: all, the highest scores, at random, or even over score bands.

A selection is a pure function of the detections and the seed: a random one takes those with the
smallest hash of seed, recording, time and class. So its order does not matter, and memory holds
`n` detections per class (and band) only.
"""

import bisect
import hashlib
import heapq
from collections.abc import Iterator
from typing import Any, NamedTuple

from training.inference.outputs.config import ExcerptConfig


class _Candidate(NamedTuple):
    """A detection and its rank; the lowest ones are taken out of a full heap."""

    rank: tuple[float, ...]
    number: int  # in the order of the run, so that equal ranks have an order
    row: dict[str, Any]


class ExcerptChoice:
    """Keeps the detections that are selected so far."""

    def __init__(self, config: ExcerptConfig) -> None:
        self._config = config
        self._heaps: dict[tuple[str, int], list[_Candidate]] = {}
        self._num_seen = 0

    def add(self, row: dict[str, Any]) -> None:
        """Offers a detection, a row of detect.py."""
        band = 0
        if self._config.choice == "bands":
            band = bisect.bisect_right(self._config.bands, row["score"])
        heap = self._heaps.setdefault((row["label"], band), [])
        # earlier ones have the higher number: of equal ranks the first is kept
        candidate = _Candidate(self._rank(row), -self._num_seen, row)
        self._num_seen += 1
        if len(heap) < self._config.n:
            heapq.heappush(heap, candidate)
        else:
            heapq.heappushpop(heap, candidate)

    def chosen(self) -> Iterator[dict[str, Any]]:
        """Yields the selected detections in the order of the run."""
        kept = [candidate for heap in self._heaps.values() for candidate in heap]
        for candidate in sorted(kept, key=lambda one: -one.number):
            yield candidate.row

    def _rank(self, row: dict[str, Any]) -> tuple[float, ...]:
        if self._config.choice == "top":
            return (row["score"],)
        key = f"{self._config.seed}\0{row['recording_id']}\0{row['start_s']}\0{row['label']}"
        return (-int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big"),)
