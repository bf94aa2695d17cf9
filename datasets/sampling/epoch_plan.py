"""Epoch plan: the rows of an epoch in order, as a pure function of (recordings, config, seed).

    planner = EpochPlanner(recordings, SamplingConfig(balance="sqrt"), seed=7)
    plan = planner(epoch)  # rows in the order of the whole epoch, over all ranks

    recordings --where--> candidates --balance--> draws --slice choice--> rows --order--> EpochPlan

A plan knows no files and no ranks; `datasets.loading.reader` executes it. Every epoch of one
planner has the same number of samples.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from datasets.injection import InjectSpec
from datasets.randomness import random_bits, recording_keys
from datasets.sampling.balance import (
    check_rating_weights,
    find_balance,
    rating_weights,
    resample,
    share_out,
    text_numbers,
)
from datasets.sampling.candidates import find_candidates, names_slices
from datasets.sampling.shuffle import PIECE, SampleBits, block_order, global_order, runs_of
from datasets.sampling.slice_choice import Activity, Draws, KnownSlices, find_slice_choice
from datasets.sampling.user_functions import is_user_function
from datasets.slice_source import SOURCE, ranges, rows_in_source
from storage.checksums import canonical_json
from storage.errors import ConfigError
from storage.options import check_between, check_choice, check_positive, option
from storage.untrusted import MAX_ROW

ORDERS = ("global", "block")
MAX_DRAWS = 1000  # of a recording, where the longest has fewer slices
MAX_SAMPLES = 2**27  # of an epoch, where there are fewer slices; each takes some 30 bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingConfig:
    """Config of the samples of a training epoch and their order."""

    where: str | None = option(
        None, "SQL condition on recordings and slices, as in NOT silent; training only"
    )
    slice_choice: str = option(
        "random", "random, all, first, energy: prefer active slices; or module:function"
    )
    slices_per_recording: int = option(1, "draws per recording and epoch; not for slice_choice=all")
    energy_scale_db: float = option(10.0, "energy: fall in level that divides the chance by e, dB")
    balance: str = option(
        "none", "of classes: none, sqrt, uniform, an exponent from 0 to 1, or module:function"
    )
    rating_weights: dict[str, float] = field(
        default_factory=dict,
        metadata={"help": "weight of recordings by rating, such as {'1': 0.5}; 1 where not named"},
    )
    order: str = option("global", "global shuffle, or block: nearby rows are read together")
    inject: list[InjectSpec] = field(
        default_factory=list,
        metadata={"help": "partners from pool sources: [{source: pool, p: 0.5, ratio: 0.5}]"},
    )
    block_rows: int = option(4096, "order=block: rows in one block")
    blocks_together: int = option(16, "order=block: blocks that are shuffled into each other")

    def __post_init__(self) -> None:
        find_slice_choice(self.slice_choice)
        find_balance(self.balance)
        check_rating_weights(self.rating_weights)
        check_choice(self, "sampling", "order", ORDERS)
        check_positive(self, "sampling", "slices_per_recording", "energy_scale_db")
        check_between(self, "sampling", 1, MAX_ROW, "block_rows", "blocks_together")
        if self.slice_choice == "all" and self.slices_per_recording != 1:
            raise ConfigError(
                "sampling.slice_choice=all takes every slice: leave slices_per_recording at 1"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EpochPlan:
    """Samples in the order of the epoch.

    rows int64 [n]; planned_no int32 [n], positions in `recordings`, those that take part.
    `inputs` names, as text, everything that decided the plan. With injection, partner_rows int64
    [n] are rows of partners, and partner_pool int8 [n] positions in `sampling.inject`; -1: none.
    """

    rows: np.ndarray
    planned_no: np.ndarray
    recordings: pl.DataFrame
    seed: int
    epoch: int
    inputs: Mapping[str, str]
    partner_rows: np.ndarray | None = None
    partner_pool: np.ndarray | None = None

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
        """
        mixed = SOURCE in self.recordings.columns
        source = pl.col(SOURCE) if mixed else pl.lit(None, pl.String).alias(SOURCE)
        drawn = self.recordings.select("recording_id", "first_row", source)[self.planned_no]
        drawn.select(
            pl.int_range(pl.len()).alias("position"),
            pl.Series("row", rows_in_source(self.rows)),
            "recording_id",
            SOURCE,
            (pl.Series(self.rows) - pl.col("first_row")).cast(pl.Int32).alias("slice_no"),
        ).write_parquet(path)


class EpochPlanner:
    """Makes the plans of all epochs of one training. Arrays that do not change are made once.

    `recordings` is `source.recordings()` or some of its lines. `slice_index` is needed where
    `needs_slice_index` is true. `source_weights` gives each source of the column `source` its
    share of the samples. `eligible` int64, increasing, are the rows that may be drawn, if not all.
    Raises ConfigError where nothing can be drawn.
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
    ) -> None:
        if recordings.is_empty():
            raise ConfigError("an epoch needs at least one recording; the table has none")
        self.config = config
        self.seed = seed
        self._weights = source_weights or {}
        self._choose = find_slice_choice(config.slice_choice)
        self._candidates = find_candidates(recordings, config.where, slice_index, eligible)
        self.recordings = self._candidates.recordings
        self._keys = recording_keys(self.recordings)
        self._usual = self._usual_draws()
        self._classes = text_numbers(self.recordings["primary_label"])
        self._slices, self._activity = self._look_up(slice_index)
        self._expected = self._expected_draws()
        self._strata = self._classes
        if self._weights:  # sources are contiguous in `resample`, so each gets its share
            number = text_numbers(self.recordings[SOURCE])
            self._strata = number * (1 + self._classes.max()) + self._classes
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
        planned_no = np.repeat(np.arange(len(num_draws), dtype=np.int32), num_draws)
        draw_no = ranges(np.zeros_like(num_draws), num_draws).astype(np.int32)
        rows = self._rows(num_draws, planned_no, draw_no, epoch)
        bits = SampleBits(
            keys=self._keys, planned_no=planned_no, draw_no=draw_no, seed=self.seed, epoch=epoch
        )
        if self.config.order == "global":
            order = global_order(bits)
        else:
            block_rows, together = self.config.block_rows, self.config.blocks_together
            order = block_order(rows, bits, block_rows=block_rows, blocks_together=together)
        return EpochPlan(
            rows=rows[order],
            planned_no=planned_no[order],
            recordings=self.recordings,
            seed=self.seed,
            epoch=epoch,
            inputs=self._inputs,
        )

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
    ) -> tuple[KnownSlices | None, Activity | None]:
        """Returns the inputs of the slice choice: tables for a user function, levels for energy."""
        choice = self.config.slice_choice
        by_user, energy = is_user_function(choice), choice == "energy"
        if slice_index is None or not (by_user or energy):
            return None, None
        index = self._candidates.lines_of(slice_index)
        if by_user:
            first_row = self.recordings["first_row"].to_numpy()
            first_line = np.searchsorted(index["row"].to_numpy(), first_row)
            known = KnownSlices(recordings=self.recordings, index=index, first_line=first_line)
            return known, None
        return None, Activity.of(self.recordings, index, self.config.energy_scale_db)

    def _bits(self, epoch: int, purpose: str) -> np.ndarray:
        return random_bits(self._keys, seed=self.seed, epoch=epoch, purpose=purpose)

    def _expected_draws(self) -> np.ndarray | None:
        """Returns the expected draws of each recording, float64 [n]; None for the usual ones."""
        balance = find_balance(self.config.balance)
        if balance is None and not self.config.rating_weights and not self._weights:
            return None
        mass = self._usual * rating_weights(self.recordings, self.config.rating_weights)
        if not mass.sum() > 0:
            raise ConfigError("sampling.rating_weights leave no recording: all weights are 0")
        if self._weights:
            return share_out(self.recordings, mass, balance, self._weights)
        return mass if balance is None else balance(self.recordings, mass)

    def _num_draws(self, epoch: int) -> np.ndarray:
        if self._expected is None:
            return self._usual
        bits = self._bits(epoch, "balance")
        return resample(self._expected, self._strata, bits, int(self._usual.sum()))

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
            )
            rows[piece] = self._candidates.row_of(recording, self._choose(draws))
        return rows

    def _describe_inputs(self) -> dict[str, str]:
        hasher = hashlib.blake2b(digest_size=8)
        found = self._candidates
        for array in (self._keys, found.begin, found.count, self._classes):
            hasher.update(np.ascontiguousarray(array, "<u8").data)
        if found.rows is not None:
            hasher.update(np.ascontiguousarray(found.rows, "<u8").data)
        inputs = {"recordings": f"{len(self.recordings)} ({hasher.hexdigest()})"}
        settings = asdict(self.config)
        if not self.config.inject:
            del settings["inject"]  # as in plans of earlier versions
        inputs |= {f"sampling.{name}": str(value) for name, value in settings.items()}
        return inputs | {f"weight of {name}": f"{w:g}" for name, w in self._weights.items()}


def needs_slice_index(config: SamplingConfig, recordings: pl.DataFrame) -> bool:
    """True where an `EpochPlanner` of this config needs the slice index."""
    if config.slice_choice == "energy" or is_user_function(config.slice_choice):
        return True
    return config.where is not None and names_slices(config.where, recordings)


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
