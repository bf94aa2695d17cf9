"""A job that a launcher starts again goes on with the experiment that it has begun."""

from dataclasses import asdict, replace
from pathlib import Path

from tests.training.short_training import config_in
from training.config import TrainingConfig
from training.experiments.experiment import SCORES, Experiment
from training.experiments.jobs import begin_experiment
from training.experiments.listing import list_experiments
from training.experiments.settings import write_settings

JOB = "torchrun-birds"


def begin(config: TrainingConfig, job: str = JOB, resume: str = "") -> tuple[Experiment, str]:
    settings = asdict(config)
    experiment, resumed = begin_experiment(config.experiment, settings, job, resume)
    if not resumed:
        write_settings(experiment, settings)
    return experiment, resumed


def test_a_job_begins_one_experiment(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    first, resumed = begin(config)
    assert (first.name, resumed) == ("exp_001", "")
    assert begin(config) == (first, "exp_001")
    assert begin(config) == (first, "exp_001")
    assert [record.name for record in list_experiments(tmp_path)] == ["exp_001"]


def test_other_jobs_and_programs_alone_begin_their_own(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    names = [begin(config, job)[0].name for job in (JOB, "slurm-4711-0", "", "")]
    assert names == ["exp_001", "exp_002", "exp_003", "exp_004"]


def test_other_settings_begin_another(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    begin(config)
    other = begin(replace(config, seed=config.seed + 1))
    assert (other[0].name, other[1]) == ("exp_002", "")
    assert begin(config)[0].name == "exp_003"  # the last one that the job has begun counts


def test_a_finished_or_removed_one_is_not_gone_on_with(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    first, _ = begin(config)
    (first.preds / SCORES).write_text("{}")
    second, resumed = begin(config)
    assert (second.name, resumed) == ("exp_002", "")
    second.config_file.unlink()
    assert begin(config)[0].name == "exp_003"


def test_the_experiment_that_the_user_names_counts(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    begin(config)
    begin(config, job="")
    assert begin(config, resume="exp_002")[1] == "exp_002"
    assert begin(config)[1] == "exp_002"
