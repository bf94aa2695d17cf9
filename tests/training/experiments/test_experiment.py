"""Numbers, also under parallel starts, and what remains of a failure."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from omegaconf import OmegaConf

from storage.errors import ConfigError, StoreError
from tests.paths import ROOT
from training.experiments.experiment import (
    ExperimentConfig,
    find_experiment,
    guard_experiment,
    remove_experiment,
    take_experiment,
)
from training.experiments.settings import write_settings


@pytest.fixture
def config(tmp_path):
    return ExperimentConfig(root=str(tmp_path / "lab"))


@pytest.fixture
def experiment(config, caplog):
    """One that has begun and written its settings; what it logs is in `caplog`."""
    caplog.set_level("INFO", "training")
    experiment = take_experiment(config)
    write_settings(experiment, {"seed": 1})
    return experiment


def fail_after_writing(experiment, error, file="fold_0.ckpt"):
    (experiment.weights / file).parent.mkdir(exist_ok=True)
    (experiment.weights / file).write_bytes(b"weights")
    raise error


def test_numbers_count_up_and_each_has_its_folders(config):
    first, second = take_experiment(config), take_experiment(config)
    assert [first.name, second.name] == ["exp_001", "exp_002"]
    assert first.weights.is_dir()
    assert second.preds.is_dir()


@pytest.mark.parametrize("kind", ["weights", "preds", "configs"])
def test_whatever_bears_a_number_takes_it(config, tmp_path, kind):
    folder = tmp_path / "lab" / kind
    folder.mkdir(parents=True)
    (folder / ("exp_041.yaml" if kind == "configs" else "exp_041")).touch()
    assert take_experiment(config).name == "exp_042"


def test_a_number_is_never_given_twice(config):
    first = take_experiment(config)
    remove_experiment(first)
    assert not first.weights.exists()
    assert take_experiment(config).name == "exp_002"


def test_other_files_in_the_folders_are_no_experiments(config, tmp_path):
    folder = tmp_path / "lab" / "configs"
    folder.mkdir(parents=True)
    for name in ("base.yaml", "exp_9_notes.yaml", "my_exp_007.yaml"):
        (folder / name).touch()
    assert take_experiment(config).name == "exp_001"


def test_starts_at_the_same_moment_get_different_numbers(config):
    num = 16
    barrier = threading.Barrier(num)

    def start(_):
        barrier.wait()
        return take_experiment(config).name

    with ThreadPoolExecutor(num) as threads:
        taken = sorted(threads.map(start, range(num)))
    assert taken == [f"exp_{number:03d}" for number in range(1, num + 1)]


@pytest.mark.slow  # eight times loading torch
def test_eight_processes_that_start_together_get_eight_numbers(tmp_path):
    code = (
        "import pathlib, sys, time\n"
        "from training.experiments.experiment import ExperimentConfig, take_experiment\n"
        "print('ready', flush=True)\n"
        "while not pathlib.Path('go').exists(): time.sleep(0.001)\n"
        "print(take_experiment(ExperimentConfig(root='lab')).name)"
    )
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for _ in range(8)
    ]
    for start in starts:
        assert start.stdout.readline() == "ready\n"
    (tmp_path / "go").touch()
    taken = [start.communicate()[0].strip() for start in starts]
    assert sorted(taken) == [f"exp_{number:03d}" for number in range(1, 9)]


def test_an_exception_cleans_up_says_why_and_is_raised(experiment, caplog):
    with pytest.raises(ValueError, match="the sea is rough"), guard_experiment(experiment):
        raise ValueError("the sea is rough")
    assert not experiment.weights.exists()
    assert not experiment.preds.exists()
    assert not experiment.config_file.exists()
    assert "exp_001 ended in ValueError: the sea is rough" in caplog.messages[0]
    assert "the sea is rough" in experiment.mark.read_text()


@pytest.mark.parametrize("file", ["fold_0.ckpt", ".fold_0/resume_step.ckpt"])
@pytest.mark.parametrize("resumed", [False, True])
def test_a_failure_keeps_weights_and_says_how_to_go_on(config, experiment, caplog, file, resumed):
    guard = guard_experiment(experiment, resumed=resumed)
    with pytest.raises(ValueError, match="the sea is rough"), guard:
        fail_after_writing(experiment, ValueError("the sea is rough"), file)
    assert (experiment.weights / file).exists()
    assert experiment.preds.exists()
    assert experiment.config_file.exists()
    assert experiment.mark.read_text() == "failed: ValueError: the sea is rough\n"
    assert caplog.messages[0] == "exp_001 ended in ValueError: the sea is rough"
    assert "python -m tools.train --resume exp_001" in caplog.messages[1]
    assert find_experiment(config, "exp_001") == experiment


def test_a_resumed_experiment_has_not_failed_any_more(experiment):
    experiment.mark.write_text("failed: ValueError: the sea is rough\n")
    with guard_experiment(experiment, resumed=True):
        assert experiment.mark.read_text() == ""


def test_a_disk_without_locks_is_named(experiment, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")  # as Lustre without -o flock

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StoreError, match=r"exp_001 cannot be locked: .* with locks"):
        guard_experiment(experiment).__enter__()


def test_an_experiment_in_training_is_not_marked_by_a_second_start(experiment):
    second = guard_experiment(experiment, resumed=True)
    with guard_experiment(experiment):
        with pytest.raises(ConfigError, match="being trained by another process"), second:
            raise AssertionError
        assert experiment.mark.read_text() == ""


def test_what_is_stopped_from_outside_is_kept(experiment, caplog):
    with pytest.raises(KeyboardInterrupt), guard_experiment(experiment):
        fail_after_writing(experiment, KeyboardInterrupt())
    assert (experiment.weights / "fold_0.ckpt").exists()
    assert "kept" in caplog.messages[0]


def test_settings_can_be_read_as_a_config_and_name_versions(experiment):
    settings = {"seed": 3, "model": {"backbone": "resnet18"}, "train_folds": [0, 1], "limit": None}
    write_settings(experiment, settings)
    assert OmegaConf.to_container(OmegaConf.load(experiment.config_file)) == settings
    comments = [line for line in experiment.config_file.read_text().splitlines() if line[:1] == "#"]
    assert "exp_001" in comments[0]
    assert "torch" in comments[1]


def test_a_web_server_is_refused_with_the_way_out():
    with pytest.raises(ConfigError, match=r"root=http://b/lab: a web server can neither"):
        ExperimentConfig(root="http://b/lab")


def test_a_folder_that_cannot_be_written_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"experiment\.root=.*file takes no experiment"):
        take_experiment(ExperimentConfig(root=str(tmp_path / "file")))
