"""Fills batches with windows of one recording after the other, and sorts the answers back.

A batch is always full, at the end of the run with zeros, so that the numbers of a window do not
depend on those with which it shares a batch. Shapes: N windows of a batch, B branches, C classes,
k slices of a model in a window, M mel bands, T frames.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from training.inference.frames import FrameMember, OverlapMean, stack_frames
from training.inference.members import Branch, Member
from training.inference.reading.messages import Chunk, Ended


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ensemble:
    """All models of a run. `inputs`: for each member of each branch, the input that it takes."""

    branches: Sequence[Branch]
    inputs: Sequence[Sequence[int]]
    labels: tuple[str, ...]
    frames: bool = False  # predict those instead, of members that have them

    def probabilities(self, cells: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities, float32 [B, N, C], of cells [N, k, M, T] for each input.

        Means over the members of a branch; NaN for classes that none of them has. With `frames`,
        those of F frames, [B, N, F, C].
        """
        found = []
        for branch, inputs in zip(self.branches, self.inputs, strict=True):
            pairs = zip(branch.members, inputs, strict=True)
            of_members = [self._of(one, cells[no]) for one, no in pairs]
            stacked = stack_frames(of_members) if self.frames else np.stack(of_members)
            found.append(mean_known(stacked))
        return stack_frames(found) if self.frames else np.stack(found)

    def _of(self, member: Member, cells: np.ndarray) -> np.ndarray:
        """Probabilities [N, C] of one member: the maximum over its slices in a window."""
        if self.frames:
            return self._spread(member, cast("FrameMember", member).frames(_only_slice(cells)))
        slices = range(cells.shape[1])
        best = member.probabilities(np.ascontiguousarray(cells[:, 0]))
        for place in slices[1:]:
            best = np.maximum(best, member.probabilities(np.ascontiguousarray(cells[:, place])))
        return self._spread(member, best)

    def _spread(self, member: Member, values: np.ndarray) -> np.ndarray:
        """Values [..., C] of a member's classes as those of all; NaN where it lacks a class."""
        if member.labels == self.labels:
            return values
        column = {label: place for place, label in enumerate(self.labels)}
        spread = np.full((*values.shape[:-1], len(self.labels)), np.nan, np.float32)
        spread[..., [column[label] for label in member.labels]] = values
        return spread


def _only_slice(cells: np.ndarray) -> np.ndarray:
    """Cells [N, M, T] of windows with one slice each; `check_frames` has seen to it."""
    if cells.shape[1] != 1:
        raise ValueError(f"a window has {cells.shape[1]} slices, and frames need a single one")
    return np.ascontiguousarray(cells[:, 0])


@dataclass(slots=True, kw_only=True, eq=False)
class PredictedWindows:
    """Windows of a recording under way; complete when there are as many as `ended` says."""

    start_s: list[np.ndarray] = field(default_factory=list)
    silent: list[np.ndarray] = field(default_factory=list)
    probabilities: list[np.ndarray] = field(default_factory=list)  # [B, n, C]
    num_predicted: int = 0
    ended: Ended | None = None
    overlap: OverlapMean | None = None  # of frames

    def add(self, found: np.ndarray) -> None:
        """Takes the predictions of the next windows, [B, n, C], or [B, n, F, C] of frames."""
        begin, self.num_predicted = self.num_predicted, self.num_predicted + found.shape[1]
        if self.overlap is not None:
            starts_s = np.concatenate(self.start_s)[begin : self.num_predicted]
            found = self.overlap.add(starts_s, found)
        self.probabilities.append(found)

    def close(self) -> None:
        """Takes note that all windows are predicted."""
        if self.overlap is not None and self.num_predicted:
            self.probabilities.append(self.overlap.finish())

    @property
    def is_complete(self) -> bool:
        """True once all windows are predicted, and there are no more."""
        return self.ended is not None and self.num_predicted == self.ended.num_windows


class Batches:
    """Collects windows until a batch is full and predicts it.

    With `window_s`, the length of a window, `predict` gives frames, which are averaged over the
    windows of a recording that overlap.
    """

    def __init__(
        self,
        predict: Callable[[Sequence[np.ndarray]], np.ndarray],
        batch_size: int,
        *,
        window_s: float | None = None,
    ) -> None:
        self._predict = predict
        self._window_s = window_s
        self._size = batch_size
        self._cells: tuple[np.ndarray, ...] = ()  # [N, k, M, T] for each input, used again
        self._filled = 0
        self._parts: list[tuple[int, int]] = []  # recording, number of its windows in the batch
        self._under_way: dict[int, PredictedWindows] = {}

    def add(self, chunk: Chunk) -> None:
        """Adds windows; predicts as often as a batch becomes full."""
        windows = self._under_way.setdefault(chunk.recording_no, self._new())
        windows.start_s.append(chunk.start_s)
        windows.silent.append(chunk.silent)
        if not self._cells:
            self._cells = tuple(
                np.zeros((self._size, *cells.shape[1:]), cells.dtype) for cells in chunk.cells
            )
        done, count = 0, len(chunk.silent)
        while done < count:
            taken = min(count - done, self._size - self._filled)
            for batch, cells in zip(self._cells, chunk.cells, strict=True):
                batch[self._filled : self._filled + taken] = cells[done : done + taken]
            self._filled += taken
            self._parts.append((chunk.recording_no, taken))
            done += taken
            if self._filled == self._size:
                self.flush()

    def end(self, ended: Ended) -> None:
        """Takes note that a recording has no more windows."""
        self._under_way.setdefault(ended.recording_no, self._new()).ended = ended

    def _new(self) -> PredictedWindows:
        return PredictedWindows(overlap=OverlapMean(self._window_s) if self._window_s else None)

    def drop(self, recording_no: int) -> None:
        """Forgets a recording that could not be read to its end."""
        self._under_way.pop(recording_no, None)

    def flush(self) -> None:
        """Predicts what there is, with zeros up to a full batch."""
        if not self._filled:
            return
        for batch in self._cells:
            batch[self._filled :] = 0
        found_BNC, first = self._predict(self._cells), 0
        for recording_no, count in self._parts:
            if windows := self._under_way.get(recording_no):
                windows.add(found_BNC[:, first : first + count])
            first += count
        self._parts.clear()
        self._filled = 0

    def complete(self) -> Iterator[PredictedWindows]:
        """Yields the recordings that have become complete, each once."""
        for number in [one for one, windows in self._under_way.items() if windows.is_complete]:
            windows = self._under_way.pop(number)
            windows.close()
            yield windows


def mean_known(values_BWC: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is no NaN, float32 [W, C]; NaN where all are.

    Sums in 64 bits, in the order given.
    """
    if len(values_BWC) == 1:
        return np.asarray(values_BWC[0], np.float32)
    known_BWC = ~np.isnan(values_BWC)
    total_WC = np.where(known_BWC, values_BWC, 0).sum(0, dtype=np.float64)
    count_WC = known_BWC.sum(0)
    with np.errstate(invalid="ignore"):
        return np.asarray(total_WC / count_WC, np.float32)
