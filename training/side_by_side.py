"""Folds side by side on the CPU, each trained by a process of its own (`trainer.folds_at_once`).

    for result in train_side_by_side(work, jobs, at_once=2, progress=True):
        ...

The threads of one fold wait for each other after every layer, so n folds of one thread each end
sooner than one after the other of n threads. A fold learns what it learns alone with as many.

A process sends its parent what it logs, its batches, and at the end its result or an error. It ends
with its parent, and at once where another fold has failed: what is in checkpoints stays.
"""

import copy
import logging
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from tqdm import tqdm

from storage.errors import ConfigError, StoreError
from storage.processes import begin_worker, worker_context
from training.config import TrainingConfig
from training.experiments.experiment import Experiment
from training.experiments.report import FoldResult
from training.fold import FoldRun
from training.fold_data import FoldData
from training.runtime.bar import count_bar
from training.runtime.launch import Launch
from training.split import Split
from training.trainer import Machine

LOG, BATCHES, RESULT, ERROR = "log", "batches", "result", "error"
END_S = 30.0  # in which a process that has given its result ends by itself
LAYERS = ("storage", "datasets", "training")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldJob:
    """All that a process needs to train a fold; `num_batches` of all its epochs."""

    experiment: Experiment
    machine: Machine
    split: Split
    data: FoldData
    fold: int
    num_batches: int
    launch: Launch | None = None

    def run(self, on_batches: Callable[[int], None]) -> FoldRun:
        """The settings of the fold in its process, which reports batches instead of a bar."""
        return FoldRun(
            experiment=self.experiment,
            machine=self.machine,
            config=self.data.config,
            split=self.split,
            launch=self.launch,
            on_batches=on_batches,
        )


class FoldError(Exception):
    """The traceback of an error in the process of a fold, as the cause of that error."""


Train = Callable[[FoldJob, Callable[[int], None]], FoldResult]


class Speaker(logging.Handler):
    """A process's way to its parent, for all of its threads."""

    def __init__(self, line: Connection) -> None:
        super().__init__()
        self._line = line
        self._speaking = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """Passes on what is logged."""
        self.say(LOG, (record.name, record.levelno, record.getMessage()))

    def say(self, what: str, value: Any) -> None:
        """Sends one message."""
        with self._speaking:
            self._line.send((what, value))


def at_most_at_once(config: TrainingConfig, num_folds: int) -> TrainingConfig:
    """The config with no more folds at once than there are, so that they share all threads."""
    at_once = min(config.trainer.folds_at_once, num_folds)
    return replace(config, trainer=replace(config.trainer, folds_at_once=at_once))


def check_side_by_side(config: TrainingConfig, accelerator: str) -> None:
    """Raises ConfigError where `trainer.folds_at_once` asks for what is not possible."""
    at_once = config.trainer.folds_at_once
    if at_once == 1:
        return
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ConfigError(
            "a process of a fold runs the script that trains, down to train_folds: put what the "
            "script does under: if __name__ == '__main__'"
        )
    reasons = {
        f"trainer.accelerator={accelerator}: a GPU trains one fold at a time": accelerator != "cpu",
        f"{config.trainer.num_ranks} ranks train each fold together": config.trainer.num_ranks > 1,
        f"experiment.root={config.experiment.root} is a bucket": config.experiment.is_remote,
    }
    if reason := next((text for text, holds in reasons.items() if holds), ""):
        raise ConfigError(
            f"trainer.folds_at_once={at_once} needs a CPU, one rank and a folder of experiments, "
            f"but {reason}: leave it at 1"
        )


def train_side_by_side(
    train: Train, jobs: Sequence[FoldJob], *, at_once: int, progress: bool
) -> Generator[FoldResult, None, None]:
    """Trains the folds of jobs, so many at once, and yields each result as it comes.

    `train` is a function of a module's top level. Raises what a fold has raised, and StoreError
    where a process was killed; the other folds end then.
    """
    total = sum(job.num_batches for job in jobs)
    left, running = list(jobs), _Running(train)
    try:
        with count_bar("all folds" if progress else "", total, " batch") as bar:
            while left or running:
                while left and len(running) < at_once:
                    running.start(left.pop(0))
                yield from running.listen(bar)
    finally:
        running.end()


@dataclass(slots=True, kw_only=True)
class _Process:
    """The process of a job, and the batches that it has counted."""

    job: FoldJob
    process: BaseProcess
    batches: int = 0

    def lost(self) -> StoreError:
        """The error of a process that has ended without a result."""
        self.process.join()
        code, fold = self.process.exitcode, self.job.fold
        if code == -signal.SIGKILL:
            return StoreError(
                f"the process of fold {fold} was killed, most likely for lack of memory: resume "
                "with fewer folds at once (trainer.folds_at_once=1)"
            )
        return StoreError(
            f"the process of fold {fold} ended with exit code {code}: its error is above; then "
            "resume"
        )


class _Running:
    """The processes under way, by their lines."""

    def __init__(self, train: Train) -> None:
        self._train = train
        self._lines: dict[Connection, _Process] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def start(self, job: FoldJob) -> None:
        """Starts the process of a job."""
        context = worker_context(self._train.__module__)
        line, far_end = context.Pipe()
        with far_end:
            process = context.Process(  # type: ignore[attr-defined]  # of each kind of context
                target=_work, args=(self._train, job, far_end, dict(os.environ)), daemon=True
            )
            try:
                process.start()
            except (BrokenPipeError, EOFError) as error:
                line.close()
                raise StoreError(f"fold {job.fold}: no process could be started for it") from error
            except BaseException:  # Ctrl-C: the process ends with its line
                line.close()
                raise
        self._lines[line] = _Process(job=job, process=process)

    def listen(self, bar: "tqdm[Any]") -> Iterator[FoldResult]:
        """Hears what the processes say next; yields results."""
        for line in wait(list(self._lines)):
            assert isinstance(line, Connection)
            one = self._lines[line]
            try:
                what, value = line.recv()
            except (EOFError, OSError) as error:
                raise one.lost() from error
            if what == LOG:
                name, level, text = value
                with tqdm.external_write_mode():  # the bar's line comes again below
                    logging.getLogger(name).log(level, "%s", text)
            elif what == BATCHES:
                one.batches += value
                bar.update(value)
            elif what == ERROR:
                failure, trace = value
                raise failure from FoldError(f"in the process of fold {one.job.fold}:\n{trace}")
            else:
                bar.update(one.job.num_batches - one.batches)  # it stopped early
                one.process.join(END_S)  # before its line ends, which would stop it
                self._end_one(line)
                yield value

    def end(self) -> None:
        """Ends all processes, and waits until they have."""
        for line in list(self._lines):
            self._end_one(line)

    def _end_one(self, line: Connection) -> None:
        line.close()
        self._lines.pop(line).process.join()


def _work(train: Train, job: FoldJob, line: Connection, variables: dict[str, str]) -> None:
    """Runs in the process of a fold."""
    begin_worker(variables, line)
    if "fork" in multiprocessing.get_all_start_methods():
        # for locks of libraries alone: of this method they leave no semaphore where this is killed
        multiprocessing.set_start_method("fork", force=True)
    speaker = Speaker(line)
    for name in LAYERS:
        logging.getLogger(name).addHandler(speaker)
        logging.getLogger(name).setLevel(logging.INFO)
    try:
        result = train(job, lambda number: speaker.say(BATCHES, number))
    except Exception as error:  # noqa: BLE001 - raised again in the parent
        with suppress(OSError):  # it has gone
            _tell(speaker, error)
    else:
        speaker.say(RESULT, result)


def _tell(speaker: Speaker, error: Exception) -> None:
    trace = traceback.format_exc()
    try:
        speaker.say(ERROR, (portable(error), trace))
    except OSError:
        raise
    except Exception:  # noqa: BLE001 - what the error holds cannot be sent
        speaker.say(ERROR, (as_text(error), trace))


def portable(error: Exception) -> Exception:
    """The error, or one of its text where its class cannot be made again in another process."""
    try:
        again = copy.copy(error)
    except Exception:  # noqa: BLE001 - classes of other libraries raise anything here
        return as_text(error)
    return error if str(again) == str(error) else as_text(error)


def as_text(error: Exception) -> StoreError:
    """An error of its text."""
    return StoreError(f"{type(error).__name__}: {error}")
