"""tools.train on two ranks, as users call it: the processes that it starts, and their end."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import polars as pl
import psutil
import pytest
import torch

from storage.store import open_store
from tests.paths import ROOT
from tests.small_store import SHORT, build_small_store

pytestmark = pytest.mark.slow  # each start takes ten seconds


@pytest.fixture
def store(tmp_path):
    """A store of 15 synthesised recordings."""
    return build_small_store(tmp_path)


def start(store, root, *words):
    """Begins the command in a process group of its own."""
    where = [f"store={store}", f"experiment.root={root}"]
    return subprocess.Popen(
        [sys.executable, "-m", "tools.train", *where, *SHORT, "trainer.devices=2", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process):
    """Output of the command; checks that all its processes are gone."""
    try:
        out, error = process.communicate(timeout=240)
        for _ in range(100):  # a rank may need a moment more
            os.killpg(process.pid, 0)
            time.sleep(0.1)
        pytest.fail("processes are left")
    except ProcessLookupError:
        return out, error
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_both_ranks_make_one_experiment(store, tmp_path):
    process = start(store, tmp_path)
    out, error = finish(process)
    assert process.returncode == 0, error
    assert out.count("exp_001:") == 1
    assert "strategy: ddp (2 ranks)" in out
    assert out.count("predictions: ") == 1
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["exp_001"]
    oof = pl.read_parquet(tmp_path / "preds/exp_001/oof.parquet")
    scores = json.loads((tmp_path / "preds/exp_001/scores.json").read_text())
    assert [fold["fold"] for fold in scores["folds"]] == [0, 2]
    assert sum(fold["num_slices"] for fold in scores["folds"]) == len(oof)
    with open_store(str(store)) as opened:
        held_out = opened.slice_index().filter(
            pl.col("recording_id").is_in(oof["recording_id"].unique().to_list())
        )
    assert sorted(oof["row"]) == held_out["row"].to_list()


def test_two_ranks_compute_the_head_of_one(store, tmp_path):
    """Each rank adds up its share; the backbones are frozen, so they are the same."""
    still = ["refit.kind=cosine", "model.freeze_epochs=2", "train_folds=[0]"]
    found = []
    for words in (still, [*still, "trainer.devices=1"]):
        root = tmp_path / f"of_{len(found)}"
        process = start(store, root, *words)
        out, error = finish(process)
        assert process.returncode == 0, error
        assert "fold 0: head computed, of " in out
        state = torch.load(root / "weights/exp_001/fold_0.ckpt", weights_only=True)["state_dict"]
        found.append({name: state[name] for name in state if "cosine_head" in name})
    assert found[0]
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-5, atol=1e-4)


def test_an_error_of_any_rank_ends_all_with_its_reason(store, tmp_path):
    """The plan decides which rank meets the bad slices first."""
    for shard in (store / "slices.zarr" / "c").rglob("*"):
        if shard.is_file():
            data = bytearray(shard.read_bytes())
            data[20_000:-20_000] = bytes(len(data) - 40_000)
            shard.write_bytes(data)
    process = start(store, tmp_path)
    out, error = finish(process)
    assert process.returncode == 1
    assert "bad slices, more than max_bad=0" in error
    assert "Traceback" not in error
    assert "exp_001: its files are removed" in out
    assert not list((tmp_path / "weights").iterdir())


def test_an_interrupt_ends_all_ranks(store, tmp_path):
    process = start(store, tmp_path, "trainer.epochs=1000", "trainer.patience=0")
    log = tmp_path / "preds/exp_001/log/fold_0/metrics.csv"
    deadline = time.monotonic() + 120
    while not log.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    out, error = finish(process)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert "exp_001 was stopped" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("until", "wait_s"),
    [("weights/exp_001/.fold_0/resume_epoch.ckpt", 0.3), ("configs/exp_001.yaml", 1.5)],
    ids=["in training", "before the ranks have met"],
)
@pytest.mark.parametrize(
    ("lost", "number", "code", "said"),
    [
        (1, signal.SIGKILL, 1, "rank 0 of 2 ends because rank 1 was killed (SIGKILL)"),
        (0, signal.SIGKILL, -9, "rank 1 of 2 ends because rank 0 has ended"),
        (0, signal.SIGTERM, 143, "stopped by SIGTERM"),
    ],
)
def test_no_rank_waits_for_one_that_was_killed(
    store, tmp_path, until, wait_s, lost, number, code, said
):
    process = start(store, tmp_path, "trainer.epochs=1000", "trainer.patience=0")
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(until)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(wait_s)
    children = psutil.Process(process.pid).children()
    ranks = [process.pid, *(c.pid for c in children if "tools.train" in c.cmdline())]
    os.kill(ranks[lost], number)
    out, error = finish(process)  # the end of the output of all of them
    assert process.returncode == code
    assert said in error
    assert "--resume exp_001" in out + error
