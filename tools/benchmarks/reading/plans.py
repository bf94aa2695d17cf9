"""The two tasks of `read`, and what draws their epochs, in the benchmark as in the measured way."""

from typing import Any

import polars as pl

from datasets.sampling.config import SamplingConfig
from datasets.sampling.epoch_plan import EpochPlanner
from datasets.slice_source import select_recordings

ONE, ALL = "one", "all"
TASKS = {
    ONE: "one random slice of each recording",
    ALL: "every slice once, shuffled",
}
_SAMPLING = {
    ONE: SamplingConfig(slice_choice="random"),
    ALL: SamplingConfig(slice_choice="all"),
}


def planner_of(recordings: pl.DataFrame, about: dict[str, Any]) -> EpochPlanner:
    """Planner of the epochs of the task that `about` names."""
    chosen = select_recordings(recordings, limit=about["num_recordings"])
    return EpochPlanner(chosen, _SAMPLING[about["task"]], seed=about["seed"])
