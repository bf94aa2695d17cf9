"""tools.train --resume: a killed experiment ends as if it had never been stopped."""

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

from tests.paths import ROOT
from tests.small_store import SECONDS, SHORT, build_small_store
from tools import experiments
from tools.cli.command import run
from tools.train import COMMAND, main

WORDS = [
    *SHORT,
    "trainer.epochs=4",
    "trainer.checkpoint_steps=2",
    "averaging.kind=swa",
    "averaging.start=0.25",
    "augment.mixup.p=0.5",
    "sampling.slices_per_recording=2",
    "trainer.logger=csv",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_small_store(tmp_path_factory.mktemp("resume"), SECONDS[:12])


@pytest.fixture(scope="module")
def whole(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of an experiment that was never stopped."""
    root = tmp_path_factory.mktemp("whole")
    assert run(COMMAND, main, [f"store={store}", f"experiment.root={root}", *WORDS]) == 0
    return root


def killed(store: Path, root: Path, until: str, stop: signal.Signals, at_once: int = 1) -> str:
    """Trains until a file has come that the pattern names, then stops it; returns what it said.

    With several folds `at_once` their parent alone is stopped: its output ends when all have.
    """
    folds = [f"trainer.folds_at_once={at_once}"]
    words = [f"store={store}", f"experiment.root={root}", *WORDS, *folds]
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.train", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    end_s = time.monotonic() + 120
    while not list(root.glob(until)):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end_s
        time.sleep(0.01)
    (os.killpg if at_once == 1 else os.kill)(process.pid, stop)
    return process.communicate(timeout=60)[0]


def resume(root: Path, *words: str) -> int:
    return run(COMMAND, main, ["--resume", "exp_001", f"experiment.root={root}", *words])


def logged_steps(log: Path) -> pl.Series:
    """The optimizer steps that fold 0 has taken by a log, from 0 on."""
    return pl.read_csv(log / "fold_0" / "metrics.csv")["step"]


def assert_same_predictions(one: Path, other: Path) -> None:
    for name in ("oof.parquet", "embeddings.parquet"):
        frames = [pl.read_parquet(root / "preds" / "exp_001" / name) for root in (one, other)]
        assert_frame_equal(*frames, rel_tol=1e-5, abs_tol=1e-6)


@pytest.mark.parametrize(
    ("until", "said"),
    [
        ("weights/exp_001/.fold_0/resume_step.ckpt", "fold 0: continues after"),
        pytest.param(
            "weights/exp_001/.fold_0/resume_epoch.ckpt",
            "fold 0: continues after",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "preds/exp_001/.fold_0.result.json", "fold 0: done before", marks=pytest.mark.slow
        ),
    ],
    ids=["in mid-epoch", "after an epoch", "between folds"],
)
def test_a_killed_experiment_goes_on_and_ends_as_one_that_never_stopped(
    until: str,
    said: str,
    store: Path,
    whole: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    killed(store, tmp_path, until, signal.SIGKILL)
    assert resume(tmp_path) == 0
    assert said in capsys.readouterr().out
    assert_same_predictions(whole, tmp_path)
    left = sorted(path.name for path in (tmp_path / "weights" / "exp_001").iterdir())
    assert left == ["fold_0.ckpt", "fold_2.ckpt"]
    assert not list((tmp_path / "preds" / "exp_001").glob(".*"))
    if until.startswith("weights"):  # trained from the beginning, it would end equally
        assert logged_steps(tmp_path / "preds" / "exp_001" / "log" / "resumed_1").min() >= 2


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_folds_side_by_side_end_with_the_program_and_go_on(
    stop: signal.Signals, store: Path, whole: Path, tmp_path: Path
) -> None:
    killed(store, tmp_path, "weights/exp_001/.fold_2/resume_step.ckpt", stop, at_once=2)
    assert resume(tmp_path) == 0
    assert_same_predictions(whole, tmp_path)
    assert not list((tmp_path / "preds" / "exp_001").glob(".*"))


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(store: Path, tmp_path: Path) -> None:
    said = killed(store, tmp_path, "weights/exp_001/.fold_0/resume_step.ckpt", signal.SIGINT)
    assert "python -m tools.train --resume exp_001" in said


@pytest.fixture
def begun(whole: Path, tmp_path: Path) -> Path:
    """A copy of an experiment's config that nothing was trained of yet."""
    for kind in ("weights", "preds"):
        (tmp_path / kind / "exp_001").mkdir(parents=True)
    shutil.copytree(whole / "configs", tmp_path / "configs")
    return tmp_path


def change_config(root: Path, old: str, new: str) -> None:
    file = root / "configs" / "exp_001.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_data_that_have_moved_are_named_by_words(
    store: Path, whole: Path, begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_config(begun, f"store: {store}", "store: /gone/store")
    assert resume(begun) == 2
    assert "/gone/store" in capsys.readouterr().err
    assert resume(begun, f"store={store}") == 0
    assert_same_predictions(whole, begun)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed: 0", "seed: ${oc.env:SECRET_SEED}", "refers to other values by ${...}"),
        ("seed: 0", "seed: ${trainer.epochs}", "refers to other values by ${...}"),
        ("seed: 0", "seed: " + "[" * 5000 + "]" * 5000, "more than 20 deep"),
        ("seed: 0", "seed: &a 0\nlimit: *a", "by aliases"),
        ("seed: 0", "seed: [", "is no YAML"),
        ("seed: 0", "#" * (1 << 20), "has more than 1 MiB"),
    ],
    ids=["environment", "other key", "deep", "alias", "no YAML", "large"],
)
def test_the_config_of_an_experiment_has_plain_values_only(
    begun: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    old: str,
    new: str,
    message: str,
) -> None:
    monkeypatch.setenv("SECRET_SEED", "1234567")
    change_config(begun, old, new)
    assert resume(begun) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "1234567" not in error
    assert run(experiments.COMMAND, experiments.main, [f"experiment.root={begun}"]) == 0
    told = capsys.readouterr().out
    assert "exp_001" in told
    assert "1234567" not in told


@pytest.mark.parametrize("key", ["slice_choice: random", "balance: none"])
def test_a_function_that_an_experiment_names_runs_only_if_the_words_name_it_too(
    begun: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    (begun / "strange_choices.py").write_text("raise SystemExit('run')")
    monkeypatch.syspath_prepend(begun)
    name = key.partition(":")[0]
    change_config(begun, key, f"{name}: strange_choices:early")
    assert resume(begun) == 2
    word = f"sampling.{name}=strange_choices:early"
    assert word in capsys.readouterr().err
    assert "strange_choices" not in sys.modules
    with pytest.raises(SystemExit, match="run"):
        resume(begun, word)


def test_an_experiment_begins_with_the_weights_of_another(
    store: Path, whole: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "lab")
    words = [f"store={store}", f"experiment.root={tmp_path / 'lab'}", *WORDS]
    still = ["optimizer.learning_rate=1e-12", "trainer.epochs=1", "averaging.kind=none"]
    assert run(COMMAND, main, [*words, *still, "trainer.warm_start=exp_001"]) == 0
    kept = [
        torch.load(tmp_path / "lab" / "weights" / name / "fold_2.ckpt", weights_only=True)
        for name in ("exp_001", "exp_002")
    ]
    weight = "model.views.0.head.weight"
    torch.testing.assert_close(kept[0]["state_dict"][weight], kept[1]["state_dict"][weight])
    capsys.readouterr()
    assert run(COMMAND, main, [*words, "trainer.warm_start=exp_001", "train_folds=[1]"]) == 2
    assert "fold_1.ckpt does not exist" in capsys.readouterr().err
    assert run(COMMAND, main, [*words, "trainer.warm_start=../lab"]) == 2
    assert "is no experiment's name" in capsys.readouterr().err


def test_what_cannot_be_resumed_is_refused_by_reason(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resume(whole) == 2
    assert "it is finished" in capsys.readouterr().err
    assert resume(tmp_path) == 2
    assert "there is no such experiment" in capsys.readouterr().err
    assert resume(whole, "trainer.epochs=9") == 2
    assert "leave out trainer.epochs=9" in capsys.readouterr().err
