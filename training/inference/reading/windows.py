"""Recording -> cells of its windows, for models of one or several recipes; done by the workers.

The positions are those of the first model: its slice length, at its sample rate, every
`predict.step_s`, the last one padded by the store's rule. So with the step of a store the cells are
those of the store. A model with longer slices sees one that is centred on the window; one with
shorter slices sees as many as cover it, evenly spaced. All positions are whole samples. For a model
of chunks (`chunk.length_s`) a chunk takes the place of a slice: as many slices, one after the
other, each made as a store makes them, and joined as in training.

Each sample rate is decoded once, as a stream: memory does not depend on the length of a recording.
Shapes: k slices of a model in a window, M mel bands, T frames.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from datasets.chunks import Chunks, join_levels
from storage.audio.channels import MEAN
from storage.audio.decode import Decoder
from storage.audio.mel import MelTransform
from storage.audio.slicing import SampleStream, fill_up, slice_starts
from storage.encoding import encode, to_unit
from storage.recipe import Recipe
from training.inference.embeddings.slice_audio import WaveformInput
from training.inference.reading.places import slice_places
from training.inference.reading.waveforms import WaveformMaker

MARGIN = 16  # samples by which a recording may be shorter at another rate


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelInput:
    """Recipe of the slices of a model; `filterbank_MF` is `mel_filterbank(recipe)`.

    `chunks`: the slices that it takes joined, as float32 in [0, 1]. `waveform`: what it takes of
    the recording at such slices instead of their cells.
    """

    recipe: Recipe
    filterbank_MF: np.ndarray
    chunks: Chunks = field(default_factory=Chunks)
    waveform: WaveformInput | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowPlan:
    """Windows of a run: `recipe` is the first model's, with the step between windows."""

    recipe: Recipe
    inputs: tuple[ModelInput, ...]
    channel: str = MEAN


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Window:
    """The cells of a window, [k, M, T] for each of the inputs; `silent`: nothing above `amin`.

    Of inputs that are waveforms, the windows of the slices, [k, windows, samples + 1].
    """

    cells: tuple[np.ndarray, ...]
    silent: bool


class WindowCutter:
    """Cuts recordings into windows. Holds buffers: for one thread at a time."""

    def __init__(self, plan: WindowPlan) -> None:
        self._plan = plan
        self._makers = [_maker_of(one, plan.recipe) for one in plan.inputs]

    def open(self, path: Path) -> "RecordingWindows":
        """The windows of a recording, to be iterated over once."""
        return RecordingWindows(path, self._plan, self._makers)


class RecordingWindows:
    """Iterates once over the windows of a recording; then `decoder` knows what it met.

    Raises AudioError where there is no sound at all.
    """

    def __init__(self, path: Path, plan: WindowPlan, makers: "list[_Maker]") -> None:
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


def _maker_of(given: ModelInput, windows: Recipe) -> "_Maker":
    if given.waveform is not None:
        return WaveformMaker(given.waveform, given.recipe, windows)
    return _CellMaker(given, windows)


def _stream(decoder: Decoder, stack: ExitStack) -> SampleStream:
    blocks = stack.enter_context(closing(iter(decoder)))  # type: ignore[type-var]  # a generator
    return SampleStream(blocks)


class _CellMaker:
    """Makes the slices that one model sees of a window."""

    def __init__(self, given: ModelInput, windows: Recipe) -> None:
        self._recipe = given.recipe
        self._chunks = given.chunks
        self._windows = windows
        self._transform = MelTransform(given.recipe, given.filterbank_MF)
        self.rate_hz = given.recipe.sample_rate_hz
        self._size = given.recipe.slice_samples * given.chunks.count

    def starts(self, window_start: int) -> list[int]:
        """Start positions, at this model's rate, of its slices in a window."""
        return slice_places(window_start, self._windows, self.rate_hz, self._size)

    def cells(self, stream: SampleStream, window_start: int) -> tuple[np.ndarray, bool]:
        """The cells [k, M, T] of a window, and True where it is silence."""
        recipe, starts = self._recipe, self.starts(window_start)
        is_slice = self._chunks.count == 1
        dtype = recipe.dtype if is_slice else np.dtype(np.float32)
        out = np.empty((len(starts), *self._chunks.shape(recipe)), dtype)
        loudest_db = -np.inf
        for place, start in enumerate(starts):
            stream.has(start + recipe.slice_samples)
            if start >= stream.total:  # nothing there: the first one again, which has sound
                start = min(starts[0], stream.total - 1)
            out[place], max_db = (self._slice if is_slice else self._chunk)(stream, start)
            loudest_db = max(loudest_db, max_db)
        return out, bool(loudest_db <= 10 * np.log10(recipe.amin))

    def _slice(self, stream: SampleStream, start: int) -> tuple[np.ndarray, float]:
        """The cells [M, T] of a slice as a store has them, and their level, dB."""
        recipe = self._recipe
        samples = stream.read(start, recipe.slice_samples)
        samples = fill_up(samples, recipe.slice_samples, recipe.padding)
        db_MT, max_db = self._transform.decibels(self._transform.power(samples))
        return encode(db_MT, top_db=recipe.top_db, dtype=recipe.dtype), max_db

    def _chunk(self, stream: SampleStream, start: int) -> tuple[np.ndarray, float]:
        """The joined slices [M, T] of a chunk, float32, and the level of the loudest, dB.

        Slices after the end of the recording are left out, as in recordings shorter than a chunk.
        """
        size = self._recipe.slice_samples
        least = max(1, round(self._windows.tail_min_s * self.rate_hz))
        cells, levels = [], []
        for number in range(self._chunks.count):
            place = start + number * size
            stream.has(place + size)
            if number and stream.total - place < least:
                break
            slice_MT, level = self._slice(stream, place)
            cells.append(slice_MT)
            levels.append(level)
        slots = self._chunks.slots(len(cells))
        return joined_slices(cells, levels, slots, self._recipe.top_db), max(levels)


_Maker = _CellMaker | WaveformMaker


def joined_slices(
    cells: Sequence[np.ndarray], levels: Sequence[float], slots: Sequence[int | None], top_db: float
) -> np.ndarray:
    """Joins cells [M, T] of slices by their levels, dB, as training does; float32 [M, K * T].

    `slots`: of each place which slice is there; None: silence.
    """
    import torch

    silence = np.zeros_like(cells[0])
    given = [silence if slot is None else cells[slot] for slot in slots]
    level_K = [-np.inf if slot is None else levels[slot] for slot in slots]
    unit_1MT = to_unit(torch.from_numpy(np.concatenate(given, axis=1)[None]))
    joined_1MT = join_levels(unit_1MT, torch.tensor([level_K], dtype=torch.float32), top_db)
    return np.asarray(joined_1MT[0].numpy())
