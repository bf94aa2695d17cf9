"""Experiments of jobs that a launcher starts again after a loss: they go on, with one number.

    name = begun_by(config, "torchrun-birds", settings)    # exp_003, or empty
    note_job(config, "torchrun-birds", "exp_004")

torchrun starts all ranks again when one is lost, or a node joins; SLURM starts a requeued job
again. Each runs the same command, which would begin another experiment. `configs/.job_NAME`, or
the object `jobs/NAME` of a bucket, names the one that the job has begun.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from storage.errors import ConfigError, ObjectMissingError
from storage.objects.client import DEFAULT, RemoteConfig
from storage.objects.open import open_objects
from training.experiments.experiment import (
    NAME,
    Experiment,
    ExperimentConfig,
    find_settings,
    share_experiment,
)
from training.experiments.settings import read_settings
from training.runtime.files import write_whole
from training.runtime.ranks import first_rank_logger, is_first_rank, of_first_rank

MAX_NAME_BYTES = 20
logger = first_rank_logger(__name__)


def begin_experiment(
    config: ExperimentConfig,
    settings: Mapping[str, Any],
    job: str,
    resume: str,
    remote: RemoteConfig = DEFAULT,
) -> tuple[Experiment, str]:
    """The experiment of all ranks, and the name of the one that it goes on with; '' for a new one.

    `job`: that of a launcher, or ''. `resume`: the experiment that the user names, or ''.
    """
    if job and not resume:
        resume = of_first_rank(partial(begun_by, config, job, settings, remote))
        if resume:
            logger.info(f"{resume}: this job has begun it before it was started again; it goes on")
    experiment = share_experiment(config, resume, remote)
    if job and is_first_rank():
        note_job(config, job, experiment.name, remote)
    return experiment, resume


def begun_by(
    config: ExperimentConfig,
    job: str,
    settings: Mapping[str, Any],
    remote: RemoteConfig = DEFAULT,
) -> str:
    """The unfinished experiment that a job has begun with the same settings; empty without one."""
    name = _noted(config, job, remote)
    if NAME.match(name) is None:
        return ""
    try:
        _, then = read_settings(find_settings(config, name, remote))
    except ConfigError:  # finished, or nothing of it is left
        return ""
    now = OmegaConf.create(OmegaConf.to_yaml(OmegaConf.create(dict(settings))))
    return name if then == OmegaConf.to_container(now) else ""


def _noted(config: ExperimentConfig, job: str, remote: RemoteConfig) -> str:
    """The name that a job has noted; empty without one."""
    if config.is_remote:
        try:
            data = open_objects(config.root, remote=remote).get(f"jobs/{job}")
        except ObjectMissingError:
            return ""
        return data[:MAX_NAME_BYTES].decode(errors="replace").strip()
    path = _path(config, job)
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return file.read(MAX_NAME_BYTES).decode(errors="replace").strip()


def note_job(config: ExperimentConfig, job: str, name: str, remote: RemoteConfig = DEFAULT) -> None:
    """Notes the experiment that a job has begun; StoreError where disk or bucket refuse."""
    data = f"{name}\n".encode()
    if config.is_remote:
        open_objects(config.root, remote=remote).put(f"jobs/{job}", data)
    else:
        write_whole(_path(config, job), data)


def _path(config: ExperimentConfig, job: str) -> Path:
    return config.work_folder / "configs" / f".job_{job}"
