"""The pictures of an experiment show what its tables hold."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.image import imread

from datasets.labels import Labels
from training.experiments.pictures import write_confusion, write_curves

LABELS = Labels(("a", "b$", "c"))


def oof(seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    columns = {
        f"p_{name}": values for name, values in zip(LABELS.names, rng.random((3, 50)), strict=True)
    }
    target = [[LABELS.names[place], "z"] for place in rng.integers(0, 3, 50)]
    return pl.DataFrame({"target": target, **columns})


def test_confusion_is_drawn_with_any_names_and_with_labels_that_do_not_occur(
    tmp_path: Path,
) -> None:
    oof().filter(pl.col("target").list.first() != "c").write_parquet(tmp_path / "oof.parquet")
    write_confusion(tmp_path / "oof.parquet", LABELS, tmp_path / "confusion.png")
    assert imread(tmp_path / "confusion.png").std() > 0.05


def test_curves_join_the_parts_of_a_fold_that_was_resumed(tmp_path: Path) -> None:
    for part, epochs in (("log", [0, 1]), ("log/resumed_1", [1, 2])):
        folder = tmp_path / part / "fold_0"
        folder.mkdir(parents=True)
        lines = {"epoch": epochs, "val_kl": [1.0 / (1 + epoch) for epoch in epochs]}
        pl.DataFrame({**lines, "train_loss_epoch": [None, 0.5]}).write_csv(folder / "metrics.csv")
    write_curves(tmp_path / "log", tmp_path / "curves.png")
    assert imread(tmp_path / "curves.png").std() > 0.05


@pytest.mark.parametrize("left", ["", "epo", "epoch,val_kl\n0,0."], ids=["empty", "head", "line"])
def test_what_a_kill_has_left_of_a_log_is_no_hindrance(left: str, tmp_path: Path) -> None:
    for part, text in (("log", left), ("log/resumed_1", "epoch,val_kl\n0,0.9\n1,0.5\n")):
        folder = tmp_path / part / "fold_0"
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text(text, encoding="utf-8")
    write_curves(tmp_path / "log", tmp_path / "curves.png")
    assert imread(tmp_path / "curves.png").std() > 0.05


def test_an_experiment_without_a_log_still_has_a_picture(tmp_path: Path) -> None:
    write_curves(tmp_path / "log", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").is_file()
