"""Pools of a plan: which sources give partners and substitutes, and what they give.

    pools = find_pools(config, candidates, weights, facts, source_weights)
    drawn = pools.fill(planned_no, rows, bits)

Shapes: n samples, R recordings of the plan.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from datasets.sampling.balance import rating_weights
from datasets.sampling.candidates import Candidates
from datasets.sampling.config import SamplingConfig
from datasets.sampling.draw_weights import DrawWeights
from datasets.sampling.facts import SliceFacts
from datasets.sampling.partners import Injection, PoolSlices, Substitution
from datasets.sampling.shuffle import SampleBits
from datasets.slice_source import SOURCE
from storage.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Filled:
    """Samples after substitution and injection: arrays [n] as in `EpochPlan`, not in order yet."""

    planned_no: np.ndarray
    rows: np.ndarray
    partner_rows: np.ndarray | None = None
    partner_pool: np.ndarray | None = None
    num_substituted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pools:
    """Pools of a plan. is_drawn_R bool: recordings that make an epoch longer, all but of pools of
    weight 0.
    """

    is_drawn_R: np.ndarray
    injection: Injection | None = None
    substitution: Substitution | None = None

    def fill(self, planned_no: np.ndarray, rows: np.ndarray, bits: SampleBits) -> Filled:
        """Replaces samples first, then gives partners to those that are of no pool."""
        replaced, partner_rows, partner_pool = 0, None, None
        if self.substitution is not None:
            planned_no, rows, replaced = self.substitution.replace(planned_no, rows, bits)
        if self.injection is not None:
            partner_rows, partner_pool = self.injection.partners(planned_no, rows, bits)
        return Filled(
            planned_no=planned_no,
            rows=rows,
            partner_rows=partner_rows,
            partner_pool=partner_pool,
            num_substituted=replaced,
        )


def find_pools(
    config: SamplingConfig,
    candidates: Candidates,
    weights: DrawWeights,
    facts: SliceFacts,
    source_weights: Mapping[str, float],
) -> Pools:
    """Finds the pools that a config names; raises ConfigError where one has nothing to draw."""
    recordings, names = candidates.recordings, config.pool_names
    if not names:
        return Pools(is_drawn_R=np.ones(len(recordings), bool))
    weight = rating_weights(recordings, config.rating_weights)
    if weights.recordings is not None:
        weight = weight * weights.recordings
    slices = PoolSlices(candidates=candidates, weight=weight, activity=weights.slices)
    pool_no_R = _pool_numbers(recordings, names)
    for number, name in enumerate(names):
        if not (weight[pool_no_R == number] > 0).any():
            raise ConfigError(
                f"the source {name}, which sampling.inject or substitute names, has no recording "
                "to draw from here: give another, or leave it out"
            )
    unused = [name for name, weight in source_weights.items() if weight == 0]
    has_weight_R = _pool_numbers(recordings, unused) < 0
    return Pools(
        is_drawn_R=has_weight_R | (pool_no_R < 0),
        injection=_injection(config, slices, has_weight_R) if config.inject else None,
        substitution=_substitution(config, slices, facts) if config.substitute.source else None,
    )


def _injection(config: SamplingConfig, slices: PoolSlices, has_weight_R: np.ndarray) -> Injection:
    names = list(dict.fromkeys(spec.source for spec in config.inject))
    pool_no_R = _pool_numbers(slices.candidates.recordings, names)
    if not (has_weight_R & (pool_no_R < 0)).any():
        raise ConfigError(
            f"sampling.inject names {', '.join(names)}, and no other source gives samples that "
            "could get partners: give one with recordings and a weight above 0"
        )
    return Injection(config.inject, slices, pool_no_R, names)


def _substitution(config: SamplingConfig, slices: PoolSlices, facts: SliceFacts) -> Substitution:
    name, tops, recordings = config.substitute.source, facts.tops, slices.candidates.recordings
    if tops is None:
        raise ConfigError("sampling.substitute needs the targets of its source: give facts")
    numbers = {label: number for number, label in enumerate(tops.names)}
    labels = recordings["primary_label"].fill_null("")
    label_R = labels.replace_strict(numbers, default=-1, return_dtype=pl.Int64).to_numpy()
    inside = np.flatnonzero((recordings[SOURCE] == name).to_numpy())
    return Substitution(config.substitute.p, slices, inside, label_R, tops)


def _pool_numbers(recordings: pl.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Returns each recording's source as a position in `names`, int64 [R]; -1 for others."""
    if SOURCE not in recordings.columns:
        return np.full(len(recordings), -1, np.int64)
    numbers = {name: number for number, name in enumerate(names)}
    found = recordings[SOURCE].replace_strict(numbers, default=-1, return_dtype=pl.Int64)
    return found.to_numpy()
