"""Recording -> cells of its windows, for models of one or several recipes; done by the workers.

The positions are those of the first model: its slice length, at its sample rate, every
`predict.step_s`, the last one padded by the store's rule. So with the step of a store the cells are
those of the store. A model with longer slices sees one that is centred on the window; one with
shorter slices sees as many as cover it, evenly spaced. All positions are whole samples.

Each sample rate is decoded once, as a stream: memory does not depend on the length of a recording.
Shapes: k slices of a model in a window, M mel bands, T frames.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np

from storage.audio.channels import MEAN
from storage.audio.decode import Decoder
from storage.audio.mel import MelTransform
from storage.audio.slicing import SampleStream, fill_up, slice_starts
from storage.encoding import encode
from storage.recipe import Recipe

MARGIN = 16  # samples by which a recording may be shorter at another rate


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelInput:
    """Recipe of the slices of a model; `filterbank_MF` is `mel_filterbank(recipe)`."""

    recipe: Recipe
    filterbank_MF: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowPlan:
    """Windows of a run: `recipe` is the first model's, with the step between windows."""

    recipe: Recipe
    inputs: tuple[ModelInput, ...]
    channel: str = MEAN


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Window:
    """The cells of a window, [k, M, T] for each of the inputs; `silent`: nothing above `amin`."""

    cells: tuple[np.ndarray, ...]
    silent: bool


class WindowCutter:
    """Cuts recordings into windows. Holds buffers: for one thread at a time."""

    def __init__(self, plan: WindowPlan) -> None:
        self._plan = plan
        self._makers = [_CellMaker(one, plan.recipe) for one in plan.inputs]

    def open(self, path: Path) -> "RecordingWindows":
        """The windows of a recording, to be iterated over once."""
        return RecordingWindows(path, self._plan, self._makers)


class RecordingWindows:
    """Iterates once over the windows of a recording; then `decoder` knows what it met.

    Raises AudioError where there is no sound at all.
    """

    def __init__(self, path: Path, plan: WindowPlan, makers: "list[_CellMaker]") -> None:
        self._path = path
        self._channel = plan.channel
        self._recipe = plan.recipe
        self._makers = makers
        self.decoder = Decoder(path, plan.recipe.sample_rate_hz, plan.channel)

    def __iter__(self) -> Iterator[Window]:
        rate_hz = self._recipe.sample_rate_hz
        with ExitStack() as stack:
            streams = {rate_hz: _stream(self.decoder, stack)}
            for maker in self._makers:
                if maker.rate_hz not in streams:
                    decoder = Decoder(self._path, maker.rate_hz, self._channel)
                    streams[maker.rate_hz] = _stream(decoder, stack)
            for start in slice_starts(streams[rate_hz], self._recipe):
                made = [maker.cells(streams[maker.rate_hz], start) for maker in self._makers]
                yield Window(cells=tuple(cells for cells, _ in made), silent=made[0][1])
                self._drop(streams, start + self._recipe.step_samples)

    def _drop(self, streams: dict[int, SampleStream], next_start: int) -> None:
        """Lets go of what no model needs for the next window."""
        for rate_hz, stream in streams.items():
            makers = (maker for maker in self._makers if maker.rate_hz == rate_hz)
            first = min(maker.starts(next_start)[0] for maker in makers)
            stream.drop(max(0, first - MARGIN))


def _stream(decoder: Decoder, stack: ExitStack) -> SampleStream:
    blocks = stack.enter_context(closing(iter(decoder)))  # type: ignore[type-var]  # a generator
    return SampleStream(blocks)


class _CellMaker:
    """Makes the slices that one model sees of a window."""

    def __init__(self, given: ModelInput, windows: Recipe) -> None:
        self._recipe = given.recipe
        self._windows = windows
        self._transform = MelTransform(given.recipe, given.filterbank_MF)
        self.rate_hz = given.recipe.sample_rate_hz

    def starts(self, window_start: int) -> list[int]:
        """Start positions, at this model's rate, of its slices in a window."""
        rate, own_rate = self._windows.sample_rate_hz, self.rate_hz
        size, own_size = self._windows.slice_samples, self._recipe.slice_samples
        covered = _rounded(size * own_rate, rate)  # samples of the window at the own rate
        count = ceil(covered / own_size)
        if count == 1:
            twice_centre = (2 * window_start + size) * own_rate
            return [max(0, _rounded(twice_centre - own_size * rate, 2 * rate))]
        begin = _rounded(window_start * own_rate, rate)
        return [
            begin + _rounded((covered - own_size) * number, count - 1) for number in range(count)
        ]

    def cells(self, stream: SampleStream, window_start: int) -> tuple[np.ndarray, bool]:
        """The cells [k, M, T] of a window, and True where it is silence."""
        recipe, starts = self._recipe, self.starts(window_start)
        out = np.empty((len(starts), *recipe.slice_shape), recipe.dtype)
        silent = True
        for place, start in enumerate(starts):
            stream.has(start + recipe.slice_samples)
            if start >= stream.total:  # nothing there: the first one again, which has sound
                start = min(starts[0], stream.total - 1)
            samples = stream.read(start, recipe.slice_samples)
            samples = fill_up(samples, recipe.slice_samples, recipe.padding)
            db_MT, max_db = self._transform.decibels(self._transform.power(samples))
            out[place] = encode(db_MT, top_db=recipe.top_db, dtype=recipe.dtype)
            silent = silent and max_db <= 10 * np.log10(recipe.amin)
        return out, bool(silent)


def _rounded(numerator: int, denominator: int) -> int:
    """The quotient as the nearest whole number, halves upwards."""
    return (2 * numerator + denominator) // (2 * denominator)
