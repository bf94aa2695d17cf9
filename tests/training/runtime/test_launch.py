"""Ranks of launchers, by the variables that torchrun and srun set."""

import pytest

from storage.errors import ConfigError
from tests.training.short_training import short_trainer
from training.runtime import ranks
from training.runtime.launch import Launch, find_launch, joined
from training.trainer import on_ranks

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "birds/2",
    "RANK": "5",
    "LOCAL_RANK": "1",
    "GROUP_RANK": "2",
    "WORLD_SIZE": "6",
    "LOCAL_WORLD_SIZE": "2",
}
SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "3",
    "SLURM_JOB_NAME": "train",
    "SLURM_NNODES": "2",
    "SLURM_NTASKS": "8",
    "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_NODEID": "1",
    "SLURM_PROCID": "6",
    "SLURM_LOCALID": "2",
}


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*TORCHRUN, *SLURM):
        monkeypatch.delenv(name, raising=False)


def launched(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> Launch:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    launch = find_launch()
    assert launch is not None
    return launch


def test_a_program_alone_has_no_launcher() -> None:
    assert find_launch() is None
    assert on_ranks(short_trainer(devices=2), None).num_ranks == 2


def test_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    launch = launched(monkeypatch, TORCHRUN)
    assert (launch.launcher, launch.job) == ("torchrun", "torchrun-birds_2")
    assert (launch.rank, launch.local_rank, launch.num_ranks, launch.num_nodes) == (5, 1, 6, 3)
    assert ranks.rank() == 5
    assert not ranks.is_first_rank()


def test_jobs_of_torchrun_without_an_id_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    launch = launched(monkeypatch, {**TORCHRUN, "TORCHELASTIC_RUN_ID": "none"})
    assert launch.job != "torchrun-none"
    assert launch.job == launched(monkeypatch, {}).job


def test_srun(monkeypatch: pytest.MonkeyPatch) -> None:
    launch = launched(monkeypatch, SLURM)
    assert (launch.launcher, launch.job) == ("srun", "slurm-4711-3")
    assert (launch.rank, launch.local_rank, launch.num_ranks, launch.num_nodes) == (6, 2, 8, 2)
    assert ranks.rank() == 6


def test_an_interactive_slurm_shell_is_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SLURM, "SLURM_JOB_NAME": "interactive"}.items():
        monkeypatch.setenv(name, value)
    assert find_launch() is None


def test_srun_needs_the_number_of_tasks_of_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.setenv("SLURM_NNODES", "2")
    with pytest.raises(ConfigError, match="give --ntasks-per-node=4 in place of --ntasks"):
        find_launch()


def test_uneven_nodes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="torchrun has started 5 ranks, 2 of them here"):
        launched(monkeypatch, {**TORCHRUN, "WORLD_SIZE": "5"})


def test_the_launcher_sets_devices_and_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    launch = launched(monkeypatch, SLURM)
    for given in ({}, {"devices": 4}, {"devices": 4, "num_nodes": 2}):
        found = on_ranks(short_trainer(**given), launch)
        assert (found.devices, found.num_nodes, found.num_ranks) == (4, 2, 8)


@pytest.mark.parametrize("given", [{"devices": 8}, {"num_nodes": 3}], ids=str)
def test_other_numbers_than_the_launcher_has_are_refused(
    given: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = launched(monkeypatch, SLURM)
    (name,) = given
    with pytest.raises(ConfigError, match=f"trainer.{name}={given[name]}, but srun has started 8"):
        on_ranks(short_trainer(**given), launch)


def test_several_nodes_need_a_launcher() -> None:
    with pytest.raises(ConfigError, match=r"trainer\.num_nodes=2 needs torchrun or srun"):
        on_ranks(short_trainer(num_nodes=2), None)


def test_one_rank_of_a_launcher_connects_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = {"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}
    launch = launched(monkeypatch, {**TORCHRUN, **alone})
    with joined(launch, "cpu", 1.0):
        assert not ranks.is_joined()


def test_a_rank_whose_others_never_come_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    two = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "RANK": "1", "LOCAL_RANK": "0"}
    launch = launched(monkeypatch, {**TORCHRUN, **two})
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "9")
    with (
        pytest.raises(ranks.RankLostError, match=r"rank 1 of 2 did not meet the others at 127\."),
        joined(launch, "cpu", 1.0),
    ):
        pytest.fail("there is nobody")
