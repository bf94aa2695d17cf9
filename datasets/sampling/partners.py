"""Partners and substitutes of samples: slices of pools, drawn in the plan.

Injection gives a share of the samples a partner, from one pool of a list at most; samples that are
of a pool get none. Substitution replaces samples by slices of a pool whose top class is the
sample's label. Both are pure functions of seed, epoch, and the sample's recording and number of
draw, so neither batches nor ranks matter.

A slice's chance in a pool: its recording's weight, divided among the recording's slices by theirs.
Among the slices of one top class, the chances are in the same proportions.

Shapes: n samples, R recordings of the plan.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datasets.injection import InjectSpec
from datasets.randomness import random_unit
from datasets.sampling.candidates import Candidates
from datasets.sampling.shuffle import PIECE, SampleBits
from datasets.sampling.slice_choice import Activity, Draws, choose_randomly
from datasets.sampling.top_targets import TopTargets
from datasets.slice_source import pieces


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoolSlices:
    """Slices that may be drawn, and weights of recordings, float64 [R], and of slices, if any."""

    candidates: Candidates
    weight: np.ndarray
    activity: Activity | None = None

    def by_row(self, recordings: np.ndarray) -> np.ndarray:
        """Sorts recordings by their rows: the order of a table's lines changes no draw."""
        return recordings[np.argsort(self.candidates.begin[recordings], kind="stable")]

    def draw(
        self, recordings: np.ndarray, recording_bits: np.ndarray, slice_bits: np.ndarray
    ) -> np.ndarray:
        """Draws a row of some recordings (int64, positions) for each pair of bits, int64."""
        cumulative = np.concatenate(([0.0], np.cumsum(self.weight[recordings])))
        chosen = recordings[_weighted(cumulative, recording_bits)]
        draws = Draws(
            recording=chosen,
            num_slices=self.candidates.count[chosen],
            num_draws=np.ones(len(chosen), np.int64),
            draw_no=np.zeros(len(chosen), np.int64),
            bits=slice_bits,
            activity=self.activity,
        )
        return self.candidates.row_of(chosen, choose_randomly(draws))

    def chances(self, recordings: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns row, position of the recording, and chance of all slices of some recordings."""
        count = self.candidates.count[recordings]
        owner = np.repeat(recordings, count)
        number = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        rows = self.candidates.row_of(owner, number)
        if self.activity is None:
            return rows, owner, self.weight[owner] / np.repeat(count, count)
        first = self.activity.start[owner] + number
        own = self.activity.cumulative[first + 1] - self.activity.cumulative[first]
        sums = np.repeat(self.activity.sums(self.candidates.count)[recordings], count)
        share = np.divide(own, sums, out=np.zeros(len(own)), where=sums > 0)
        return rows, owner, self.weight[owner] * share


class Injection:
    """Draws partners. `pool_no` int [R] is each recording's source, as a position in `pools`.

    `pools` are names of sources, each once, and `pool_no` is -1 in all other sources.
    """

    def __init__(
        self,
        specs: Sequence[InjectSpec],
        slices: PoolSlices,
        pool_no: np.ndarray,
        pools: Sequence[str],
    ) -> None:
        self._slices = slices
        self._edges = np.cumsum([spec.p for spec in specs])
        self._in_pool = pool_no >= 0
        held = slices.weight > 0
        self._recordings = [
            slices.by_row(np.flatnonzero((pool_no == pools.index(spec.source)) & held))
            for spec in specs
        ]

    def partners(
        self, planned_no: np.ndarray, rows: np.ndarray, bits: SampleBits
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns rows of partners, int64 [n], and pools, int8 [n]; -1 and the own row: none."""
        partner_rows = rows.copy()
        partner_pool = np.full(len(rows), -1, np.int8)
        for piece in pieces(len(rows), PIECE):
            point = random_unit(bits.of(piece, "partner"))
            pool = np.searchsorted(self._edges, point, side="right")
            pool[self._in_pool[planned_no[piece]]] = len(self._edges)
            for number, recordings in enumerate(self._recordings):
                index = np.flatnonzero(pool == number) + piece.start
                by_recording = bits.of(index, "partner recording")
                by_slice = bits.of(index, "partner slice")
                partner_rows[index] = self._slices.draw(recordings, by_recording, by_slice)
                partner_pool[index] = number
        return partner_rows, partner_pool


class Substitution:
    """Draws substitutes: slices of one source, by top class.

    `recordings` int64 are the source's, as positions in the plan's, and `label_R` int [R] the
    number of each recording's label among the classes of `tops`, -1 for none.
    """

    def __init__(
        self,
        p: float,
        slices: PoolSlices,
        recordings: np.ndarray,
        label_R: np.ndarray,
        tops: TopTargets,
    ) -> None:
        rows, owner, chance = slices.chances(slices.by_row(recordings))
        top_class = tops.classes_of(rows)
        held = np.flatnonzero((top_class >= 0) & (chance > 0))
        held = held[np.argsort(top_class[held], kind="stable")]
        self._p = p
        self._rows, self._owner = rows[held], owner[held]
        self._cumulative = np.concatenate(([0.0], np.cumsum(chance[held])))
        classes = np.arange(len(tops.names) + 1)
        self._begin = np.searchsorted(top_class[held], classes)  # the last is the end of all
        self._label = label_R.copy()
        self._label[recordings] = -1  # the source's own samples stay
        none = self._begin[self._label] == self._begin[self._label + 1]
        self._label[none] = -1

    def replace(
        self, planned_no: np.ndarray, rows: np.ndarray, bits: SampleBits
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Returns planned_no and rows with substitutes in their places, and their number."""
        planned_no, rows, replaced = planned_no.copy(), rows.copy(), 0
        for piece in pieces(len(rows), PIECE):
            wanted = self._label[planned_no[piece]] >= 0
            wanted &= random_unit(bits.of(piece, "substitute")) < self._p
            index = np.flatnonzero(wanted) + piece.start
            label = self._label[planned_no[index]]
            bounds = self._begin[label], self._begin[label + 1]
            chosen = _weighted(self._cumulative, bits.of(index, "substitute slice"), bounds)
            planned_no[index], rows[index] = self._owner[chosen], self._rows[chosen]
            replaced += len(index)
        return planned_no, rows, replaced


def _weighted(
    cumulative: np.ndarray,
    bits: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Draws entries in proportion to their weights, between bounds [begin, end) or among all."""
    begin, end = bounds or (np.int64(0), np.int64(len(cumulative) - 1))
    low, high = cumulative[begin], cumulative[end]
    point = low + random_unit(bits) * (high - low)
    chosen = np.searchsorted(cumulative, point, side="right") - 1
    return np.asarray(np.clip(chosen, begin, end - 1))
