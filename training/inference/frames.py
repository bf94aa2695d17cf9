"""Predictions of frames, averaged over all windows that cover them: `predict.frames=overlap_mean`.

    overlap = OverlapMean(window_s=5.0)
    done = overlap.add(start_s, frames)  # windows that no later one can change
    rest = overlap.finish()

A model with a SED head gives probabilities for F frames of a window, each an equal share of it in
time. A frame's value is the mean over all windows of the recording that cover its centre, each by
its own frame there; the probability of a window is the largest of its frames' values. Where windows
do not overlap, that is the maximum over a window's own frames; the logits of whole windows are not
used. Frames are thus seen with context on both sides (BirdCLEF 2025, 1st place).

Shapes: B branches, n windows, F frames, C classes.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from storage.errors import ConfigError
from training.inference.members import Member

TOLERANCE = 1e-6  # of a frame: starts are whole samples, but written in seconds


class FrameMember(Member, Protocol):
    """A model with frames."""

    def frames(self, cells: np.ndarray) -> np.ndarray:
        """Probabilities, float32 [n, F, C], of cells [n, M, T]."""


def check_frames(members: Sequence[Member], *, of_store: bool = False) -> None:
    """Raises ConfigError where frames cannot be averaged: without any, or of other lengths."""
    first = members[0]
    for one in members:
        if not getattr(one, "has_frames", False):
            raise ConfigError(
                f"predict.frames=overlap_mean needs frames, which {one.path} has not: train with "
                "model.head=sed, or predict with predict.frames=none"
            )
        lengths_s = [given.recipe.slice_s * given.chunks.count for given in (first, one)]
        if lengths_s[0] != lengths_s[1]:
            raise ConfigError(
                f"predict.frames=overlap_mean needs slices of one length: {first.path} has "
                f"{lengths_s[0]:g} s, {one.path} {lengths_s[1]:g} s: predict with each by itself, "
                "or with predict.frames=none"
            )
        if of_store and one.chunks.count > 1:
            raise ConfigError(
                f"predict.frames=overlap_mean needs recordings: the chunks of {one.path} at the "
                "ends of a store's recordings begin at other times than their rows; give the files"
            )


def stack_frames(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Stacks frames [n, F, C] of several models; those with fewer repeat theirs in time."""
    most = max(one.shape[1] for one in frames)
    centres = 2 * np.arange(most) + 1
    return np.stack([one[:, centres * one.shape[1] // (2 * most)] for one in frames])


class OverlapMean:
    """Means over the overlapping windows of one recording, given in order of time.

    Holds only the windows that overlap with one that is not done: memory does not depend on the
    length of the recording.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._starts: list[float] = []  # of the windows that are held
        self._frames: list[np.ndarray] = []  # [B, F, C]
        self._next = 0  # the first of them that is not done

    def add(self, start_s: np.ndarray, frames_BnFC: np.ndarray) -> np.ndarray:
        """Takes windows; returns the probabilities [B, m, C] of those that are now done."""
        for place, start in enumerate(start_s.tolist()):
            self._starts.append(start)
            self._frames.append(frames_BnFC[:, place].copy())
        shape = (len(frames_BnFC), 0, frames_BnFC.shape[-1])
        return self._take(self._starts[-1] if self._starts else 0.0, shape)

    def finish(self) -> np.ndarray:
        """The probabilities [B, m, C] of the windows that are left."""
        shape = (*self._frames[0].shape[:1], 0, self._frames[0].shape[-1])
        return self._take(np.inf, shape)

    def _take(self, newest_s: float, empty: tuple[int, ...]) -> np.ndarray:
        done = [np.empty(empty, np.float32)]
        tolerance_s = TOLERANCE * self._window_s
        while self._next < len(self._starts):
            start = self._starts[self._next]
            if start + self._window_s > newest_s + tolerance_s:
                break
            done.append(self._probabilities(start)[:, None])
            self._next += 1
        first = self._starts[self._next] if self._next < len(self._starts) else np.inf
        gone = sum(start + self._window_s <= first for start in self._starts[: self._next])
        del self._starts[:gone], self._frames[:gone]
        self._next -= gone
        return np.concatenate(done, axis=1)

    def _probabilities(self, start_s: float) -> np.ndarray:
        """Largest mean over the frames of the window that starts there, float32 [B, C]."""
        own = self._frames[self._next]
        count = own.shape[1]
        total_BFC, covered_F = np.zeros(own.shape), np.zeros(count, np.int64)
        for other_s, frames_BFC in zip(self._starts, self._frames, strict=True):
            later = (start_s - other_s) * count / self._window_s  # frames
            place_F = np.floor(np.arange(count) + 0.5 + later + TOLERANCE).astype(np.int64)
            there = np.flatnonzero((place_F >= 0) & (place_F < count))
            total_BFC[:, there] += frames_BFC[:, place_F[there]]
            covered_F[there] += 1
        mean_BFC = total_BFC / covered_F[:, None]
        return np.asarray(mean_BFC.max(axis=1), np.float32)
