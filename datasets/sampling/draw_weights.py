"""Weights of recordings and slices in draws: by site, by targets, by human voice.

They hold for samples and for partners. A recording of a site with k recordings in its source weighs
1 / sqrt(k), so that a site with a hundred of them counts ten times as much as one with one. By
targets, a recording weighs the sum over classes of its largest target (`draw: max_sum`), or the sum
of the largest target of each slice (`slice_max`), in proportion to which its slices are drawn, too.
Slices with more voice than the threshold weigh `sampling.voice_weight`.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from datasets.sampling.candidates import Candidates
from datasets.sampling.config import DOWN_WEIGHT, SamplingConfig
from datasets.sampling.facts import SliceFacts
from datasets.sampling.slice_choice import Activity
from datasets.sampling.top_targets import MAX_SUM, SLICE_MAX
from datasets.slice_source import SOURCE
from storage.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DrawWeights:
    """Weights of recordings, float64 [n], and of slices; None: all are equal.

    rows int64 [m], increasing: the slices that `slices` counts.
    """

    recordings: np.ndarray | None = None
    slices: Activity | None = None
    rows: np.ndarray | None = None

    def with_activity(self, activity: Activity | None, index_rows: np.ndarray) -> Activity | None:
        """Multiplies the weights of slices by their activity, given by rows of the index [m]."""
        if activity is None or self.slices is None or self.rows is None:
            return activity or self.slices
        place = np.searchsorted(index_rows, self.rows)
        return self.slices.times(np.diff(activity.cumulative)[place])


def find_weights(config: SamplingConfig, facts: SliceFacts, candidates: Candidates) -> DrawWeights:
    """Finds the weights that a config asks for; raises ConfigError where they cannot be had."""
    by_targets = facts.tops is not None and bool(facts.draws)
    by_voice = facts.voice is not None and config.voice == DOWN_WEIGHT
    if not (config.site_column or by_targets or by_voice):
        return DrawWeights()
    recordings = candidates.recordings
    found = [site_weights(recordings, config.site_column)] if config.site_column else []
    rows, start = candidates.sorted_rows()
    by_slice: list[np.ndarray] = []
    if by_targets:
        largest = _largest_targets(facts, recordings, rows)
        sums = Activity.from_weights(largest, start).sums(candidates.count)
        found.append(_target_weights(facts, recordings, sums))
        if SLICE_MAX in facts.draws.values():
            config.check_weighable("sources.NAME.draw=slice_max")
            by_slice.append(largest)
    if facts.voice is not None and by_voice:
        heard = np.isin(rows, facts.voice.louder_than(config.voice_threshold), assume_unique=True)
        by_slice.append(np.where(heard, config.voice_weight, 1.0))
    return DrawWeights(
        recordings=np.prod(found, axis=0) if found else None,
        slices=Activity.from_weights(np.prod(by_slice, axis=0), start) if by_slice else None,
        rows=rows if by_slice else None,
    )


def site_weights(recordings: pl.DataFrame, column: str) -> np.ndarray:
    """Returns 1 / sqrt(recordings of the site in its source), float64 [n]; 1 without a site."""
    if column not in recordings.columns:
        raise ConfigError(
            f"sampling.site_column={column} is no column of the csv; recordings have "
            f"{', '.join(recordings.columns)}"
        )
    keys = [name for name in (SOURCE, column) if name in recordings.columns]
    count = pl.when(pl.col(column).is_null()).then(1).otherwise(pl.len().over(keys))
    counts = recordings.select(count.alias("count"))["count"].to_numpy()
    weights: np.ndarray = 1 / np.sqrt(counts)
    return weights


def keep_shares(recordings: pl.DataFrame, weights: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Multiplies mass [n] by weights [n] and scales each source's so that its sum stays."""
    weighted: np.ndarray = mass * weights
    if SOURCE not in recordings.columns:
        return weighted
    for name in recordings[SOURCE].unique():
        inside = (recordings[SOURCE] == name).to_numpy()
        total = weighted[inside].sum()
        if total > 0:
            weighted[inside] *= mass[inside].sum() / total
    return weighted


def _largest_targets(facts: SliceFacts, recordings: pl.DataFrame, rows: np.ndarray) -> np.ndarray:
    """Returns the largest target of slices of sources with `slice_max`, 1 of others, float64."""
    weights = np.ones(len(rows))
    for name, rule in facts.draws.items():
        if rule == SLICE_MAX and facts.tops is not None:
            inside = Candidates.all_of(recordings.filter(pl.col(SOURCE) == name)).sorted_rows()[0]
            place = np.flatnonzero(np.isin(rows, inside, assume_unique=True))
            weights[place] = facts.tops.values_of(rows[place])
    return weights


def _target_weights(
    facts: SliceFacts, recordings: pl.DataFrame, slice_sums: np.ndarray
) -> np.ndarray:
    """Returns the weights of recordings by targets, float64 [n]; 1 where all draw equally."""
    weights = np.ones(len(recordings))
    if facts.tops is None:
        return weights
    sums = facts.tops.sums_of(recordings["first_row"].to_numpy())
    for name, rule in facts.draws.items():
        inside = (recordings[SOURCE] == name).to_numpy()
        weights[inside] = (sums if rule == MAX_SUM else slice_sums)[inside]
        if inside.any() and not weights[inside].sum() > 0:
            raise ConfigError(
                f"sources.{name}.draw={rule} draws by targets, but all targets of its "
                f"{inside.sum()} recordings are 0: set it to equal"
            )
    return weights
