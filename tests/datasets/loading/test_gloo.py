"""Evaluation in three real processes: every sample once, and none waits for ever."""

import json
import os
import socket
import subprocess
import sys

import pytest

from tests.paths import ROOT

NUM_RANKS = 3
SIZES = [0, 1, 2, 3, 4, 7, 12, 25]
BATCH_SIZES = [1, 2, 4]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Returns the output of each rank: by rank, then by `size/batch size`."""
    folder = tmp_path_factory.mktemp("gloo")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.gloo_run", str(folder)]
    ranks = [
        subprocess.Popen(
            [*command, json.dumps(SIZES), json.dumps(BATCH_SIZES)],
            cwd=ROOT,
            env={
                **os.environ,
                "RANK": str(rank),
                "WORLD_SIZE": str(NUM_RANKS),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            },
        )
        for rank in range(NUM_RANKS)
    ]
    try:
        assert [rank.wait(timeout=120) for rank in ranks] == [0] * NUM_RANKS
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    return [json.loads((folder / f"rank_{rank}.json").read_text()) for rank in range(NUM_RANKS)]


@pytest.mark.parametrize("batch_size", BATCH_SIZES)
@pytest.mark.parametrize("size", SIZES)
def test_each_sample_is_evaluated_exactly_once_and_all_ranks_know_all(found, size, batch_size):
    ranks = [rank[f"{size}/{batch_size}"] for rank in found]
    planned = ranks[0]["planned"]
    assert len(planned) == size
    whole = [row for rank in ranks for row in rank["own"]]
    assert sorted(whole) == planned
    assert [rank["all"] for rank in ranks] == [whole] * NUM_RANKS
