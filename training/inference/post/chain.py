"""The steps of a config, in order, on the recordings of a run.

    chain = prepare_chain(parse_steps([{"smooth": {}}, {"rank": {}}]), run, classes)
    for windows in run:
        better = chain(windows)

A step is one entry in STEPS: a dataclass of its options with its rule. A step that needs the whole
run has a pass over it first, in which the steps before it are applied, so `run` must be iterable
several times. Values are clipped to [0, 1]; NaN, of a class that a model lacks, stay NaN.
"""

import math
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np

from storage.errors import ConfigError
from training.inference.post.calibrated import Calibrate
from training.inference.post.file_level import FilePower, FileTop
from training.inference.post.groups import Spread
from training.inference.post.neighbours import DeltaShift, LocalMax, LocalMean, Smooth
from training.inference.post.priors import HourPrior, SitePrior
from training.inference.post.ranks import Rank
from training.inference.post.scale import Power, Temperature
from training.inference.post.step import Step, hint, limited_places
from training.inference.predictions import ClassTable, WindowPredictions

STEPS: dict[str, type[Step]] = {
    "smooth": Smooth,
    "local_max": LocalMax,
    "local_mean": LocalMean,
    "delta_shift": DeltaShift,
    "file_top": FileTop,
    "file_power": FilePower,
    "power": Power,
    "temperature": Temperature,
    "spread": Spread,
    "site_prior": SitePrior,
    "hour_prior": HourPrior,
    "rank": Rank,
    "calibrate": Calibrate,
}


def parse_steps(entries: Sequence[Any]) -> tuple[Step, ...]:
    """Reads the list of a config: names, or mappings of one name to its options.

    Raises ConfigError on unknown steps and options, with near names, and on wrong values.
    """
    return tuple(_parse_step(entry) for entry in entries)


def _parse_step(entry: Any) -> Step:
    if isinstance(entry, str):
        entry = {entry: {}}
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise ConfigError(
            f"post: {str(entry)[:80]} is no step: give a list such as "
            "[{smooth: {kernel: [.2,.6,.2]}}, {file_top: {k: 2}}]"
        )
    [(name, options)] = entry.items()
    if name not in STEPS:
        raise ConfigError(f"post: there is no step {name}{hint(str(name), STEPS)}")
    if not isinstance(options or {}, Mapping):
        raise ConfigError(f"post: {name} takes options by name, as in {{{name}: {{OPTION: 1}}}}")
    kind = STEPS[name]
    kinds = typing.get_type_hints(kind)
    known = [option.name for option in fields(kind)]
    values = {}
    for key, value in (options or {}).items():
        if key not in known:
            raise ConfigError(f"post: {name} has no option {key}{hint(str(key), known)}")
        values[str(key)] = _read_value(f"post: {name}: {key}", value, kinds[key])
    return kind(**values)


def _read_value(where: str, value: Any, kind: Any) -> Any:
    """A value of an option's type; ConfigError where it is of another."""
    if kind is float and _is_number(value):
        return float(value)
    if kind is int and _is_number(value) and value == int(value):
        return int(value)
    if kind is str and isinstance(value, str):
        return value
    if kind == list[float] and isinstance(value, Sequence) and not isinstance(value, str):
        if value and all(map(_is_number, value)):
            return [float(entry) for entry in value]
    elif kind == dict[str, Any] and isinstance(value, Mapping):
        return {str(key): entry for key, entry in value.items()}
    wanted = {float: "a number", int: "a whole number", str: "text", list[float]: "numbers"}
    raise ConfigError(f"{where}={str(value)[:80]} must be {wanted.get(kind, 'a mapping')}")


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


class PreparedStep(NamedTuple):
    """A step with the classes that it is for, and what its first pass has found."""

    step: Step
    places: np.ndarray | None  # int64; None: all classes
    state: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class PostChain:
    """Steps that are ready for the recordings of their run; pure, in any order of recordings."""

    steps: tuple[PreparedStep, ...] = ()

    def __call__(self, windows: WindowPredictions) -> WindowPredictions:
        """Returns the windows of a recording with other probabilities, float32 [W, C]."""
        for prepared in self.steps:
            windows = _apply(prepared, windows)
        return windows


def prepare_chain(
    steps: Sequence[Step], run: Iterable[WindowPredictions], classes: ClassTable
) -> PostChain:
    """Prepares steps; iterates over `run` once for each step with `needs_run` that has no csv."""
    chain = PostChain()
    for step in steps:
        places = limited_places(step.only, classes) if step.only else None
        labels = classes.labels if places is None else [classes.labels[place] for place in places]
        limited = ClassTable(labels=tuple(labels), names=classes.names)
        before = _Mapped(run, _limiter(chain, places))
        prepared = PreparedStep(step, places, step.prepare(before, limited))
        chain = PostChain(steps=(*chain.steps, prepared))
    return chain


def _limiter(
    chain: PostChain, places: np.ndarray | None
) -> Callable[[WindowPredictions], WindowPredictions]:
    return lambda windows: _limit(chain(windows), places)


@dataclass(frozen=True, slots=True)
class _Mapped(Iterable[WindowPredictions]):
    """A run after a function; computed when it is iterated over, each time again."""

    run: Iterable[WindowPredictions]
    function: Callable[[WindowPredictions], WindowPredictions]

    def __iter__(self) -> Iterator[WindowPredictions]:
        return map(self.function, self.run)


def _limit(windows: WindowPredictions, places: np.ndarray | None) -> WindowPredictions:
    if places is None:
        return windows
    return replace(windows, probabilities=windows.probabilities[:, places])


def _apply(prepared: PreparedStep, windows: WindowPredictions) -> WindowPredictions:
    step, places, state = prepared
    changed = step.apply(_limit(windows, places), state).clip(0, 1).astype(np.float32)
    if places is None:
        return replace(windows, probabilities=changed)
    probabilities = windows.probabilities.copy()
    probabilities[:, places] = changed
    return replace(windows, probabilities=probabilities)
