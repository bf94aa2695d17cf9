"""Experiments in a bucket of a real S3 server: killed on one node, gone on with on another one."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from storage.objects.open import open_objects
from tests.node_run import FOLDER, allow, lines_of
from tests.paths import ROOT
from tests.s3_server import S3
from tests.small_store import SECONDS, SHORT, build_small_store
from tools import experiments, export
from tools.cli.command import run
from tools.train import COMMAND, main

WORDS = [
    *SHORT,
    "train_folds=[0]",
    "trainer.checkpoint_steps=2",
    "trainer.patience=0",
    "augment.mixup.p=0.5",
    "sampling.slices_per_recording=2",
]
STOP_AT = 3  # optimizer steps, of which the first two are in a checkpoint


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_small_store(tmp_path_factory.mktemp("bucket"), SECONDS[:12])


def weights_of(file: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(file, weights_only=True)["state_dict"]
    return state


def start_and_kill(words: list[str], diary: Path) -> None:
    """Trains in a process of its own until it waits at the brake, then kills it."""
    diary.mkdir()
    allow(diary, STOP_AT)
    log = diary / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.node_run", *words],
            cwd=ROOT,
            env={**os.environ, FOLDER: str(diary)},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + 240
    while not any(line["step"] == STOP_AT - 1 for line in lines_of(diary)):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow  # three trainings
def test_a_training_killed_on_one_node_ends_on_another_as_if_never_stopped(
    store: Path, s3: S3, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tmp_path / "whole"
    assert run(COMMAND, main, [f"store={store}", f"experiment.root={whole}", *WORDS]) == 0
    root = s3.url("experiments")
    node = [f"experiment.cache={tmp_path / 'node-1'}"]
    start_and_kill([f"store={store}", f"experiment.root={root}", *node, *WORDS], tmp_path / "diary")
    shutil.rmtree(tmp_path / "node-1")
    node = [f"experiment.cache={tmp_path / 'node-2'}"]
    capsys.readouterr()
    assert run(COMMAND, main, ["--resume", "exp_001", f"experiment.root={root}", *node]) == 0
    said = capsys.readouterr().out
    assert "resume_step.ckpt, optimizer step 2" in said
    assert f"weights: {root}/weights/exp_001" in said
    check_bucket(root, whole, tmp_path / "found")
    check_commands(root, tmp_path / "reader", capsys)


def check_bucket(root: str, whole: Path, found: Path) -> None:
    """The bucket has the files of the training that was never stopped, and one state."""
    bucket = open_objects(root)
    names = [*bucket.walk()]
    kinds = ("weights", "preds", "configs")
    there = {str(path.relative_to(whole)) for kind in kinds for path in (whole / kind).rglob("*.*")}
    there = {name.replace("configs/.exp_001", "configs/exp_001") for name in there}
    assert there <= {*names}
    weights = [name for name in names if name.startswith("weights/")]
    assert weights == ["weights/exp_001/fold_0.ckpt"]
    assert len([name for name in names if name.startswith("states/")]) == 2
    found.mkdir()
    for name in ("weights/exp_001/fold_0.ckpt", "preds/exp_001/oof.parquet"):
        (found / Path(name).name).write_bytes(bucket.get(name))
    expected = weights_of(whole / "weights/exp_001/fold_0.ckpt")
    for name, tensor in weights_of(found / "fold_0.ckpt").items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)
    assert_frame_equal(
        pl.read_parquet(found / "oof.parquet"),
        pl.read_parquet(whole / "preds/exp_001/oof.parquet"),
        rel_tol=1e-6,
        abs_tol=1e-7,
    )


def check_commands(root: str, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other commands read the experiment on a third machine; nobody goes on with it."""
    words = [f"experiment.root={root}", f"experiment.cache={cache}"]
    capsys.readouterr()
    assert run(experiments.COMMAND, experiments.main, words) == 0
    assert "finished" in capsys.readouterr().out
    target = cache.parent / "model.onnx"
    words = [f"export.from={root}/exp_001/fold_0", f"export.out={target}", words[1]]
    assert run(export.COMMAND, export.main, words) == 0
    assert target.is_file()
    assert run(COMMAND, main, ["--resume", "exp_001", f"experiment.root={root}"]) == 2
    assert f"it is finished, see {root}/preds/exp_001/scores.json" in capsys.readouterr().err
