"""Makes epoch plans over a synthetic table, in a process of its own.

    python -m tools.benchmarks.harness.plan_run RESULT STARTED CASE NUM_SLICES SEED

The table is there before the clock starts.
"""

import sys
import time
from typing import Any

import numpy as np
import polars as pl

from datasets.sampling.config import SamplingConfig
from datasets.sampling.epoch_plan import EpochPlanner
from tools.benchmarks.harness.process import measure
from tools.benchmarks.harness.synthetic_index import NUM_SPECIES, slice_counts

CASES = {
    "one": SamplingConfig(balance="sqrt"),
    "blocks": SamplingConfig(slice_choice="all", order="block"),
}
EPOCHS = 2


def synthetic_recordings(num_slices: int, seed: int) -> pl.DataFrame:
    """Recordings of 206 species in a long tail, 13 slices each on average, `num_slices` in all."""
    rng = np.random.default_rng(seed)
    counts = slice_counts(num_slices, rng)
    species = rng.geometric(0.02, len(counts)) % NUM_SPECIES
    number = pl.int_range(len(counts), eager=True)
    return pl.DataFrame(
        {
            "recording_id": pl.select(pl.format("spec/XC{}", number)).to_series(),
            "primary_label": pl.select(pl.format("spec{}", pl.Series(species))).to_series(),
            "first_row": np.cumsum(counts) - counts,
            "num_slices": counts.astype(np.int32),
        }
    )


def make_plans(recordings: pl.DataFrame, config: SamplingConfig, seed: int) -> dict[str, Any]:
    """CPU seconds of the planner, CPU and wall seconds of one plan, the last of several."""
    began_cpu = time.process_time()
    planner = EpochPlanner(recordings, config, seed=seed)
    planner_cpu_s = time.process_time() - began_cpu
    for epoch in range(EPOCHS):
        plan = None  # a training does not keep the last one either
        began, began_cpu = time.perf_counter(), time.process_time()
        plan = planner(epoch)
        plan_s, plan_cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    return {
        "num_recordings": len(recordings),
        "num_slices": recordings["num_slices"].sum(),
        "num_samples": len(plan) if plan is not None else 0,
        "planner_cpu_s": planner_cpu_s,
        "plan_s": plan_s,
        "plan_cpu_s": plan_cpu_s,
    }


if __name__ == "__main__":
    case, size, number = sys.argv[3:]
    table = synthetic_recordings(int(size), int(number))
    measure(sys.argv[1:], lambda: make_plans(table, CASES[case], int(number)))
