"""A run after blending, calibration and post-processing, recording by recording.

    run = process_run(results.iterate, results.branches(), classes, sections)
    for windows in run: ...

Raw results are iterated over again for each pass that a step or the blend needs, and each time that
the run is: nothing but the states of those passes is held.

Shapes: B branches, W windows, C classes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from training.inference.post.blend import Blender, prepare_blend
from training.inference.post.chain import PostChain, parse_steps, prepare_chain
from training.inference.post.config import PostSections
from training.inference.predictions import ClassTable, PredictedRecording, WindowPredictions


class RawWindows(Protocol):
    """The windows of one recording and their probabilities by each branch."""

    @property
    def recording(self) -> PredictedRecording: ...
    @property
    def start_s(self) -> np.ndarray: ...
    @property
    def end_s(self) -> np.ndarray: ...
    @property
    def silent(self) -> np.ndarray: ...
    @property
    def probabilities(self) -> np.ndarray: ...  # float32 [B, W, C]


RawRun = Callable[[], Iterable[RawWindows]]


@dataclass(frozen=True, slots=True)
class BlendedRun(Iterable[WindowPredictions]):
    """Recordings with one probability per window and class."""

    raw: RawRun
    blender: Blender

    def __iter__(self) -> Iterator[WindowPredictions]:
        for windows in self.raw():
            yield WindowPredictions(
                recording=windows.recording,
                start_s=windows.start_s,
                end_s=windows.end_s,
                silent=windows.silent,
                probabilities=self.blender(windows.probabilities),
            )


@dataclass(frozen=True, slots=True)
class ProcessedRun(Iterable[WindowPredictions]):
    """Recordings after all steps; may be iterated over any number of times."""

    blended: BlendedRun
    chain: PostChain

    def __iter__(self) -> Iterator[WindowPredictions]:
        return map(self.chain, self.blended)


def process_run(
    raw: RawRun, branches: Sequence[str], classes: ClassTable, config: PostSections
) -> ProcessedRun:
    """Prepares a run; `raw` gives the recordings in the order of the run, each time from the first.

    Raises ConfigError on weights, steps, classes or files that do not fit.
    """
    steps = parse_steps(config.steps())
    probabilities = (windows.probabilities for windows in raw())
    blended = BlendedRun(raw, prepare_blend(config.blend, branches, classes, probabilities))
    return ProcessedRun(blended, prepare_chain(steps, blended, classes))
