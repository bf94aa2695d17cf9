"""The commands that evaluate and calibrate, from files to files."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from tools import calibrate, evaluate
from tools.cli.command import run

RATE_HZ = 8000
CSV = "file,start_s,end_s,labels\na.wav,1,2,robin\nb.wav,6,9,Wren\nb.wav,1,2,tit\nz.wav,0,1,wren\n"
TAXONOMY = "primary_label,common_name,class_name\nrobin,European Robin,Aves\nwren,Wren,Aves\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Predictions of three recordings of 10 s, their sounds, annotations of two, a taxonomy."""
    generator = np.random.default_rng(1)
    (tmp_path / "audio").mkdir()
    for name in "ab":
        sound = generator.normal(0, 0.1, 10 * RATE_HZ)
        soundfile.write(tmp_path / "audio" / f"{name}.wav", sound, RATE_HZ)
    (tmp_path / "preds").mkdir()
    pl.DataFrame(
        {
            "recording_id": ["a", "a", "b", "b", "c"],
            "start_s": [0.0, 5.0, 0.0, 5.0, 0.0],
            "end_s": [5.0, 10.0, 5.0, 10.0, 5.0],
            "silent": [False] * 5,
            "p_robin": [0.9, 0.2, 0.6, 0.1, 0.5],
            "p_wren": [0.1, 0.3, 0.8, 0.7, 0.5],
        }
    ).write_parquet(tmp_path / "preds" / "predictions.parquet")
    (tmp_path / "annotations.csv").write_text(CSV, encoding="utf-8")
    (tmp_path / "taxonomy.csv").write_text(TAXONOMY, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_predictions_are_evaluated_then_calibrated(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predictions=preds", "annotations=annotations.csv", "taxonomy=taxonomy.csv"]
    words += ["out=eval", "bootstrap=20", "errors=2"]
    assert run(evaluate.COMMAND, evaluate.main, [f"evaluate.{word}" for word in words]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    for part in ("z.wav", "left out: c", "tit (1)", "Aves"):
        assert part in printed
    assert {path.name for path in (folder / "eval").iterdir()} == {
        *("scores.json", "classes.csv", "errors.csv", "evaluated.parquet"),
        *("confusion.png", "precision_recall.png"),
    }
    scores = json.loads((folder / "eval" / "scores.json").read_text(encoding="utf-8"))
    assert scores["levels"][0]["number"] == 4
    words = ["calibrate.from=eval/evaluated.parquet", "calibrate.out=c.csv"]
    assert run(calibrate.COMMAND, calibrate.main, words) == 0
    assert "2 classes, 2 with positives, 4 rows" in capsys.readouterr().out
    assert (folder / "c.png").read_bytes().startswith(b"\x89PNG")
    words = ["predictions=preds", "annotations=annotations.csv", "class_thresholds=c.csv"]
    assert run(evaluate.COMMAND, evaluate.main, [f"evaluate.{word}" for word in words]) == 0
    assert "per class" in capsys.readouterr().out


def test_the_worst_errors_are_drawn_from_the_recordings(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predictions=preds", "annotations=annotations.csv", "out=eval", "audio=audio"]
    words += ["bootstrap=0", "errors=2"]
    (folder / "audio" / "b.wav").write_bytes(b"no sound")
    assert run(evaluate.COMMAND, evaluate.main, [f"evaluate.{word}" for word in words]) == 0
    printed = capsys.readouterr().out
    assert "errors.png: 1 of 4 errors" in printed
    assert (folder / "eval" / "errors.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate.annotations=annotations.csv"], "evaluate.predictions names no table"),
        (["evaluate.predictions=audio"], "cannot be read as Parquet"),
        (["evaluate.predictions=preds"], "the columns target"),
        (["evaluate.predictions=preds", "evaluate.annotations=x.csv"], "cannot be read"),
        (["evaluate.predictions=preds", "evaluate.pool=sum"], "none of mean, geometric, max"),
        (["evaluate.predictions=preds", "evaluate.audio=audio"], "give both"),
        (["evaluate.thresholds=[2]"], "within 0 to 1"),
        (["evaluate.threshold=2"], "Did you mean evaluate.thresholds?"),
    ],
)
def test_wrong_calls_end_in_one_sentence(
    words: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(evaluate.COMMAND, evaluate.main, words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "calibrate.from names no table"),
        (["calibrate.from=preds/predictions.parquet"], "needs rows with the columns target"),
        (["calibrate.from=none.parquet"], "cannot be read"),
        (["calibrate.from=x.parquet", "calibrate.out=c.json"], "must end in .csv"),
        (["calibrate.from=x.parquet", "calibrate.shrinkage=0"], "must be at least"),
    ],
)
def test_wrong_calls_of_calibrate(
    words: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(calibrate.COMMAND, calibrate.main, words) == 2
    assert message in capsys.readouterr().err
