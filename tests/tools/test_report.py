"""tools.report: a store with its rejects, and a trained experiment, in one file."""

import re
from pathlib import Path

import pytest

from storage.store import open_store
from tests.small_store import SHORT, build_small_store
from tools import train
from tools.cli.command import run
from tools.report import COMMAND, MAX_BYTES, main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("report")
    build_small_store(made)
    words = ["store=" + str(made / "store"), f"experiment.root={made}", *SHORT, "trainer.epochs=1"]
    assert run(train.COMMAND, train.main, words) == 0
    return made


def report(folder: Path, monkeypatch, *words: str) -> tuple[int, str]:
    """Exit code and text of a report."""
    monkeypatch.chdir(folder)
    code = run(COMMAND, main, ["store=store", *words])
    return code, (folder / "report.html").read_text(encoding="utf-8") if code == 0 else ""


def test_a_report_has_the_counts_and_a_spectrogram_of_each_class(folder, monkeypatch):
    code, text = report(folder, monkeypatch)
    assert code == 0
    with open_store(str(folder / "store")) as store:
        labels = set(store.recordings()["primary_label"])
        assert f"<td>{len(store):,}</td>" in text
    for label in labels:
        assert f"<h3>{label}</h3><figure" in text
    assert len(text) < MAX_BYTES
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)


def test_an_experiment_adds_its_sections(folder, monkeypatch):
    code, text = report(folder, monkeypatch, "report.experiment=exp_001")
    assert code == 0
    sections = re.findall(r'<section id="(\w+)">', text)
    assert sections[:6] == ["scores", "curves", "confusion", "per_class", "calibration", "errors"]
    assert "fold 0" in text
    assert "fold 2" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("report.experiment=exp_9",), "there is no preds/exp_9/oof.parquet"),
        (("report.out=x.pdf",), "must end in .html"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_wrong_call_ends_with_one_sentence(folder, monkeypatch, capsys, words, message):
    assert report(folder, monkeypatch, *words)[0] == 2
    assert message in capsys.readouterr().err
