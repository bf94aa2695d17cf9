"""`trainer.folds_at_once`: folds side by side learn what they learn one after the other."""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from storage.errors import ConfigError, StoreError
from storage.processes import num_cores
from tests.learnable import write_learnable_source
from tests.paths import ROOT
from tests.training.short_training import config_in, short_trainer
from training.cross_validation import train_folds
from training.experiments.experiment import ExperimentConfig
from training.model.config import RefitConfig
from training.model.learning.averaging import AveragingConfig
from training.model.learning.optimizers import OptimizerConfig
from training.module import NonFiniteLossError
from training.side_by_side import check_side_by_side, train_side_by_side

FOLDS = [3, 1, 2]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_learnable_source(tmp_path_factory.mktemp("source") / "cells.raw", 36)


def config_of(root, at_once, **options):
    return config_in(
        root,
        train_folds=FOLDS,
        trainer=short_trainer(epochs=2, folds_at_once=at_once, logger="csv"),
        **{"averaging": AveragingConfig(kind="swa", start=0.0), **options},
    )


@pytest.fixture(scope="module")
def reports(source, tmp_path_factory):
    root, refit = tmp_path_factory.mktemp("root"), RefitConfig(kind="cosine", epochs=2)
    return [
        train_folds(source, config_of(root / str(at_once), at_once, refit=refit))
        for at_once in (1, 2)
    ]


def test_the_checkpoints_are_the_same_bit_for_bit(reports):
    for fold in FOLDS:
        one, other = (
            torch.load(report.experiment.weights / f"fold_{fold}.ckpt", weights_only=True)
            for report in reports
        )
        assert one["state_dict"].keys() == other["state_dict"].keys()
        for name, value in one["state_dict"].items():
            assert torch.equal(value, other["state_dict"][name]), name


def test_so_are_tables_and_scores_in_their_order(reports):
    one, other = reports
    names = {path.name for path in one.experiment.preds.iterdir()}
    assert {path.name for path in other.experiment.preds.iterdir()} == names
    for name in ("oof.parquet", "oof_recordings.parquet", "embeddings.parquet"):
        assert_frame_equal(*(pl.read_parquet(each.experiment.preds / name) for each in reports))
    assert [result.fold for result in other.folds] == FOLDS
    assert [result.scores for result in other.folds] == [result.scores for result in one.folds]
    assert other.pooled == one.pooled


def test_what_folds_say_is_logged_here_and_one_bar_is_of_all(source, tmp_path, caplog, capsys):
    caplog.set_level("INFO", "training")
    config = config_of(tmp_path, 3)
    train_folds(source, replace(config, trainer=replace(config.trainer, progress=True)))
    for fold in FOLDS:
        assert any(line.startswith(f"fold {fold}: ") for line in caplog.messages)
    said = capsys.readouterr().err
    assert "all folds 100%" in said
    assert "fold 1 epoch" not in said


def test_the_error_of_a_fold_is_raised_here(source, tmp_path, caplog):
    caplog.set_level("INFO", "training")
    config = config_of(tmp_path, 2, optimizer=OptimizerConfig(learning_rate=1e30, warmup_epochs=0))
    with pytest.raises(NonFiniteLossError, match="Rows: "):
        train_folds(source, config)
    assert any("ended in NonFiniteLossError" in line for line in caplog.messages)


def test_folds_that_are_done_are_not_trained_again(source, reports, tmp_path, caplog):
    """Stopped while the second result is written, it has what both processes have left."""
    caplog.set_level("INFO", "training")
    config = config_of(tmp_path, 2, refit=RefitConfig(kind="cosine", epochs=2))
    with pytest.raises(KeyboardInterrupt), stopping_at("fold 1: head computed"):
        train_folds(source, config)
    assert (tmp_path / "configs" / "exp_001.yaml").is_file()
    done = train_folds(source, config, resume="exp_001")
    assert [result.scores for result in done.folds] == [each.scores for each in reports[0].folds]


class stopping_at:
    """Presses Ctrl-C, so to speak, when something is logged that begins like that."""

    def __init__(self, start):
        self.start = start
        self.log = logging.getLogger("training.refit")

    def filter(self, record):
        if record.getMessage().startswith(self.start):
            raise KeyboardInterrupt
        return True

    def __enter__(self):
        self.log.addFilter(self)

    def __exit__(self, *_):
        self.log.removeFilter(self)


def test_one_fold_has_all_threads(source, tmp_path, caplog):
    caplog.set_level("INFO", "training")
    config = config_of(tmp_path, 3)
    trainer = replace(config.trainer, threads=0, epochs=1)
    train_folds(source, replace(config, train_folds=[1], trainer=trainer))
    assert f"threads: {num_cores()} (cores of this process" in caplog.text
    assert "divided among" not in caplog.text


@dataclass(frozen=True)
class Job:
    """A job without data, for processes that train nothing."""

    fold: int
    num_batches: int = 10


def dies(job, on_batches):
    on_batches(1)
    if job.fold == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


def fails(job, on_batches):
    if job.fold == 2:
        raise ValueError("the sea is rough")
    time.sleep(600)


class StrangeError(Exception):
    """Cannot be made again from its arguments, as some errors of libraries."""

    def __init__(self, *, text):
        super().__init__(text)


def fails_strangely(job, on_batches):
    if job.fold == 2:
        raise StrangeError(text="the sea is rough")
    time.sleep(600)


def leaves(job, on_batches):
    if job.fold == 2:
        os._exit(7)
    time.sleep(600)


def warns(job, on_batches):
    logging.getLogger("datasets.loading").warning("fold %d: 100%% of it", job.fold)
    logging.getLogger("training.fold").info("quiet")
    return job.fold


def ends_early(job, on_batches):
    for _ in range(job.num_batches // 2):
        on_batches(1)
    return job.fold


@pytest.mark.parametrize(
    ("train", "error", "message"),
    [
        (dies, StoreError, r"fold 2 was killed, .*trainer\.folds_at_once=1"),
        (leaves, StoreError, "fold 2 ended with exit code 7: its error is above"),
        (fails, ValueError, "the sea is rough"),
        (fails_strangely, StoreError, "StrangeError: the sea is rough"),
    ],
)
def test_when_one_ends_the_others_end_at_once(train, error, message):
    begun_s = time.monotonic()
    with pytest.raises(error, match=message):
        list(train_side_by_side(train, [Job(1), Job(2), Job(3)], at_once=2, progress=False))
    assert time.monotonic() - begun_s < 120


def test_the_traceback_of_a_fold_is_the_cause_of_its_error():
    with pytest.raises(ValueError, match="the sea is rough") as caught:
        list(train_side_by_side(fails, [Job(2)], at_once=1, progress=False))
    assert "in the process of fold 2:" in str(caught.value.__cause__)
    assert "in fails" in str(caught.value.__cause__)


def test_logs_keep_their_names_and_levels(caplog):
    caplog.set_level("INFO")
    assert list(train_side_by_side(warns, [Job(1)], at_once=1, progress=False)) == [1]
    found = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert ("datasets.loading", "WARNING", "fold 1: 100% of it") in found
    assert ("training.fold", "INFO", "quiet") in found


SCRIPT = """
from pathlib import Path
from tests.learnable import write_learnable_source
from tests.training.short_training import config_in, short_trainer
from training.cross_validation import train_folds

def main():
    root = Path(__file__).parent
    source = write_learnable_source(root / "cells.raw", 36)
    trainer = short_trainer(epochs=1, folds_at_once=2)
    train_folds(source, config_in(root, trainer=trainer))

"""


def ran_script(folder, text):
    script = folder / "train.py"
    script.write_text(text)
    return subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_script_trains_with_a_guard(tmp_path):
    ran = ran_script(tmp_path, f"{SCRIPT}if __name__ == '__main__':\n    main()\n")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert (tmp_path / "preds" / "exp_001" / "scores.json").is_file()


def holds_a_lock(job, on_batches):
    """Fails in fold 2, while the process of another one still has its lock."""
    global lock
    lock = multiprocessing.RLock()  # as those of bars and of codecs
    if job.fold == 2:
        raise ValueError("the sea is rough")
    time.sleep(600 if job.fold == 1 else 0)


def test_processes_that_are_ended_leave_no_locks(tmp_path):
    """Python would warn of them below the error that says what has happened."""
    ran = ran_script(
        tmp_path,
        """
from tests.training.test_side_by_side import Job, holds_a_lock
from training.side_by_side import train_side_by_side

if __name__ == "__main__":
    try:
        jobs = [Job(fold) for fold in range(3)]
        list(train_side_by_side(holds_a_lock, jobs, at_once=2, progress=False))
    except ValueError as error:
        print(error)
""",
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "the sea is rough\n"


@pytest.mark.slow
def test_a_script_without_a_guard_is_told_so(tmp_path):
    """Its processes run it again; each says why they end, and no second experiment begins."""
    ran = ran_script(tmp_path, f"{SCRIPT}main()\n")
    assert ran.returncode == 1
    assert "put what the script does under: if __name__ == '__main__'" in ran.stderr
    assert "its error is above" in ran.stderr
    assert not (tmp_path / "configs" / ".exp_002").exists()


def test_a_bar_is_full_where_folds_stop_early(capsys):
    jobs = [Job(fold) for fold in range(5)]
    found = train_side_by_side(ends_early, jobs, at_once=2, progress=True)
    assert sorted(found) == list(range(5))
    assert "all folds 100%" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("accelerator", "options", "reason"),
    [
        ("gpu", {}, "a GPU trains one fold at a time"),
        ("cpu", {"devices": 2}, "2 ranks train each fold together"),
        ("cpu", {"root": "s3://birds/experiments"}, "is a bucket"),
    ],
)
def test_where_it_is_not_possible_it_is_refused(accelerator, options, reason, tmp_path):
    root = options.pop("root", str(tmp_path))
    config = config_of(tmp_path, 2)
    config = replace(
        config,
        trainer=replace(config.trainer, **options),
        experiment=ExperimentConfig(root=root),
    )
    with pytest.raises(ConfigError, match=rf"folds_at_once=2 needs a CPU, .*{reason}.* leave it"):
        check_side_by_side(config, accelerator)
