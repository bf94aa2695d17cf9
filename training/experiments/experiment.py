"""Numbered experiments: `exp_001`, `exp_002`, ...

    weights/exp_001/fold_0.ckpt ...     preds/exp_001/oof.parquet ...     configs/exp_001.yaml

A number is taken by creating `configs/.exp_001`, which fails if it exists, so two starts at the
same moment get two numbers; the mark stays, so a number is never given twice. Where several
processes train together, the first one takes the number and writes. While it trains it holds a lock
on the mark, which ends with the process, so no other can resume the same experiment meanwhile.

Those of a bucket are in a folder of this machine while they are trained, see `bucket`.
"""

import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from storage.checksums import digest
from storage.errors import ConfigError, MelbankError, StoreError, UnreachableError
from storage.objects.client import DEFAULT, RemoteConfig, cache_root
from storage.objects.lock import try_lock
from storage.objects.urls import check_url, is_remote, is_web, local_path
from storage.options import option
from training.experiments.bucket import ExperimentBucket
from training.experiments.bucket_copy import BucketCopy
from training.runtime.ranks import (
    first_rank_logger,
    from_first_rank,
    gather_lists,
    is_first_rank,
    is_joined,
    wait_for_ranks,
)

SHARED_NAME = "MELBANK_EXPERIMENT"  # by which the first process informs those that it starts
NAME = re.compile(r"^\.?exp_(\d+)(\.yaml)?$")
SCORES = "scores.json"  # the last file of an experiment: with it, it is finished
LOCK_POLL_S = 0.2
logger = first_rank_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentConfig:
    """Settings of experiments."""

    root: str = option(
        ".", "folder with weights/, preds/ and configs/, or its URL: s3://bucket/experiments"
    )
    cache: str | None = option(
        None,
        "where root is a URL: folder of this machine for experiments in training, and for copies; "
        "null: $MELBANK_CACHE/experiments, else ~/.cache/melbank/experiments",
    )

    def __post_init__(self) -> None:
        check_url(self.root)
        if is_web(self.root):
            raise ConfigError(
                f"experiment.root={self.root}: a web server can neither be written nor listed; "
                "give a folder, or a bucket by s3://, gs:// or az://"
            )

    @property
    def is_remote(self) -> bool:
        """True where the experiments are in a bucket."""
        return is_remote(self.root)

    @property
    def work_folder(self) -> Path:
        """Folder with weights/, preds/ and configs/ in which experiments are trained."""
        return self._cached("work") if self.is_remote else local_path(self.root)

    @property
    def read_folder(self) -> Path:
        """The same, of experiments that are read."""
        return self._cached("read") if self.is_remote else local_path(self.root)

    def _cached(self, purpose: str) -> Path:
        folder = Path(self.cache).expanduser() if self.cache else cache_root() / "experiments"
        return folder / digest(self.root.rstrip("/").encode())[:16] / purpose


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One number and the places that belong to it; `copy` where it is in a bucket."""

    name: str
    weights: Path
    preds: Path
    config_file: Path
    mark: Path
    copy: BucketCopy | None = field(default=None, compare=False, repr=False)

    def describe(self, path: Path) -> str:
        """Location of a file or folder, for messages: that in the bucket, if there is one."""
        return self.copy.describe(path) if self.copy else str(path)

    def publish(self) -> None:
        """Puts what has changed into the bucket, if there is one; for the first rank."""
        if self.copy:
            self.copy.publish()

    def share(self, *paths: Path) -> None:
        """Publishes, and brings these files, or all, to the other nodes; all ranks call it.

        Without a bucket, whose ranks have one disk, it waits for them. Where a rank fails all raise
        an error.
        """
        if self.copy is None:
            wait_for_ranks()
            return
        if is_first_rank():
            _on_all_ranks(self.copy.publish)
            _on_all_ranks(lambda: None)
        elif is_joined():  # else, one of several that the first has started, on its machine
            _on_all_ranks(lambda: None)
            _on_all_ranks(partial(self.copy.fetch, paths))


def _on_all_ranks(act: Callable[[], None]) -> None:
    """Acts on all ranks, each in its way; raises the error of any rank on all of them."""
    problem: MelbankError | None = None
    try:
        act()
    except MelbankError as error:
        if not is_joined():
            raise
        problem = error
    problems = [text for text in gather_lists([str(problem or "")]) if text]
    if problem is not None:
        raise problem
    if problems:
        raise StoreError(problems[0])


def take_experiment(config: ExperimentConfig, remote: RemoteConfig = DEFAULT) -> Experiment:
    """The next free number, with its folders; safe against other starts at the same time."""
    try:
        if config.is_remote:
            return _take_in_bucket(config, remote)
        root = config.work_folder
        for kind in ("weights", "preds", "configs"):
            (root / kind).mkdir(parents=True, exist_ok=True)
        number = 1 + max(_numbers(_names(root)), default=0)
        while True:
            experiment = _places(config, number)
            try:
                os.close(os.open(experiment.mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
                break
            except FileExistsError:
                number += 1
        experiment.weights.mkdir()
        experiment.preds.mkdir()
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise ConfigError(
            f"experiment.root={config.root} takes no experiment: {error.filename}: "
            f"{error.strerror}; choose a folder that can be written"
        ) from error
    return experiment


def _take_in_bucket(config: ExperimentConfig, remote: RemoteConfig) -> Experiment:
    bucket = ExperimentBucket(config.root, remote)
    number = 1 + max(_numbers(bucket.entries()), default=0)
    while not bucket.create(f"exp_{number:03d}"):
        number += 1
    experiment = _places(config, number, remote)
    experiment.mark.parent.mkdir(parents=True, exist_ok=True)
    experiment.mark.write_text("", encoding="utf-8")
    return experiment


def find_experiment(
    config: ExperimentConfig, name: str, remote: RemoteConfig = DEFAULT
) -> Experiment:
    """One that was begun and not finished; raises ConfigError where it cannot be gone on with.

    The settings of one in a bucket are then in `config.read_folder`.
    """
    found = NAME.match(name)
    number = int(found.group(1)) if found else 0
    experiment = begun = _places(config, number, remote)
    if found and config.is_remote:
        begun = _places(config, number, folder=config.read_folder)
        _fetch_facts(experiment, config.read_folder)
    if not found or not begun.mark.is_file():
        raise ConfigError(
            f"--resume {name}: there is no such experiment in {config.root}; "
            "python -m tools.experiments lists them"
        )
    if (begun.preds / SCORES).is_file():
        scores = experiment.describe(experiment.preds / SCORES)
        raise ConfigError(f"--resume {name}: it is finished, see {scores}")
    if not begun.config_file.is_file():
        mark = begun.mark.read_text(encoding="utf-8", errors="replace")
        why = mark.strip() or "it has left no config"
        raise ConfigError(f"--resume {name}: {why}; nothing of it is left: start a new training")
    return experiment


def _fetch_facts(experiment: Experiment, folder: Path) -> None:
    """Brings the small files of an experiment in a bucket, if it is there, into a folder."""
    copy = experiment.copy
    if copy is not None and copy.bucket.state(experiment.name) is not None:
        copy.bucket.fetch(experiment.name, folder, is_fact)
        mark = folder / "configs" / experiment.mark.name
        if not mark.exists():  # it has a number, and no files yet
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()


def is_fact(path: str) -> bool:
    """True for the paths of settings, mark and scores."""
    return path.startswith("configs/") or path.endswith(f"/{SCORES}")


def find_settings(config: ExperimentConfig, name: str, remote: RemoteConfig = DEFAULT) -> Path:
    """The config of an experiment that can be gone on with; ConfigError where it cannot be."""
    experiment = find_experiment(config, name, remote)
    return config.read_folder / "configs" / experiment.config_file.name


def share_experiment(
    config: ExperimentConfig, resume: str = "", remote: RemoteConfig = DEFAULT
) -> Experiment:
    """The next free number, or the one to go on with; the same for all ranks.

    Raises ConfigError in a process that was started neither by the first one nor by a launcher, and
    on ranks that do not see the folder of the first one.
    """
    refused = ""
    if is_first_rank():
        try:
            experiment = (
                find_experiment(config, resume, remote)
                if resume
                else take_experiment(config, remote)
            )
        except MelbankError as error:
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
    shared = _places(config, int(found.group(1)), remote)
    if shared.copy is None:
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
        if experiment.copy:
            experiment.copy.restore()
        if resumed:
            experiment.mark.write_text("", encoding="utf-8")  # an earlier failure is past
        try:
            yield
        except Exception as error:
            _end(experiment, f"{type(error).__name__}: {error}", keep=resumed)
            if not isinstance(error, UnreachableError):
                with suppress(MelbankError):  # the reason counts
                    experiment.publish()
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
        f"{experiment.describe(experiment.weights)} and {experiment.describe(experiment.preds)} "
        "are kept. "
        f"Go on with: python -m tools.train --resume {experiment.name}"
    )


@contextmanager
def _lock(experiment: Experiment, patience_s: float) -> Iterator[None]:
    end_s = time.monotonic() + patience_s
    if experiment.copy:
        experiment.mark.parent.mkdir(parents=True, exist_ok=True)
        experiment.mark.touch()  # on a node that has never seen it
    with experiment.mark.open("r+", encoding="utf-8") as mark:  # NFS wants it writable
        while not try_lock(mark.fileno(), experiment.mark):
            if time.monotonic() >= end_s:
                raise ConfigError(
                    f"{experiment.name} is being trained by another process: stop that one first"
                )
            time.sleep(LOCK_POLL_S)
        yield


def remove_experiment(experiment: Experiment) -> None:
    """Removes what an experiment has written; its mark stays."""
    shutil.rmtree(experiment.weights, ignore_errors=True)
    shutil.rmtree(experiment.preds, ignore_errors=True)
    experiment.config_file.unlink(missing_ok=True)


def _places(
    config: ExperimentConfig,
    number: int,
    remote: RemoteConfig = DEFAULT,
    folder: Path | None = None,
) -> Experiment:
    """The places of a number in the folder of trainings, or in another one."""
    name, root = f"exp_{number:03d}", folder or config.work_folder
    copy = None
    if config.is_remote:
        copy = BucketCopy(ExperimentBucket(config.root, remote), name, root)
    return Experiment(
        name=name,
        weights=root / "weights" / name,
        preds=root / "preds" / name,
        config_file=root / "configs" / f"{name}.yaml",
        mark=root / "configs" / f".{name}",
        copy=copy,
    )


def _names(root: Path) -> Iterator[str]:
    """Names of all that is in the three folders."""
    for kind in ("weights", "preds", "configs"):
        yield from (path.name for path in (root / kind).iterdir())


def _numbers(names: Iterable[str]) -> Iterator[int]:
    """The numbers of experiments that anything is named by."""
    for name in names:
        if found := NAME.match(name):
            yield int(found.group(1))
