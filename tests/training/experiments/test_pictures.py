"""The pictures of an experiment show what its tables hold."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.image import imread

from datasets.labels import Labels
from training.experiments.classes import score_classes
from training.experiments.pictures import (
    MAX_NAMES,
    NUM_PAIRS,
    confused_pairs,
    write_classes,
    write_confusion,
    write_curves,
)

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
    held = oof().filter(pl.col("target").list.first() != "c")
    write_confusion(held, {"a": "Été $a$", "c": "wren"}, tmp_path / "confusion.png")
    assert imread(tmp_path / "confusion.png").std() > 0.05


def test_curves_join_the_parts_of_a_fold_that_was_resumed(tmp_path: Path) -> None:
    for part, epochs in (("log", [0, 1]), ("log/resumed_1", [1, 2])):
        folder = tmp_path / part / "fold_0"
        folder.mkdir(parents=True)
        lines = {"epoch": epochs, "val_kl": [1.0 / (1 + epoch) for epoch in epochs]}
        pl.DataFrame({**lines, "train_loss_epoch": [None, 0.5]}).write_csv(folder / "metrics.csv")
    write_curves(tmp_path / "log", tmp_path / "curves.png", {0: 2})
    assert imread(tmp_path / "curves.png").std() > 0.05


@pytest.mark.parametrize("left", ["", "epo", "epoch,val_kl\n0,0."], ids=["empty", "head", "line"])
def test_what_a_kill_has_left_of_a_log_is_no_hindrance(left: str, tmp_path: Path) -> None:
    for part, text in (("log", left), ("log/resumed_1", "epoch,val_kl\n0,0.9\n1,0.5\n")):
        folder = tmp_path / part / "fold_0"
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text(text, encoding="utf-8")
    write_curves(tmp_path / "log", tmp_path / "curves.png", {0: 2})
    assert imread(tmp_path / "curves.png").std() > 0.05


def test_an_experiment_without_a_log_still_has_a_picture(tmp_path: Path) -> None:
    write_curves(tmp_path / "log", tmp_path / "curves.png", {})
    assert (tmp_path / "curves.png").is_file()


def many_classes(num: int) -> pl.DataFrame:
    """Predictions of `num` classes with seven recordings each, half of them wrong."""
    generator = np.random.default_rng(1)
    primary = np.arange(7 * num) % num
    values = generator.random((len(primary), num)) + 0.9 * np.eye(num)[primary]
    names = [f"label{place:03d}" for place in range(num)]
    columns = {f"p_{name}": values[:, place] for place, name in enumerate(names)}
    return pl.DataFrame({"target": [[names[place]] for place in primary], **columns})


@pytest.mark.parametrize("num", [1, 2, MAX_NAMES, MAX_NAMES + 1])
def test_any_number_of_classes_is_drawn(num: int, tmp_path: Path) -> None:
    held = many_classes(num)
    names = {f"label{place:03d}": f"Bird $number$ {place}" for place in range(0, num, 2)}
    write_confusion(held, names, tmp_path / "confusion.png")
    write_classes(score_classes(held, names), tmp_path / "classes.png")
    assert imread(tmp_path / "confusion.png").std() > 0.05
    assert imread(tmp_path / "classes.png").std() > 0.05


def test_without_a_scored_class_there_is_still_a_picture(tmp_path: Path) -> None:
    table = score_classes(many_classes(2), {})
    nothing = table.with_columns(average_precision=pl.lit(None, pl.Float64))
    write_classes(nothing, tmp_path / "classes.png")
    assert (tmp_path / "classes.png").is_file()


def test_the_most_confused_pairs_come_first_the_larger_share_before_the_smaller() -> None:
    counts = np.array([[5, 3, 0], [3, 1, 0], [9, 0, 40]])
    pairs = confused_pairs(counts, ["owl", "wren", "tit"])
    assert pairs == ["9 of 49: tit as owl", "3 of 4: wren as owl", "3 of 8: owl as wren"]
    assert len(confused_pairs(np.ones((9, 9), int), list("abcdefghi"))) == NUM_PAIRS
