"""Epoch plan: the rows of an epoch in order, as a pure function of (recordings, config, seed).

    planner = EpochPlanner(recordings, SamplingConfig(balance="sqrt"), seed=7)
    plan = planner(epoch)  # rows in the order of the whole epoch, over all ranks

    recordings --where--> candidates --balance--> draws --slice choice--> rows
        --substitution--> rows --injection--> rows and partners --order--> EpochPlan

A plan knows no files and no ranks; `datasets.loading.reader` executes it. Every epoch of one
planner has the same number of samples.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from datasets.randomness import random_bits
from datasets.sampling.balance import (
    find_balance,
    rating_weights,
    resample,
    share_out,
    text_numbers,
)
from datasets.sampling.candidates import BY_LEVEL, find_candidates
from datasets.sampling.class_limits import limited_draws, resample_classes
from datasets.sampling.config import SamplingConfig
from datasets.sampling.draw_weights import find_weights, keep_shares
from datasets.sampling.facts import SliceFacts, digest_of
from datasets.sampling.kept_keys import find_keys
from datasets.sampling.pools import find_pools
from datasets.sampling.shuffle import (
    PIECE,
    AllSlices,
    SampleBits,
    block_order,
    global_order,
    runs_of,
    shuffle_all,
)
from datasets.sampling.slice_choice import Activity, Draws, KnownSlices, Levels, find_slice_choice
from datasets.sampling.user_functions import is_user_function
from datasets.slice_source import SOURCE, pieces, ranges, rows_in_source
from storage.checksums import canonical_json
from storage.errors import ConfigError

MAX_DRAWS = 1000  # of a recording, where the longest has fewer slices
MAX_SAMPLES = 2**27  # of an epoch, where there are fewer slices; each takes some 30 bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EpochPlan:
    """Samples in the order of the epoch.

    rows int64 [n]; planned_no int32 [n], positions in `recordings`, those that take part.
    `inputs` names, as text, everything that decided the plan. With injection, partner_rows int64
    [n] are rows of partners, and partner_pool int8 [n] positions in `sampling.inject`; -1: none.
    `num_substituted` counts the samples whose place a slice of `sampling.substitute` has taken.
    """

    rows: np.ndarray
    planned_no: np.ndarray
    recordings: pl.DataFrame
    seed: int
    epoch: int
    inputs: Mapping[str, str]
    partner_rows: np.ndarray | None = None
    partner_pool: np.ndarray | None = None
    num_substituted: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def digest(self) -> str:
        """32 hex digits: blake2b of inputs, seed, epoch, rows and partners."""
        whole = {**self.inputs, "seed": str(self.seed), "epoch": str(self.epoch)}
        hasher = hashlib.blake2b(canonical_json(whole), digest_size=16)
        hasher.update(np.ascontiguousarray(self.rows, "<i8").data)
        if self.partner_rows is not None and self.partner_pool is not None:
            hasher.update(np.ascontiguousarray(self.partner_rows, "<i8").data)
            hasher.update(np.ascontiguousarray(self.partner_pool, "<i1").data)
        return hasher.hexdigest()

    def describe(self) -> pl.DataFrame:
        """Counts recordings, recordings seen, samples and their share by (source and) label."""
        drawn = np.bincount(self.planned_no, minlength=len(self.recordings))
        samples = pl.col("samples")
        keys = [name for name in (SOURCE, "primary_label") if name in self.recordings.columns]
        return (
            self.recordings.select(*keys, samples=pl.Series(drawn, dtype=pl.Int64))
            .group_by(keys)
            .agg(recordings=pl.len(), recordings_seen=(samples > 0).sum(), samples=samples.sum())
            .with_columns(share=samples / max(1, len(self)))
            .sort(keys)
        )

    def write_parquet(self, path: str | Path) -> None:
        """Writes a line per sample: position, row (in its source), recording_id, source, slice_no.

        `source` is null where there is one only; `slice_no` counts from the recording's first row.
        With injection also partner_pool and partner_row (in its source), null where there is none.
        """
        mixed = SOURCE in self.recordings.columns
        source = pl.col(SOURCE) if mixed else pl.lit(None, pl.String).alias(SOURCE)
        drawn = self.recordings.select("recording_id", "first_row", source)[self.planned_no]
        partners = []
        if self.partner_rows is not None and self.partner_pool is not None:
            pool = pl.Series("partner_pool", self.partner_pool)
            row = pl.Series("partner_row", rows_in_source(self.partner_rows))
            partners = [pl.when(pool >= 0).then(one).alias(one.name) for one in (pool, row)]
        drawn.select(
            pl.int_range(pl.len()).alias("position"),
            pl.Series("row", rows_in_source(self.rows)),
            "recording_id",
            SOURCE,
            (pl.Series(self.rows) - pl.col("first_row")).cast(pl.Int32).alias("slice_no"),
            *partners,
        ).write_parquet(path)


class EpochPlanner:
    """Makes the plans of all epochs of one training. Arrays that do not change are made once.

    `recordings` is `source.recordings()` or some of its lines. `slice_index` is needed where
    `needs_slice_index` is true. `source_weights` gives each source of the column `source` its
    share of the samples; a pool of weight 0 gives partners and substitutes alone, and its
    recordings do not make an epoch longer. `eligible` int64, increasing, are the rows that may be
    drawn, if not all. `facts` is what `find_facts` finds. Raises ConfigError where nothing can be
    drawn.
    """

    def __init__(
        self,
        recordings: pl.DataFrame,
        config: SamplingConfig,
        *,
        seed: int,
        slice_index: pl.DataFrame | None = None,
        source_weights: Mapping[str, float] | None = None,
        eligible: np.ndarray | None = None,
        facts: SliceFacts | None = None,
    ) -> None:
        if recordings.is_empty():
            raise ConfigError("an epoch needs at least one recording; the table has none")
        self.config = config
        self.seed = seed
        self._weights = source_weights or {}
        self._choose = find_slice_choice(config.slice_choice)
        self._facts = facts or SliceFacts()
        eligible = self._facts.without_voice(config, recordings, eligible)
        self._candidates = find_candidates(recordings, config.where, slice_index, eligible)
        self.recordings = self._candidates.recordings
        self._keys = find_keys(self.recordings)
        self._usual = self._usual_draws()
        self._classes = text_numbers(self.recordings["primary_label"])
        self._draw_weights = find_weights(config, self._facts, self._candidates)
        self._slices, self._levels, self._activity = self._look_up(slice_index)
        self._pools = find_pools(
            config, self._candidates, self._draw_weights, self._facts, self._weights
        )
        self._total = int(self._usual[self._pools.is_drawn_R].sum())
        self._expected = self._expected_draws()
        self._strata = self._classes
        if self._weights:  # sources are contiguous in `resample`, so each gets its share
            number = text_numbers(self.recordings[SOURCE])
            self._strata = number * (1 + self._classes.max()) + self._classes
        self._draws_C = self._limited_draws()
        self._inputs = self._describe_inputs()

    def __repr__(self) -> str:
        """Samples and recordings of an epoch, and the choice of slices."""
        config = self.config
        return (
            f"EpochPlanner({int(self._num_draws(0).sum()):,} samples of {len(self.recordings):,} "
            f"recordings; slice_choice={config.slice_choice}, balance={config.balance}, "
            f"seed {self.seed})"
        )

    def __call__(self, epoch: int) -> EpochPlan:
        """Returns the plan of one epoch."""
        num_draws = self._num_draws(epoch)
        if self._is_whole and np.array_equal(num_draws, self._candidates.count):
            return self._plan_of_all(epoch)
        planned_no = np.repeat(np.arange(len(num_draws), dtype=np.int32), num_draws)
        draw_no = ranges(np.zeros_like(num_draws), num_draws).astype(np.int32)
        rows = self._rows(num_draws, planned_no, draw_no, epoch)
        bits = SampleBits(
            keys=self._keys, planned_no=planned_no, draw_no=draw_no, seed=self.seed, epoch=epoch
        )
        drawn = self._pools.fill(planned_no, rows, bits)
        order = self._order(drawn.rows, bits)
        return EpochPlan(
            rows=drawn.rows[order],
            planned_no=drawn.planned_no[order],
            recordings=self.recordings,
            seed=self.seed,
            epoch=epoch,
            inputs=self._inputs,
            partner_rows=None if drawn.partner_rows is None else drawn.partner_rows[order],
            partner_pool=None if drawn.partner_pool is None else drawn.partner_pool[order],
            num_substituted=drawn.num_substituted,
        )

    @property
    def _is_whole(self) -> bool:
        """True where epochs may be made in order of their blocks at once, which saves memory."""
        config, pools = self.config, self._pools
        in_blocks = config.slice_choice == "all" and config.order == "block"
        return in_blocks and pools.injection is None and pools.substitution is None

    def _plan_of_all(self, epoch: int) -> EpochPlan:
        """Returns the plan of an epoch that has every candidate once, in blocks."""
        found = self._candidates
        slices = AllSlices(
            begin=found.begin,
            count=found.count,
            keys=self._keys,
            start_bits=self._bits(epoch, "slice"),
            row_of=found.row_at,
        )
        rows, planned_no = shuffle_all(
            slices,
            seed=self.seed,
            epoch=epoch,
            block_rows=self.config.block_rows,
            blocks_together=self.config.blocks_together,
        )
        return EpochPlan(
            rows=rows,
            planned_no=planned_no,
            recordings=self.recordings,
            seed=self.seed,
            epoch=epoch,
            inputs=self._inputs,
        )

    def _order(self, rows: np.ndarray, bits: SampleBits) -> np.ndarray:
        if self.config.order == "global":
            return global_order(bits)
        block_rows, together = self.config.block_rows, self.config.blocks_together
        return block_order(rows, bits, block_rows=block_rows, blocks_together=together)

    def _usual_draws(self) -> np.ndarray:
        """Returns the draws of each recording without balance, int64 [n]; checks their number."""
        count, wanted = self._candidates.count, self.config.slices_per_recording
        if self.config.slice_choice == "all":
            return count
        key = f"sampling.slices_per_recording={wanted}"
        longest = int(count.max())
        if wanted > max(longest, MAX_DRAWS):
            raise ConfigError(
                f"{key} is more than the longest recording has, {longest:,} slices: give at most "
                f"{max(longest, MAX_DRAWS):,}"
            )
        num_samples, most = wanted * len(count), max(int(count.sum()), MAX_SAMPLES)
        if num_samples > most:
            raise ConfigError(
                f"{key} of {len(count):,} recordings makes epochs of {num_samples:,} samples; "
                f"give at most {most // len(count):,}, for {most:,}"
            )
        return np.full(len(count), wanted, np.int64)

    def _look_up(
        self, slice_index: pl.DataFrame | None
    ) -> tuple[KnownSlices | None, Levels | None, Activity | None]:
        """Returns the inputs of the slice choice: tables for a user function, levels, weights."""
        choice = self.config.slice_choice
        weights = self._draw_weights
        by_user = is_user_function(choice)
        if slice_index is None or not (by_user or choice in BY_LEVEL):
            return None, None, weights.slices
        index = self._candidates.lines_of(slice_index)
        if by_user:
            first_row = self.recordings["first_row"].to_numpy()
            first_line = np.searchsorted(index["row"].to_numpy(), first_row)
            known = KnownSlices(recordings=self.recordings, index=index, first_line=first_line)
            return known, None, None
        if choice == "best_of":
            levels = Levels.of(self.recordings, index, self.config.best_of_by)
            return None, levels, weights.slices
        activity = Activity.of(self.recordings, index, self.config.energy_scale_db)
        return None, None, weights.with_activity(activity, index["row"].to_numpy())

    def _bits(self, epoch: int, purpose: str) -> np.ndarray:
        return random_bits(self._keys, seed=self.seed, epoch=epoch, purpose=purpose)

    def _expected_draws(self) -> np.ndarray | None:
        """Returns the expected draws of each recording, float64 [n]; None for the usual ones."""
        config, by_weight = self.config, self._draw_weights.recordings
        balance = find_balance(config.balance)
        plain = balance is None and not config.rating_weights and by_weight is None
        if plain and not self._weights:
            return None
        mass = self._usual * rating_weights(self.recordings, config.rating_weights)
        if not mass.sum() > 0:
            raise ConfigError("sampling.rating_weights leave no recording: all weights are 0")
        if by_weight is not None:
            mass = keep_shares(self.recordings, by_weight, mass)
        if self._weights:
            return share_out(self.recordings, mass, balance, self._weights)
        return mass if balance is None else balance(self.recordings, mass)

    def _limited_draws(self) -> np.ndarray | None:
        """Returns the draws of each class, int64 [C], where floor or ceiling decide them."""
        least, most = self.config.min_draws_per_class, self.config.max_draws_per_class
        if not least and most is None:
            return None
        expected = self._usual.astype(np.float64) if self._expected is None else self._expected
        self._expected = expected * (self._total / expected.sum())
        labelled = self.recordings.select(
            (pl.col("primary_label").fill_null("") != "").alias("labelled")
        )["labelled"].to_numpy()
        limited_C = np.bincount(self._classes[labelled], minlength=self._classes.max() + 1) > 0
        draws_C = limited_draws(self._expected, self._classes, limited_C, least, most)
        largest = max(int(self._candidates.count.sum()), MAX_SAMPLES)
        if draws_C.sum() > largest:
            raise ConfigError(
                f"sampling.min_draws_per_class={least} of {len(draws_C)} classes makes epochs of "
                f"{draws_C.sum():,} samples; the most is {largest:,}"
            )
        return draws_C

    def _num_draws(self, epoch: int) -> np.ndarray:
        if self._expected is None:
            return self._usual
        bits = self._bits(epoch, "balance")
        if self._draws_C is not None:
            return resample_classes(
                self._expected, self._classes, self._strata, bits, self._draws_C
            )
        return resample(self._expected, self._strata, bits, self._total)

    def _rows(
        self, num_draws: np.ndarray, planned_no: np.ndarray, draw_no: np.ndarray, epoch: int
    ) -> np.ndarray:
        """Returns the row of each draw, int64 [n]; works piece by piece to bound memory."""
        rows = np.empty(len(draw_no), np.int64)
        bits = self._bits(epoch, "slice")
        ends = np.cumsum(num_draws)
        for first, stop in runs_of(num_draws, PIECE):
            piece = slice(ends[first] - num_draws[first], ends[stop - 1])
            recording = planned_no[piece]
            draws = Draws(
                recording=recording,
                num_slices=self._candidates.count[recording],
                num_draws=num_draws[recording],
                draw_no=draw_no[piece].astype(np.int64),
                bits=bits[recording],
                activity=self._activity,
                slices=self._slices,
                levels=self._levels,
                best_of=self.config.best_of,
            )
            rows[piece] = self._candidates.row_of(recording, self._choose(draws))
        return rows

    def _describe_inputs(self) -> dict[str, str]:
        hasher = hashlib.blake2b(digest_size=8)
        found = self._candidates
        arrays = [self._keys, found.begin, found.count, self._classes]
        for array in arrays if found.rows is None else [*arrays, found.rows]:
            for piece in pieces(len(array), PIECE):  # of which a copy is made
                hasher.update(np.ascontiguousarray(array[piece], "<u8").data)
        inputs = {"recordings": f"{len(self.recordings)} ({hasher.hexdigest()})"}
        inputs |= self.config.described() | self._facts.digests()
        by_weight = self._draw_weights.recordings
        if by_weight is not None:
            inputs["weights of recordings"] = digest_of(by_weight)
        if self._levels is not None:
            inputs["levels"] = digest_of(self._levels.of_slice)
        return inputs | {f"weight of {name}": f"{w:g}" for name, w in self._weights.items()}


def plan_all(recordings: pl.DataFrame) -> EpochPlan:
    """Plans every slice once, in the order of the table: for validation and test."""
    num_slices = recordings["num_slices"].to_numpy()
    return EpochPlan(
        rows=ranges(recordings["first_row"].to_numpy(), num_slices),
        planned_no=np.repeat(np.arange(len(recordings), dtype=np.int32), num_slices),
        recordings=recordings,
        seed=0,
        epoch=0,
        inputs={"recordings": f"all slices of {len(recordings)} recordings"},
    )
