"""Steps from predictions of a pool to its soft targets, in the order of the config.

    steps = parse_transform([{"threshold_max": 0.1}, {"power": 1.54}, {"cap_sum": 0.75}])
    targets = apply_steps(steps, pool, opener)

Each step is a pure function of the targets of all slices. Sources: the write-ups of BirdCLEF (year
and place) named next to the steps. Shapes: N slices, C classes.
"""

import math
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from storage.errors import ConfigError
from training.inference.post.ranks import rank_in
from training.inference.post.step import hint
from training.inference.pseudo.given import GivenTargets
from training.inference.pseudo.pool import PoolTargets

Opener = Callable[[str, str], GivenTargets]  # (path, config key)
KEY = "pseudo.transform"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformStep(ABC):
    """Options of a step and its rule; `value` is the option of a step given as one number."""

    @abstractmethod
    def apply(self, pool: PoolTargets, opener: Opener) -> PoolTargets:
        """Returns other targets, maybe of fewer slices; `opener` reads tables of the pool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unit(TransformStep):
    """A step with one number from 0 to 1."""

    value: float = math.nan

    def __post_init__(self) -> None:
        if not 0 <= self.value <= 1:
            raise ConfigError(f"{KEY}: {_name(self)}={self.value:g} must lie between 0 and 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdMax(_Unit):
    """Leaves out slices whose largest p is below t (2025-2: 0.5; 2026-1: 0.1)."""

    def apply(self, pool: PoolTargets, opener: Opener) -> PoolTargets:
        return pool.keep(pool.values_NC.max(axis=1, initial=0) >= np.float32(self.value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor(_Unit):
    """p = 0 where p < t (2025-2: 0.1)."""

    def apply(self, pool: PoolTargets, opener: Opener) -> PoolTargets:
        p = pool.values_NC
        return pool.with_values(np.where(p < np.float32(self.value), 0, p))


@dataclass(frozen=True, slots=True, kw_only=True)
class Power(TransformStep):
    """p = p^g (2025-1: 1.54, 1.82, 1.67 in rounds 2 to 4; rounds from 3 on need it)."""

    value: float = math.nan

    def __post_init__(self) -> None:
        if not 0 < self.value < math.inf:
            raise ConfigError(f"{KEY}: power={self.value:g} must be positive")

    def apply(self, pool: PoolTargets, opener: Opener) -> PoolTargets:
        return pool.with_values(pool.values_NC.astype(np.float64) ** self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip(_Unit):
    """p = 1 where p >= t (0.7)."""

    def apply(self, pool: PoolTargets, opener: Opener) -> PoolTargets:
        p = pool.values_NC
        return pool.with_values(np.where(p >= np.float32(self.value), 1, p))


@dataclass(frozen=True, slots=True, kw_only=True)
class CapSum(TransformStep):
    """p = p * min(1, s / sum of p over the classes of the slice) (2026-1: 0.5 and 0.75)."""

    value: float = math.nan

    def __post_init__(self) -> None:
        if not 0 < self.value < math.inf:
            raise ConfigError(f"{KEY}: cap_sum={self.value:g} must be positive")

    def apply(self, pool: PoolTargets, opener: Opener) -> PoolTargets:
        sums = pool.values_NC.sum(axis=1, keepdims=True, dtype=np.float64)
        factors = np.divide(self.value, sums, out=np.ones_like(sums), where=sums > self.value)
        return pool.with_values(pool.values_NC * factors)


@dataclass(frozen=True, slots=True, kw_only=True)
class _File(TransformStep):
    """A step that takes a table: Parquet of targets, or labels of segments."""

    file: str = ""

    def __post_init__(self) -> None:
        if not self.file:
            raise ConfigError(f"{KEY}: {_name(self)} needs a file, as in {{file: FILE}}")

    def open(self, opener: Opener) -> GivenTargets:
        """Reads the table."""
        return opener(self.file, f"{KEY}: {_name(self)}: file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix(_File):
    """p = alpha * p + (1 - alpha) * given, for slices in the file (2025-5: 0.7)."""

    alpha: float = 0.7

    def __post_init__(self) -> None:
        _File.__post_init__(self)
        if not 0 <= self.alpha <= 1:
            raise ConfigError(f"{KEY}: mix: alpha={self.alpha:g} must lie between 0 and 1")

    def apply(self, pool: PoolTargets, opener: Opener) -> PoolTargets:
        given_NC, known_N = self.open(opener).of(pool.row_N, pool.labels)
        mixed_NC = self.alpha * pool.values_NC + (1 - self.alpha) * given_NC
        return pool.with_values(np.where(known_N[:, None], mixed_NC, pool.values_NC))


@dataclass(frozen=True, slots=True, kw_only=True)
class Hard(_File):
    """p = given, for slices in the file: labels of people win."""

    def apply(self, pool: PoolTargets, opener: Opener) -> PoolTargets:
        given_NC, known_N = self.open(opener).of(pool.row_N, pool.labels)
        return pool.with_values(np.where(known_N[:, None], given_NC, pool.values_NC))


@dataclass(frozen=True, slots=True, kw_only=True)
class RankGate(_File):
    """p = p * (least + (1 - least) * r), for slices and classes in the file (2026-2, by Perch).

    r is the rank of the file's value within its class over the slices here: those below, and half
    of those equal, over their number.
    """

    least: float = 0.5

    def __post_init__(self) -> None:
        _File.__post_init__(self)
        if not 0 <= self.least <= 1:
            raise ConfigError(f"{KEY}: rank_gate: least={self.least:g} must lie between 0 and 1")

    def apply(self, pool: PoolTargets, opener: Opener) -> PoolTargets:
        gate = self.open(opener)
        given_NC, known_N = gate.of(pool.row_N, pool.labels)
        if not known_N.any():
            return pool
        gated_C = np.isin(pool.labels, gate.names)
        ranks = rank_in(given_NC[known_N], np.sort(given_NC[known_N], axis=0))
        factors_NC = np.ones(pool.values_NC.shape)
        factors_NC[known_N] = np.where(gated_C, self.least + (1 - self.least) * ranks, 1.0)
        return pool.with_values(pool.values_NC * factors_NC)


STEPS: dict[str, type[TransformStep]] = {
    "threshold_max": ThresholdMax,
    "floor": Floor,
    "power": Power,
    "clip": Clip,
    "cap_sum": CapSum,
    "mix": Mix,
    "hard": Hard,
    "rank_gate": RankGate,
}


def parse_transform(entries: Sequence[Any]) -> tuple[TransformStep, ...]:
    """Reads the list of a config; raises ConfigError on unknown steps, options and values."""
    return tuple(_parse(entry) for entry in entries)


def apply_steps(steps: Sequence[TransformStep], pool: PoolTargets, opener: Opener) -> PoolTargets:
    """Applies steps in order."""
    for step in steps:
        pool = step.apply(pool, opener)
    return pool


def _name(step: TransformStep) -> str:
    return next(name for name, kind in STEPS.items() if type(step) is kind)


def _parse(entry: Any) -> TransformStep:
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise ConfigError(
            f"{KEY}: {str(entry)[:80]} is no step: give a list such as [{{threshold_max: 0.1}}, "
            "{power: 1.5}, {hard: {file: labels.csv}}]"
        )
    [(name, given)] = entry.items()
    if name not in STEPS:
        raise ConfigError(f"{KEY}: there is no step {name}{hint(str(name), STEPS)}")
    kinds = typing.get_type_hints(STEPS[name])
    options = {one.name: kinds[one.name] for one in fields(STEPS[name])}
    if "value" in options:
        given = {"value": given}
    if not isinstance(given, Mapping):
        raise ConfigError(f"{KEY}: {name} takes options by name, as in {{{name}: {{file: FILE}}}}")
    for key, value in given.items():
        if key not in options:
            raise ConfigError(f"{KEY}: {name} has no option {key}{hint(str(key), options)}")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number if options[key] is float else isinstance(value, str)):
            wanted = "a number" if options[key] is float else "the path of a file"
            raise ConfigError(f"{KEY}: {name}: {str(value)[:80]} must be {wanted}")
    return STEPS[name](**{str(key): value for key, value in given.items()})
