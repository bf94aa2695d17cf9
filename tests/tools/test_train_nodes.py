"""tools.train by torchrun and by srun, on loopback: ranks that are lost and come back."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import psutil
import pytest

from tests.node_run import FOLDER, allow, lines_of, with_diary
from tests.paths import ROOT
from tests.small_store import SHORT, build_small_store
from tools.cli.command import run
from tools.train import COMMAND, main
from training.experiments.experiment import ExperimentConfig
from training.experiments.listing import list_experiments
from training.experiments.places import local_listing

pytestmark = pytest.mark.slow  # each start takes ten seconds
WORDS = [
    *SHORT,
    "train_folds=[0]",
    "sampling.slices_per_recording=4",
    "trainer.checkpoint_steps=2",
    "trainer.patience=0",
    "trainer.timeout_s=60",
]
ALL = 10_000
BATCH, STEP = 2, 4  # samples of a batch, of an optimizer step


class Nodes:
    """Processes on this machine that pass for nodes, and what they have trained."""

    def __init__(self, folder, store, bucket="") -> None:
        self.root, self.diary = folder / "root", folder / "diary"
        self.diary.mkdir()
        self.words = [f"store={store}", f"experiment.root={bucket or self.root}", *WORDS]
        self.folder = folder
        self.started = []

    def start(self, *words: str, **variables: str) -> "subprocess.Popen[bytes]":
        """Starts a node in a process group of its own."""
        number = len(self.started)
        with (self.folder / f"node-{number}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *words, "-m", "tests.node_run", *self.words],
                cwd=ROOT,
                env={**os.environ, FOLDER: str(self.diary), **variables},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def log(self, process) -> str:
        """Output of a node."""
        return (self.folder / f"node-{self.started.index(process)}.log").read_text()

    def wait_for(self, is_so: Callable[[list[dict]], bool]) -> None:
        """Waits until the diary is so."""
        deadline = time.monotonic() + 240
        while not is_so(lines_of(self.diary)):
            assert time.monotonic() < deadline, "".join(map(self.log, self.started))
            time.sleep(0.1)

    def end(self) -> None:
        """Kills all that is left."""
        for process in self.started:
            kill(process)


def kill(process) -> None:
    """Ends a node at once, as when its power goes; ranks of torchrun have sessions of their own."""
    with suppress(psutil.NoSuchProcess):
        agent = psutil.Process(process.pid)
        for each in [agent, *agent.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                each.kill()
    process.wait()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store of 15 uneven recordings."""
    return build_small_store(tmp_path_factory.mktemp("nodes"))


@pytest.fixture(scope="module")
def expected(store, tmp_path_factory):
    """The rows of each optimizer step, of one process that is never stopped."""
    folder = tmp_path_factory.mktemp("alone")
    nodes = Nodes(folder, store)
    allow(nodes.diary, ALL)
    with with_diary(nodes.diary):
        assert run(COMMAND, main, nodes.words) == 0
    rows = {}
    for line in lines_of(nodes.diary):
        rows.setdefault(line["step"], []).extend(line["rows"])
    assert len(rows) >= 12
    assert all(len(step) == STEP for step in rows.values())
    return rows


@pytest.fixture
def nodes(tmp_path, store):
    """Nodes that may take six steps."""
    nodes = Nodes(tmp_path, store)
    allow(nodes.diary, 6)
    yield nodes
    nodes.end()


def at_the_brake(ranks, pids=frozenset()):
    """Condition: so many ranks, none of which is known, have come to the sixth step."""

    def is_so(lines):
        found = {
            line["pid"]
            for line in lines
            if line["ranks"] == ranks and line["step"] == 5 and line["pid"] not in pids
        }
        return len(found) == ranks

    return is_so


def check_rows(nodes, expected):
    """Every batch had the very rows of its step, and no step is missing."""
    lines = lines_of(nodes.diary)
    assert {line["step"] for line in lines} == set(expected)
    for line in lines:
        first = BATCH * (line["rank"] if line["ranks"] > 1 else line["batch"])
        assert line["rows"] == expected[line["step"]][first : first + BATCH]


def check_experiment(nodes):
    """There is one experiment, and it is finished."""
    assert [path.name for path in (nodes.root / "weights").iterdir()] == ["exp_001"]
    scores = json.loads((nodes.root / "preds/exp_001/scores.json").read_text())
    assert [fold["fold"] for fold in scores["folds"]] == [0]


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def wait_for_server(port):
    """Waits until somebody listens."""
    deadline = time.monotonic() + 120
    while True:
        with suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_two_agents_of_torchrun_lose_one_and_get_it_back(nodes, expected):
    """It goes on with the other one alone, then with both, each time at the very sample."""
    port = free_port()
    agent = [
        *("-m", "torch.distributed.run", "--nnodes=1:2", "--nproc-per-node=1"),
        *("--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=birds"),
        "--rdzv-conf=last_call_timeout=3,keep_alive_interval=1,keep_alive_max_attempt=3",
        "--max-restarts=3",
    ]
    # else torch 2.15 waits, for a node that joins later, for an address that nobody gives
    own_store = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    first = nodes.start(*agent, **own_store)
    wait_for_server(port)  # of the first: it is the one that must not be lost
    second = nodes.start(*agent, **own_store)
    nodes.wait_for(at_the_brake(2))
    kill(second)
    before = {line["pid"] for line in lines_of(nodes.diary)}
    allow(nodes.diary, 8)
    nodes.wait_for(
        lambda lines: any(
            line["step"] == 7 and line["ranks"] == 1 for line in lines if line["pid"] not in before
        )
    )
    assert re.search(r"rank \d of 2 ends because another rank has ended", nodes.log(first))
    again = nodes.start(*agent, **own_store)
    alone = {line["pid"] for line in lines_of(nodes.diary)}
    allow(nodes.diary, 9)  # a step after the checkpoint that both go on from
    nodes.wait_for(
        lambda lines: any(line["ranks"] == 2 for line in lines if line["pid"] not in alone)
    )
    allow(nodes.diary, ALL)
    assert first.wait(timeout=120) == 0, nodes.log(first)
    assert again.wait(timeout=120) == 0, nodes.log(again)
    check_rows(nodes, expected)
    check_experiment(nodes)
    resumed = [line["step"] for line in lines_of(nodes.diary) if line["pid"] not in before]
    assert min(resumed) >= 4  # after the checkpoint, not from the beginning
    assert nodes.log(first).count("this job has begun it before") >= 1


def slurm(rank, port):
    """Variables that srun would set for a task, on two nodes with one each."""
    return {
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NAME": "train",
        "SLURM_STEP_ID": "0",
        "SLURM_NODELIST": "127.0.0.1",
        "SLURM_NNODES": "2",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_NODEID": str(rank),
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": "0",
        "MASTER_PORT": str(port),
    }


@pytest.mark.parametrize("lost", [0, 1])
def test_a_slurm_job_that_loses_a_node_ends_and_goes_on_when_requeued(nodes, expected, lost):
    port = free_port()
    tasks = [nodes.start(**slurm(rank, port)) for rank in range(2)]
    nodes.wait_for(at_the_brake(2))
    kill(tasks[lost])
    allow(nodes.diary, ALL)
    left = tasks[1 - lost]
    assert left.wait(timeout=60) == 1
    assert f"rank {1 - lost} of 2 ends because another rank has ended" in nodes.log(left)
    assert "--resume exp_001" in nodes.log(left)
    port = free_port()
    tasks = [nodes.start(**slurm(rank, port)) for rank in range(2)]
    for task in tasks:
        assert task.wait(timeout=240) == 0, nodes.log(task)
    assert "strategy: ddp (2 ranks on 2 nodes)" in nodes.log(tasks[0])
    assert "exp_001" not in nodes.log(tasks[1])
    check_rows(nodes, expected)
    check_experiment(nodes)


def test_nodes_without_a_shared_disk_train_into_a_bucket(tmp_path, store, s3, expected):
    """Rank 0 is lost, then the job goes on with two other nodes that have nothing."""
    url = s3.url("experiments")
    nodes = Nodes(tmp_path, store, bucket=url)
    allow(nodes.diary, 6)

    def start(names):
        port = free_port()
        return [
            nodes.start(**slurm(rank, port), MELBANK_CACHE=str(tmp_path / name))
            for rank, name in enumerate(names)
        ]

    try:
        tasks = start(["node-1", "node-2"])
        nodes.wait_for(at_the_brake(2))
        kill(tasks[0])
        allow(nodes.diary, ALL)
        assert tasks[1].wait(timeout=120) == 1
        assert "--resume exp_001" in nodes.log(tasks[1])
        tasks = start(["node-3", "node-4"])
        for task in tasks:
            assert task.wait(timeout=300) == 0, nodes.log(task)
    finally:
        nodes.end()
    assert "this job has begun it before" in nodes.log(tasks[0])
    assert "continues after" in nodes.log(tasks[0])
    check_rows(nodes, expected)
    place = ExperimentConfig(root=url, cache=str(tmp_path / "reader"))
    (record,) = list_experiments(local_listing(place))
    assert (record.name, record.status, record.num_folds) == ("exp_001", "finished", 1)
