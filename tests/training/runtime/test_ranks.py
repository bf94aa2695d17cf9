"""training.runtime.ranks and what rests on them: one experiment for all, checkpoints that fit."""

import copy

import pytest
import torch
from torch import distributed

from storage.errors import ConfigError
from training.experiments import experiment as module
from training.experiments.experiment import (
    SHARED_NAME,
    ExperimentConfig,
    guard_experiment,
    share_experiment,
)
from training.module import rescale_batch_progress
from training.runtime import ranks
from training.runtime.watch import RankWatch


@pytest.fixture
def second_rank(monkeypatch):
    """This process as the second one that was started, not yet joined to the first."""
    monkeypatch.setenv("LOCAL_RANK", "1")


@pytest.fixture
def joined(tmp_path):
    """This process in a group of its own."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1
    )
    yield
    distributed.destroy_process_group()


def check_alone():
    assert (ranks.rank(), ranks.num_ranks(), ranks.is_first_rank()) == (0, 1, True)
    assert ranks.gather_ranks(torch.arange(3)).tolist() == [0, 1, 2]
    assert ranks.gather_ranks(torch.zeros(0, 2)).shape == (0, 2)
    assert ranks.gather_lists(["a", "b"]) == ["a", "b"]
    assert ranks.from_first_rank("a") == "a"
    ranks.wait_for_ranks()


def test_one_process_is_first_and_has_everything():
    check_alone()


@pytest.mark.usefixtures("joined")
def test_a_group_of_one_too():
    assert ranks.is_joined()
    check_alone()


def test_a_process_that_is_started_by_the_first_has_its_experiment(tmp_path, monkeypatch):
    config = ExperimentConfig(root=str(tmp_path))
    monkeypatch.setenv(SHARED_NAME, "")  # so that it is unset in the end
    first = share_experiment(config)
    assert first.name == "exp_001"
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert share_experiment(config) == first
    assert share_experiment(config) == first  # takes no other number


@pytest.mark.usefixtures("second_rank")
def test_a_process_that_was_not_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv(SHARED_NAME, raising=False)
    with pytest.raises(ConfigError, match="without mpirun"):
        share_experiment(ExperimentConfig(root=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("joined")
def test_a_node_with_another_disk_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv(SHARED_NAME, "")
    monkeypatch.setattr(module, "gather_lists", lambda here: [*here, "node-2", "node-2"])
    with pytest.raises(ConfigError, match="on node-2 is not the folder of rank 0"):
        share_experiment(ExperimentConfig(root=str(tmp_path)))


@pytest.mark.usefixtures("joined")
def test_an_experiment_that_the_first_rank_refuses_is_refused_by_all(tmp_path, monkeypatch):
    monkeypatch.setenv(SHARED_NAME, "")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="takes no experiment"):
        share_experiment(ExperimentConfig(root=str(tmp_path / "file")))
    with pytest.raises(ConfigError, match="there is no such experiment"):
        share_experiment(ExperimentConfig(root=str(tmp_path)), "exp_001")


def test_only_the_first_cleans_up_after_an_error(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv(SHARED_NAME, "")
    experiment = share_experiment(ExperimentConfig(root=str(tmp_path)))
    monkeypatch.setenv("LOCAL_RANK", "1")
    caplog.set_level("INFO", "training")
    with pytest.raises(ZeroDivisionError), guard_experiment(experiment):
        raise ZeroDivisionError
    assert experiment.weights.is_dir()
    assert not caplog.messages
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(ZeroDivisionError), guard_experiment(experiment):
        raise ZeroDivisionError
    assert not experiment.weights.exists()
    assert caplog.messages


def test_one_process_cannot_have_lost_another():
    lost = RuntimeError("[pair.cc:561] Connection closed by peer [127.0.0.1]:3125")
    with pytest.raises(RuntimeError) as caught, RankWatch(1, str).watching():
        raise lost
    assert caught.value is lost


def checkpoint_of(batches, *, accumulation, completed):
    """Checkpoint that Lightning saves `batches` into an epoch."""
    counts = {"ready": batches, "started": batches, "processed": batches, "completed": completed}
    return {
        "loops": {
            "fit_loop": {
                "state_dict": {
                    "combined_loader": [{"effective_batch": 12, "global_batch": 12 // accumulation}]
                },
                "epoch_loop.batch_progress": {
                    "current": dict(counts),
                    "total": {name: 100 * accumulation + count for name, count in counts.items()},
                    "is_last_batch": False,
                },
            }
        }
    }


@pytest.mark.parametrize("unfinished", [0, 1])
@pytest.mark.parametrize(("before", "after"), [(1, 1), (1, 3), (4, 2), (2, 3), (6, 1)])
def test_batches_are_counted_anew_for_another_accumulation(before, after, unfinished):
    steps = 5
    there, here = (
        checkpoint_of(steps * each, accumulation=each, completed=steps * each - unfinished)
        for each in (before, after)
    )
    rescale_batch_progress(there, after)
    for name in ("current", "total"):
        counts = there["loops"]["fit_loop"]["epoch_loop.batch_progress"][name]
        assert counts == here["loops"]["fit_loop"]["epoch_loop.batch_progress"][name]


@pytest.mark.parametrize("without", ["loops", "fit_loop", "state_dict"])
def test_other_checkpoints_stay_as_they_are(without):
    checkpoint = checkpoint_of(8, accumulation=4, completed=8)
    place = checkpoint
    for name in ("loops", "fit_loop", "state_dict"):
        if name == without:
            del place[name]
            break
        place = place[name]
    before = copy.deepcopy(checkpoint)
    rescale_batch_progress(checkpoint, 2)
    assert checkpoint == before
