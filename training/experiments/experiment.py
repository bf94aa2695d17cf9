"""Numbered experiments: `exp_001`, `exp_002`, ...

    weights/exp_001/fold_0.ckpt ...     preds/exp_001/oof.parquet ...     configs/exp_001.yaml

A number is taken by creating `configs/.exp_001`, which fails if it exists, so two starts at the
same moment get two numbers; the mark stays, so a number is never given twice. Where several
processes train together, the first one takes the number and writes. While it trains it holds a lock
on the mark, which ends with the process, so no other can resume the same experiment meanwhile.
"""

import fcntl
import importlib.metadata
import os
import platform
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from storage.errors import ConfigError
from storage.objects.urls import is_remote
from storage.options import option
from training.runtime.ranks import (
    first_rank_logger,
    from_first_rank,
    gather_lists,
    is_first_rank,
    is_joined,
)

SHARED_NAME = "MELBANK_EXPERIMENT"  # by which the first process informs those that it starts
NAME = re.compile(r"^\.?exp_(\d+)(\.yaml)?$")
SCORES = "scores.json"  # the last file of an experiment: with it, it is finished
LOCK_POLL_S = 0.2
logger = first_rank_logger(__name__)

PACKAGES = ("torch", "pytorch-lightning", "timm", "numpy", "polars", "zarr")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentConfig:
    """Settings of experiments."""

    root: str = option(".", "folder with weights/, preds/ and configs/")

    def __post_init__(self) -> None:
        if is_remote(self.root):
            raise ConfigError(
                f"experiment.root={self.root} must be a folder of this machine, or of a disk that "
                "all nodes share: experiments are not written to buckets"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One number and the places that belong to it."""

    name: str
    weights: Path
    preds: Path
    config_file: Path
    mark: Path


def take_experiment(config: ExperimentConfig) -> Experiment:
    """The next free number, with its folders; safe against other starts at the same time."""
    root = Path(config.root)
    try:
        for kind in ("weights", "preds", "configs"):
            (root / kind).mkdir(parents=True, exist_ok=True)
        number = 1 + max(_numbers(root), default=0)
        while True:
            experiment = _places(root, number)
            try:
                os.close(os.open(experiment.mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
                break
            except FileExistsError:
                number += 1
        experiment.weights.mkdir()
        experiment.preds.mkdir()
    except OSError as error:
        raise ConfigError(
            f"experiment.root={config.root} takes no experiment: {error.filename}: "
            f"{error.strerror}; choose a folder that can be written"
        ) from error
    return experiment


def find_experiment(config: ExperimentConfig, name: str) -> Experiment:
    """One that was begun and not finished; raises ConfigError where it cannot be gone on with."""
    found = NAME.match(name)
    experiment = _places(Path(config.root), int(found.group(1))) if found else None
    if experiment is None or not experiment.mark.is_file():
        raise ConfigError(
            f"--resume {name}: there is no such experiment in {config.root}; "
            "python -m tools.experiments lists them"
        )
    if (experiment.preds / SCORES).is_file():
        raise ConfigError(f"--resume {name}: it is finished, see {experiment.preds / SCORES}")
    if not experiment.config_file.is_file():
        mark = experiment.mark.read_text(encoding="utf-8", errors="replace")
        why = mark.strip() or "it has left no config"
        raise ConfigError(f"--resume {name}: {why}; nothing of it is left: start a new training")
    return experiment


def share_experiment(config: ExperimentConfig, resume: str = "") -> Experiment:
    """The next free number, or the one to go on with; the same for all ranks.

    Raises ConfigError in a process that was started neither by the first one nor by a launcher, and
    on ranks that do not see the folder of the first one.
    """
    refused = ""
    if is_first_rank():
        try:
            experiment = find_experiment(config, resume) if resume else take_experiment(config)
        except ConfigError as error:
            if not is_joined():
                raise
            refused = str(error)  # the others wait for an answer
        else:
            os.environ[SHARED_NAME] = experiment.name
    name, refused = from_first_rank((os.environ.get(SHARED_NAME, ""), refused))
    if refused:
        raise ConfigError(refused)
    found = NAME.match(name)
    if found is None:
        raise ConfigError(
            "start training once, without mpirun: it starts trainer.devices processes; several "
            "machines are started by torchrun or srun, see docs/scaling.md"
        )
    shared = _places(Path(config.root), int(found.group(1)))
    _check_shared(shared, config)
    return shared


def _check_shared(experiment: Experiment, config: ExperimentConfig) -> None:
    """Raises ConfigError, on all ranks, where one has another disk than the first."""
    if not is_joined():
        return
    here = "" if experiment.mark.is_file() else socket.gethostname()
    if lacking := sorted({name for name in gather_lists([here]) if name}):
        raise ConfigError(
            f"experiment.root={config.root} on {lacking[0]} is not the folder of rank 0: it must "
            "be on a disk that all nodes share, under the same path"
        )


@contextmanager
def guard_experiment(
    experiment: Experiment, *, resumed: bool = False, patience_s: float = 0.0
) -> Iterator[None]:
    """Says why an experiment ended, and keeps it; what has no checkpoint yet is removed.

    A resumed experiment is kept anyway, and one that was stopped from outside. Only the first of
    several processes does. Raises ConfigError where another process trains this experiment after
    `patience_s`: a shared disk may take a minute to notice that a node is lost, with its lock.
    """
    if not is_first_rank():
        yield
        return
    with _lock(experiment, patience_s):
        if resumed:
            experiment.mark.write_text("", encoding="utf-8")  # an earlier failure is past
        try:
            yield
        except Exception as error:
            _end(experiment, f"{type(error).__name__}: {error}", keep=resumed)
            raise
        except BaseException:
            logger.info(f"{experiment.name} was stopped; {_how_to_go_on(experiment)}")
            raise


def _end(experiment: Experiment, reason: str, *, keep: bool) -> None:
    """Marks an experiment as failed; removes it unless it has weights of a fold or a checkpoint."""
    logger.info(f"{experiment.name} ended in {reason}")
    with suppress(OSError):  # a disk that is full must not hide the reason
        experiment.mark.write_text(f"failed: {reason}\n", encoding="utf-8")
    if keep or any(experiment.weights.rglob("*.ckpt")):
        logger.info(f"{experiment.name}: when that is repaired: {_how_to_go_on(experiment)}")
    else:
        remove_experiment(experiment)
        logger.info(f"{experiment.name}: its files are removed; the number is not given again")


def advise(experiment: Experiment) -> str:
    """The way on, as the end of a sentence; empty where nothing is left to go on with."""
    if not experiment.config_file.is_file():
        return ""
    return f"; go on with: python -m tools.train --resume {experiment.name}"


def _how_to_go_on(experiment: Experiment) -> str:
    return (
        f"{experiment.weights} and {experiment.preds} are kept. "
        f"Go on with: python -m tools.train --resume {experiment.name}"
    )


@contextmanager
def _lock(experiment: Experiment, patience_s: float) -> Iterator[None]:
    end_s = time.monotonic() + patience_s
    with experiment.mark.open("r", encoding="utf-8") as mark:
        while True:
            try:
                fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() < end_s:
                    time.sleep(LOCK_POLL_S)
                    continue
                raise ConfigError(
                    f"{experiment.name} is being trained by another process: stop that one first"
                ) from error
        yield


def remove_experiment(experiment: Experiment) -> None:
    """Removes what an experiment has written; its mark stays."""
    shutil.rmtree(experiment.weights, ignore_errors=True)
    shutil.rmtree(experiment.preds, ignore_errors=True)
    experiment.config_file.unlink(missing_ok=True)


def write_settings(experiment: Experiment, settings: Mapping[str, Any]) -> None:
    """Writes the resolved config, plain values; versions and commit stand above as comments.

    The file is a config: `--config configs/exp_001.yaml` does the same again.
    """
    made = datetime.now(UTC).isoformat(timespec="seconds")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    lines = [
        f"# {experiment.name}, begun {made}",
        f"# Python {platform.python_version()}, {versions}",
        f"# source: {describe_commit()}",
        OmegaConf.to_yaml(OmegaConf.create(dict(settings))),
    ]
    experiment.config_file.write_text("\n".join(lines), encoding="utf-8")


def describe_commit() -> str:
    """The git commit of this checkout, and whether files differ from it."""
    words = ["--always", "--exclude=*", "--abbrev=40", "--dirty=, with changes"]
    command = ["git", "-C", str(Path(__file__).parents[2]), "describe", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "not a git checkout"
    return f"commit {done.stdout.strip()}"


def _places(root: Path, number: int) -> Experiment:
    name = f"exp_{number:03d}"
    return Experiment(
        name=name,
        weights=root / "weights" / name,
        preds=root / "preds" / name,
        config_file=root / "configs" / f"{name}.yaml",
        mark=root / "configs" / f".{name}",
    )


def _numbers(root: Path) -> Iterator[int]:
    """The numbers that anything in the three folders is named by."""
    for kind in ("weights", "preds", "configs"):
        for path in (root / kind).iterdir():
            if found := NAME.match(path.name):
                yield int(found.group(1))
