"""The commands and the code of docs/review.md: a round trip from swapped labels to new ones."""

import importlib
import re
import shlex

import polars as pl
import pytest

from tests.paths import ROOT
from tools.cli.command import run

DOC = (ROOT / "docs" / "review.md").read_text(encoding="utf-8")
TRIP = DOC.partition("## A round trip")[2]
STEPS = re.findall(
    r"```python\n(.*?)```|^    python -m (tools\.[^\n]*)$", TRIP, re.MULTILINE | re.DOTALL
)
SHORT = [
    "train_folds=[1,2]",
    "model.backbone=test_resnet",
    "model.views=[[4,4]]",
    "trainer.epochs=1",
    "optimizer.warmup_epochs=0",
    "trainer.threads=1",
    "trainer.progress=false",
]


def step_of(code: str, command: str) -> None:
    """Executes a block of Python, or a command; a training is made short."""
    if code:
        exec(code, {})
        return
    name, *words = shlex.split(command)
    module = importlib.import_module(name)
    config = ["--config", str(ROOT / "configs" / "esc10.yaml")] if "--config" in words else []
    given = [word for word in words if word not in ("--config", "configs/esc10.yaml")]
    assert run(module.COMMAND, module.main, [*config, *given, *(SHORT if config else [])]) == 0


def test_the_round_trip_has_its_steps() -> None:
    assert [bool(code) for code, _ in STEPS] == [
        *(True, False, False, False, True, False, False),
        *(False, False, False, True),
    ]


@pytest.mark.slow
def test_the_round_trip_brings_true_labels_back(real_data, tmp_path, monkeypatch) -> None:
    """With a small model of one epoch: what it suspects is not measured here."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "esc10").mkdir(parents=True)
    for name in ("train.csv", "taxonomy.csv", "train_audio"):
        (tmp_path / "data" / "esc10" / name).symlink_to(real_data("esc10") / name)
    for code, command in STEPS:
        step_of(code, command)
    tables = [pl.read_csv(f"data/esc10/{name}.csv") for name in ("train", "swapped", "corrected")]
    true, swapped, corrected = (table["primary_label"] for table in tables)
    assert (true != swapped).sum() == 40
    suspects = pl.read_csv("suspects.csv")["recording_id"]
    reviewed = tables[0]["filename"].str.strip_suffix(".ogg").is_in(suspects.implode())
    assert reviewed.sum() == 60
    assert (
        corrected.to_list()
        == pl.select(pl.when(reviewed).then(true).otherwise(swapped)).to_series().to_list()
    )
    oof = pl.read_parquet("preds/exp_002/oof_recordings.parquet")
    label_of = dict(zip(tables[0]["filename"].str.strip_suffix(".ogg"), corrected, strict=True))
    for recording_id, target in oof.select("recording_id", "target").iter_rows():
        assert target == [label_of[recording_id]]
