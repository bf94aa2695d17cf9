"""Which slice of which recording is seen when, as a pure function of its four inputs.

    planner = EpochPlanner(recordings, SamplingConfig(balance="sqrt"), seed=7)
    plan = planner(epoch)  # rows in the order of the whole epoch, over all ranks

    recordings --balance--> draws --slice choice--> rows --order--> EpochPlan

A plan knows no files and no ranks; `datasets.reader` carries it out. Every epoch of one planner
has the same number of samples.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
import polars as pl

from datasets.balance import balance_exponent, expected_draws, resample
from datasets.randomness import random_bits, recording_keys
from datasets.slice_choice import SLICE_CHOICES, Activity, Draws
from storage.errors import ConfigError
from storage.options import option

ORDERS = ("global", "block")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingConfig:
    """What a training epoch holds and in which order."""

    slice_choice: str = option("random", "random, all, first, or energy: prefer active slices")
    slices_per_recording: int = option(1, "draws per recording and epoch; not for slice_choice=all")
    energy_scale_db: float = option(10.0, "energy: chance falls by 1/e per so many dB of level, dB")
    balance: str = option("none", "of classes: none, sqrt, uniform, or an exponent from 0 to 1")
    rating_weights: dict[str, float] = field(
        default_factory=dict,
        metadata={"help": "weight of recordings by rating, such as {'1': 0.5}; 1 where not named"},
    )
    order: str = option("global", "global shuffle, or block: nearby rows are read together")
    block_rows: int = option(4096, "order=block: rows in one block")
    blocks_together: int = option(16, "order=block: blocks that are shuffled into each other")

    def __post_init__(self) -> None:
        if self.slice_choice not in SLICE_CHOICES:
            raise ConfigError(
                f"sampling.slice_choice={self.slice_choice} is none of {', '.join(SLICE_CHOICES)}"
            )
        if self.order not in ORDERS:
            raise ConfigError(f"sampling.order={self.order} is none of {', '.join(ORDERS)}")
        balance_exponent(self.balance)
        positive = ("slices_per_recording", "energy_scale_db", "block_rows", "blocks_together")
        for name in positive:
            if not getattr(self, name) > 0:
                raise ConfigError(f"sampling.{name}={getattr(self, name)} must be positive")
        if self.slice_choice == "all" and self.slices_per_recording != 1:
            raise ConfigError(
                "sampling.slice_choice=all takes every slice: leave slices_per_recording at 1"
            )
        for rating, weight in self.rating_weights.items():
            if weight < 0 or not _is_number(rating):
                raise ConfigError(
                    f"sampling.rating_weights: {rating}: {weight} must be a number and a weight "
                    "of at least 0"
                )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EpochPlan:
    """n samples in the order of the epoch.

    rows int64 [n]; recording_no int64 [n], positions in `recordings`, the table it was made from.
    `inputs` names, as text, everything that decided the plan.
    """

    rows: np.ndarray
    recording_no: np.ndarray
    recordings: pl.DataFrame
    seed: int
    epoch: int
    inputs: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def digest(self) -> str:
        """32 hex digits that differ wherever two plans differ."""
        whole = {**self.inputs, "seed": str(self.seed), "epoch": str(self.epoch)}
        hasher = hashlib.blake2b(json.dumps(whole, sort_keys=True).encode(), digest_size=16)
        hasher.update(self.rows.astype("<i8").tobytes())
        return hasher.hexdigest()

    def describe(self) -> pl.DataFrame:
        """One line per primary label: recordings there are, recordings seen, samples, share."""
        drawn = np.bincount(self.recording_no, minlength=len(self.recordings))
        samples = pl.col("samples")
        return (
            self.recordings.select("primary_label", samples=pl.Series(drawn, dtype=pl.Int64))
            .group_by("primary_label")
            .agg(recordings=pl.len(), recordings_seen=(samples > 0).sum(), samples=samples.sum())
            .with_columns(share=samples / max(1, len(self)))
            .sort("primary_label")
        )


class EpochPlanner:
    """The plans of all epochs of one training. Arrays that do not change are made once.

    `recordings` is `source.recordings()` or some of its lines; `slice_index` is needed for
    `slice_choice="energy"` alone.
    """

    def __init__(
        self,
        recordings: pl.DataFrame,
        config: SamplingConfig,
        *,
        seed: int,
        slice_index: pl.DataFrame | None = None,
    ) -> None:
        if recordings.is_empty():
            raise ConfigError("an epoch needs at least one recording; the table has none")
        self.recordings = recordings
        self.config = config
        self.seed = seed
        self._choose = SLICE_CHOICES[config.slice_choice]
        self._keys = recording_keys(recordings)
        self._first_row = recordings["first_row"].to_numpy()
        self._num_slices = recordings["num_slices"].to_numpy().astype(np.int64)
        self._usual = (
            self._num_slices
            if config.slice_choice == "all"
            else np.full(len(recordings), config.slices_per_recording, np.int64)
        )
        self._classes = recordings["primary_label"].fill_null("").rank("dense").to_numpy() - 1
        self._expected = self._expected_draws()
        self._activity = (
            Activity.of(recordings, slice_index, config.energy_scale_db)
            if slice_index is not None and config.slice_choice == "energy"
            else None
        )
        self._inputs = self._describe_inputs()

    def __call__(self, epoch: int) -> EpochPlan:
        """The plan of one epoch."""
        num_draws = self._num_draws(epoch)
        recording_no = np.repeat(np.arange(len(num_draws)), num_draws)
        draw_no = _counts(num_draws)
        draws = Draws(
            recording=recording_no,
            num_slices=self._num_slices[recording_no],
            num_draws=num_draws[recording_no],
            draw_no=draw_no,
            bits=self._bits(epoch, "slice")[recording_no],
            activity=self._activity,
        )
        rows = self._first_row[recording_no] + self._choose(draws)
        order = self._order(rows, self._keys[recording_no], draw_no, epoch)
        return EpochPlan(
            rows=rows[order],
            recording_no=recording_no[order],
            recordings=self.recordings,
            seed=self.seed,
            epoch=epoch,
            inputs=self._inputs,
        )

    def _bits(self, epoch: int, purpose: str) -> np.ndarray:
        return random_bits(self._keys, seed=self.seed, epoch=epoch, purpose=purpose)

    def _expected_draws(self) -> np.ndarray | None:
        """Draws of each recording on average, float64 [n]; None where they are the usual ones."""
        exponent = balance_exponent(self.config.balance)
        if exponent == 0 and not self.config.rating_weights:
            return None
        mass = self._usual * _rating_weights(self.recordings, self.config.rating_weights)
        if not mass.sum() > 0:
            raise ConfigError("sampling.rating_weights leave no recording: all weights are 0")
        return expected_draws(mass, self._classes, exponent)

    def _num_draws(self, epoch: int) -> np.ndarray:
        if self._expected is None:
            return self._usual
        bits = self._bits(epoch, "balance")
        return resample(self._expected, self._classes, bits, int(self._usual.sum()))

    def _order(
        self, rows: np.ndarray, keys: np.ndarray, draw_no: np.ndarray, epoch: int
    ) -> np.ndarray:
        """The shuffle: int64 [n], which sample comes at which place."""
        bits = random_bits(keys, seed=self.seed, epoch=epoch, purpose="order", counter=draw_no)
        if self.config.order == "global":
            return np.argsort(bits, kind="stable")
        blocks, block_of = np.unique(rows // self.config.block_rows, return_inverse=True)
        block_bits = random_bits(
            blocks.astype(np.uint64), seed=self.seed, epoch=epoch, purpose="block"
        )
        place = np.empty(len(blocks), np.int64)
        place[np.argsort(block_bits, kind="stable")] = np.arange(len(blocks))
        return np.lexsort((bits, place[block_of] // self.config.blocks_together))

    def _describe_inputs(self) -> dict[str, str]:
        hasher = hashlib.blake2b(digest_size=8)
        for array in (self._keys, self._first_row, self._num_slices, self._classes):
            hasher.update(array.astype("<u8").tobytes())
        config = {f"sampling.{name}": str(value) for name, value in asdict(self.config).items()}
        return {"recordings": f"{len(self.recordings)} ({hasher.hexdigest()})", **config}


def plan_train(
    recordings: pl.DataFrame,
    config: SamplingConfig,
    *,
    seed: int,
    epoch: int,
    slice_index: pl.DataFrame | None = None,
) -> EpochPlan:
    """The plan of one training epoch; `EpochPlanner` where many epochs follow."""
    return EpochPlanner(recordings, config, seed=seed, slice_index=slice_index)(epoch)


def plan_all(recordings: pl.DataFrame) -> EpochPlan:
    """Every slice once, recording by recording in the order of the table: for val and test."""
    num_slices = recordings["num_slices"].to_numpy().astype(np.int64)
    recording_no = np.repeat(np.arange(len(recordings)), num_slices)
    rows = recordings["first_row"].to_numpy()[recording_no] + _counts(num_slices)
    return EpochPlan(
        rows=rows,
        recording_no=recording_no,
        recordings=recordings,
        seed=0,
        epoch=0,
        inputs={"recordings": f"all slices of {len(recordings)} recordings"},
    )


def _counts(lengths: np.ndarray) -> np.ndarray:
    """0, 1, ... within each run of the given lengths: (2, 3) -> 0 1 0 1 2."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    counts: np.ndarray = np.arange(total) - np.repeat(ends - lengths, lengths)
    return counts


def _rating_weights(recordings: pl.DataFrame, weights: Mapping[str, float]) -> np.ndarray:
    """float64 [n]: the weight that each recording's rating has; 1 where none is named."""
    if not weights:
        return np.ones(len(recordings))
    if "rating" not in recordings.columns:
        raise ConfigError("sampling.rating_weights needs a column rating in the csv; it has none")
    ratings = recordings["rating"].cast(pl.Float64, strict=False)
    table = {float(rating): weight for rating, weight in weights.items()}
    named = ratings.replace_strict(table, default=1.0, return_dtype=pl.Float64)
    return named.fill_null(1.0).to_numpy()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
