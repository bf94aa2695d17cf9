"""Median and spread of scores over experiments that differ by their seed alone.

    spread = spread_over_seeds(".", ["exp_001", "exp_002", "exp_003"])
    print(spread.table())

Seeds move scores by more than most changes of a recipe do, so a change is judged by the median over
some of them, and by their range.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors import ConfigError
from training.experiments.listing import (
    FINISHED,
    ExperimentRecord,
    find_records,
    list_experiments,
)
from training.experiments.report import format_table
from training.model.metrics import METRICS

SEED = "seed"
FREE = (  # what decides no score: places, and the way in which a machine works
    "experiment.cache",
    "experiment.root",
    "store",
    "trainer.checkpoint_steps",
    "trainer.logger",
    "trainer.num_nodes",
    "trainer.progress",
    "trainer.threads",
    "trainer.timeout_s",
    "train_loader.prefetch_batches",
    "val_loader.prefetch_batches",
)
LEVELS = {"recordings": "pooled", "slices": "scores"}  # fields of a record
HEADER = ("", "median", "lowest", "highest", "spread")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedSpread:
    """Scores of the same config by seed: {level: {metric: [a value per seed]}}."""

    names: tuple[str, ...]
    seeds: tuple[int, ...]
    values: Mapping[str, Mapping[str, Sequence[float]]]

    def table(self) -> str:
        """Formats a line per level and metric; `spread` is the highest less the lowest."""
        lines = []
        for level, scores in self.values.items():
            for key, values in scores.items():
                low, high = min(values), max(values)
                numbers = (statistics.median(values), low, high, high - low)
                cells = map(METRICS[key].text, numbers)
                lines.append((f"{level} {METRICS[key].title}", *cells))
        seeds = ", ".join(map(str, self.seeds))
        title = f"{len(self.names)} experiments, seeds {seeds}"
        return f"{title}\n{format_table(HEADER, lines, num_totals=0)}"


def spread_over_seeds(root: str | Path, names: Sequence[str]) -> SeedSpread:
    """Gathers the scores of finished experiments under `root`.

    Raises ConfigError where there are fewer than two, or they differ in anything but the seed.
    """
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise ConfigError("--seeds takes two experiments or more, each named once")
    records = find_records(list_experiments(root), names)
    for record in records:
        if record.status != FINISHED:
            raise ConfigError(f"{record.name} is {record.status}: it has no scores of all folds")
    _check_same(records)
    seeds = tuple(int(record.config.get(SEED, 0)) for record in records)
    values = {
        level: _known({key: [getattr(one, field).get(key) for one in records] for key in METRICS})
        for level, field in LEVELS.items()
    }
    return SeedSpread(names=tuple(names), seeds=seeds, values=values)


def _check_same(records: Sequence[ExperimentRecord]) -> None:
    """Raises ConfigError on keys that differ, and on a seed that is there twice."""
    first = records[0]
    for other in records[1:]:
        keys = {*first.config, *other.config} - {SEED, *FREE}
        different = sorted(key for key in keys if _value(first, key) != _value(other, key))
        if different:
            more = f" and {len(different) - 3} more" if len(different) > 3 else ""
            raise ConfigError(
                f"{first.name} and {other.name} differ in more than the seed: "
                f"{', '.join(different[:3])}{more}; --compare shows the values"
            )
    seeds = [_value(record, SEED) for record in records]
    if len(set(seeds)) < len(seeds):
        raise ConfigError(
            f"seed={next(one for one in seeds if seeds.count(one) > 1)} is there twice: the same "
            "seed gives the same scores, so name one of them"
        )


def _value(record: ExperimentRecord, key: str) -> str:
    return repr(record.config.get(key))


def _known(scores: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[float]]:
    """The scores that all of them have."""
    return {key: values for key, values in scores.items() if None not in values}
