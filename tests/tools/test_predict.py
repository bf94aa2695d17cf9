"""The command that predicts, as users type it: exit codes, messages, files."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import tools.predict
from tests.paths import ROOT
from tests.predicting import write_checkpoint, write_recordings
from tools.cli.command import run

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the command in this process: (exit code, what it printed, its errors)."""

    def typed(*words: object) -> tuple[int, str, str]:
        config = ["--config", str(ROOT / "configs" / "base.yaml")]
        code = run(tools.predict.COMMAND, tools.predict.main, [*config, *map(str, words)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return typed


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lab")
    write_checkpoint(root / "weights" / "exp_003" / "fold_0.ckpt")
    write_recordings(root / "sounds", [2.0, 3.5])
    (root / "sounds" / "bad.wav").write_bytes(b"no sound")
    return root


def words(lab: Path, out: Path) -> list[str]:
    return [
        f"experiment.root={lab}",
        "predict.from=[exp_003]",
        f"predict.input={lab / 'sounds'}",
        f"predict.out={out}",
        "predict.workers=0",
    ]


def test_it_predicts_and_says_what_it_did(lab: Path, tmp_path: Path, call: Call) -> None:
    code, out, _ = call(*words(lab, tmp_path / "new"))
    assert code == 0
    assert "3 recordings, windows of 1 s every 1 s; 1 models in 1 branches, 3 classes" in out
    assert "accelerator: cpu" in out
    assert "3 recordings, 1 rejected; 6 windows" in out
    frame = pl.read_parquet(tmp_path / "new" / "predictions.parquet")
    assert frame.columns == ["recording_id", "start_s", "end_s", "silent", "p_a", "p_b", "p_c"]
    assert len(frame) == 6
    rejects = pl.read_csv(tmp_path / "new" / "rejects.csv")
    assert rejects["recording_id"].to_list() == ["bad"]
    assert call(*words(lab, tmp_path / "new"))[1].count("3 done before") == 1


def test_nothing_to_predict_has_its_own_exit_code(lab: Path, tmp_path: Path, call: Call) -> None:
    code, _, err = call(
        *words(lab, tmp_path / "new"), f"predict.input={lab / 'sounds' / 'bad.wav'}"
    )
    assert code == 3
    assert "error: not one recording could be predicted" in err


WRONG = [
    (["predict.from=[]"], "predict.from names no model"),
    (["predict.input=[]"], "predict.input names no recordings"),
    (["predict.from=exp_009"], "there is no such experiment"),
    (["predict.from=exp_003/fold_4"], "has fold_0; give one of those"),
    (["predict.from=[exp_003,exp_003]"], "names a model twice"),
    (["predict.from=tests/paths.py"], "no such file or folder"),
    (["predict.input=nowhere"], "there is no such file or folder"),
    (["predict.step_s=0"], "predict.step_s=0 must be positive"),
    (["predict.batch_size=0"], "predict.batch_size=0 must be at least 1"),
    (["predict.labels=any"], "predict.labels=any is none of refuse, union"),
    (["predict.out=s3://bucket/new"], "must be a folder of this machine"),
    (["predict.form=exp_003"], "predict.form: no such key. Did you mean predict.from?"),
]


@pytest.mark.parametrize(("more", "message"), WRONG, ids=lambda value: str(value)[:30])
def test_a_wrong_call_ends_in_one_sentence(
    more: list[str], message: str, lab: Path, tmp_path: Path, call: Call
) -> None:
    code, _, err = call(*words(lab, tmp_path / "new"), *more)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "new").exists()


def test_a_file_that_is_no_checkpoint_is_refused(lab: Path, tmp_path: Path, call: Call) -> None:
    (tmp_path / "x.ckpt").write_bytes(b"nothing")
    code, _, err = call(*words(lab, tmp_path / "new"), f"predict.from={tmp_path / 'x.ckpt'}")
    assert (code, err.count("\n")) == (2, 2)
    assert "is no file of torch" in err
