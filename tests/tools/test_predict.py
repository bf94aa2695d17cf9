"""The command that predicts, as users type it: exit codes, messages, files."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import tools.predict
from storage.errors import StoreError
from tests.paths import ROOT
from tests.predicting import write_checkpoint, write_recordings
from tools.cli.command import run
from training.inference.config import OutputSections
from training.inference.results import Results
from training.inference.run_outputs import write_run

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


def test_settings_that_changed_since_the_outputs_were_made_are_named(
    lab: Path, tmp_path: Path, call: Call
) -> None:
    def outputs(*more: str) -> list[str]:
        code, out, _ = call(*words(lab, tmp_path / "new"), *more)
        assert code == 0
        return [line for line in out.splitlines() if line.startswith("the outputs are made again")]

    assert outputs() == []
    assert outputs() == []
    assert outputs("detect.threshold=0.7", "post=[{power: {a: 2}}]") == [
        "the outputs are made again: post was [], is [{'power': {'a': 2}}]; detect.threshold was "
        "0.5, is 0.7"
    ]
    (tmp_path / "new" / "outputs.json").write_text("[")
    assert outputs() == []


@pytest.fixture(scope="module")
def exported(lab: Path) -> Callable[..., Path]:
    def write(name: str, *post: object) -> Path:
        from training.inference.export.onnx_export import ExportOptions, export_onnx
        from training.model.checkpoints import read_checkpoint

        checkpoint = read_checkpoint(lab / "weights" / "exp_003" / "fold_0.ckpt")
        export_onnx([checkpoint], lab / name, ExportOptions(post=post))
        return lab / name

    return write


def test_the_steps_of_an_onnx_file_are_applied_unless_others_are_given(
    lab: Path, tmp_path: Path, call: Call, exported: Callable[..., Path]
) -> None:
    model = exported("squared.onnx", {"power": {"a": 2}})
    line = "post-processing of the model: power; post=[] turns it off"

    def predict(*more: str) -> tuple[str, pl.DataFrame]:
        _, out, _ = call(*words(lab, tmp_path / "new"), f"predict.from={model}", *more)
        frame = pl.read_parquet(tmp_path / "new" / "predictions.parquet")
        return out, frame.select("p_a", "p_b", "p_c")

    out, squared = predict()
    assert line in out
    out, plain = predict("post=[]")
    assert line not in out
    np.testing.assert_allclose(squared.to_numpy(), plain.to_numpy() ** 2, atol=1e-6)
    assert predict()[1].equals(squared)
    _, rooted = predict("post=[{power: {a: 0.5}}]")
    np.testing.assert_allclose(rooted.to_numpy(), plain.to_numpy() ** 0.5, atol=1e-6)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"calibrate": {"csv": "private.csv"}}, "read a csv, which is no part of it"),
        ({"later": {}}, "in the metadata of the model: post: there is no step later"),
    ],
    ids=["csv", "unknown"],
)
def test_steps_of_a_file_that_cannot_be_applied_are_refused(
    step: object,
    message: str,
    lab: Path,
    tmp_path: Path,
    call: Call,
    exported: Callable[..., Path],
) -> None:
    model = f"predict.from={exported('step.onnx', step)}"
    code, _, err = call(*words(lab, tmp_path / "new"), model)
    assert code == 2
    assert message in err
    assert call(*words(lab, tmp_path / "new"), model, "post=[]")[0] == 0


def test_models_with_different_steps_bring_none(
    lab: Path, tmp_path: Path, call: Call, exported: Callable[..., Path]
) -> None:
    models = f"predict.from=[{exported('rank.onnx', 'rank')},exp_003]"
    code, out, _ = call(*words(lab, tmp_path / "new"), models)
    assert code == 0
    assert "the models bring different steps of post-processing: none apply" in out


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
    (
        ["predict.step_s=0.25", "output.formats=[submission]"],
        "not all windows of 1 s every 0.25 s end at whole seconds",
    ),
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


def test_results_go_into_a_folder_of_their_own(lab: Path, tmp_path: Path, call: Call) -> None:
    (tmp_path / "birds").mkdir()
    (tmp_path / "birds" / "wren.wav").write_bytes(b"a recording")
    (tmp_path / "file").touch()
    for name, reason in (
        ("birds", "is not empty and has no results of tools.predict (it holds wren.wav)"),
        ("file", "is a file: give a folder"),
    ):
        code, _, err = call(*words(lab, tmp_path / name))
        assert code == 2
        assert f"predict.out={tmp_path / name} {reason}" in err
    assert [path.name for path in (tmp_path / "birds").iterdir()] == ["wren.wav"]


def test_results_among_recordings_are_no_recordings(lab: Path, tmp_path: Path, call: Call) -> None:
    write_recordings(tmp_path / "sounds", [2.0])
    inside = [f"predict.input={tmp_path / 'sounds'}", "output.formats=[excerpts]"]
    wanted = [*words(lab, tmp_path / "sounds" / "new"), *inside, "detect.threshold=0"]
    for _ in range(2):
        code, out, _ = call(*wanted)
        assert code == 0
        assert "1 recordings" in out
    assert list((tmp_path / "sounds" / "new").rglob("*.wav"))


def test_any_name_of_a_file_or_folder_is_taken(lab: Path, tmp_path: Path, call: Call) -> None:
    """Bytes that are no UTF-8, and the signs of patterns."""
    sounds = Path(os.fsdecode(os.fsencode(tmp_path) + b"/so[un]ds*\xe9"))
    write_recordings(tmp_path / "sounds", [2.0]).rename(sounds)
    (sounds / "00.wav").rename(os.fsdecode(os.fsencode(sounds) + b"/caf\xe9.wav"))
    out = tmp_path / "results[1]*"
    for known in ("", ", 1 done before"):
        code, text, err = call(*words(lab, out), f"predict.input={sounds}")
        assert (code, err.count("Traceback")) == (0, 0), err
        assert f"1 recordings{known}, 0 rejected" in text
    frame = pl.read_parquet(out / "predictions.parquet", glob=False)
    assert frame["recording_id"].unique().to_list() == ["caf\\xe9"]


def test_outputs_wait_for_no_other_run_in_the_folder(lab: Path, tmp_path: Path, call: Call) -> None:
    """Two that write the same tables would mix them."""
    assert call(*words(lab, tmp_path / "new"))[0] == 0
    results, config = Results(tmp_path / "new"), OutputSections()
    with results.lock(), pytest.raises(StoreError, match="another prediction is at work"):
        write_run(results, config)
    write_run(results, config)


def test_a_file_that_is_no_checkpoint_is_refused(lab: Path, tmp_path: Path, call: Call) -> None:
    (tmp_path / "x.ckpt").write_bytes(b"nothing")
    code, _, err = call(*words(lab, tmp_path / "new"), f"predict.from={tmp_path / 'x.ckpt'}")
    assert (code, err.count("\n")) == (2, 2)
    assert "is no file of torch" in err
