"""Means of held-out predictions, of experiments that held out the same."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from storage.errors import ConfigError
from tests.full_disk import largest_file
from tests.training.experiments.test_listing import finished
from tools.cli.command import run
from tools.experiments import COMMAND, main
from training.experiments.blend import blend_experiments

TARGETS = [["a"], ["b", "a"], ["b"], ["a"]]
FOLDS = [0, 0, 1, 1]


def predictions(p_a: list[float], folds: list[int] = FOLDS) -> pl.DataFrame:
    """Two slices of each of four recordings."""
    rows = range(8)
    return pl.DataFrame(
        {
            "recording_id": [f"r{row // 2}" for row in rows],
            "row": list(rows),
            "fold": [folds[row // 2] for row in rows],
            "target": [TARGETS[row // 2] for row in rows],
            "p_a": np.repeat(np.array(p_a, np.float32), 2),
            "p_b": np.repeat(1 - np.array(p_a, np.float32), 2),
        }
    )


def experiment(root: Path, slices: pl.DataFrame, **settings: object) -> str:
    """A finished one with these predictions, in an order of its own."""
    name = finished(root, 0.5, 0.7, **settings)
    pooled = slices.group_by("recording_id", maintain_order=True).first().drop("row")
    for frame, file in ((slices, "oof.parquet"), (pooled, "oof_recordings.parquet")):
        mixed = frame.sample(fraction=1.0, shuffle=True, seed=len(name))
        mixed.write_parquet(root / "preds" / name / file)
    return name


def test_a_blend_is_the_mean_and_scored_by_folds(tmp_path: Path) -> None:
    right_but_for_the_last = predictions([0.9, 0.2, 0.1, 0.4])
    right_but_for_the_first = predictions([0.4, 0.1, 0.2, 0.8])
    names = [
        experiment(tmp_path, frame) for frame in (right_but_for_the_last, right_but_for_the_first)
    ]
    blend = blend_experiments(tmp_path, names)
    assert blend.slices["p_a"].to_list() == pytest.approx([0.65] * 2 + [0.15] * 4 + [0.6] * 2)
    assert blend.recordings["p_a"].to_list() == pytest.approx([0.65, 0.15, 0.15, 0.6])
    assert [scores["accuracy"] for scores in blend.members.values()] == [0.75, 0.75]
    lines = [line.split() for line in blend.table().splitlines()]
    accuracies = {" ".join(line[:2]): line[-2] for line in lines if len(line) > 4}
    assert accuracies["fold 0"] == accuracies["fold 1"] == accuracies["all slices"] == "1.0000"
    assert accuracies["exp_001 alone"] == "0.7500"


def test_each_member_is_also_left_out_and_compared_with_the_others(tmp_path: Path) -> None:
    values = [[0.9, 0.2, 0.1, 0.4], [0.4, 0.1, 0.2, 0.8], [0.8, 0.3, 0.2, 0.1]]
    names = [experiment(tmp_path, predictions(p_a)) for p_a in values]
    blend = blend_experiments(tmp_path, names, [2, 1, 1])
    for place, name in enumerate(names):
        others = [other for other in names if other != name]
        weights = [weight for weight, other in zip([2, 1, 1], names, strict=True) if other != name]
        expected = blend_experiments(tmp_path, others, weights)
        assert blend.without[name] == pytest.approx(expected.slices_score())
        rank = spearmanr(values[place], values[(place + 1) % 3]).statistic
        assert blend.correlation_BB[place, (place + 1) % 3] == pytest.approx(rank)
    text = blend.table()
    gain = blend.slices_score()["kl"] - blend.without["exp_002"]["kl"]
    assert f"without exp_003{' ' * 7}8" in text
    assert f"{gain:+.4f}" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_weights_are_those_of_a_weighted_mean(tmp_path: Path) -> None:
    frames = [predictions([0.8] * 4), predictions([0.2] * 4)]
    names = [experiment(tmp_path, frame) for frame in frames]
    blend = blend_experiments(tmp_path, names, [3, 1])
    assert blend.slices["p_a"].to_list() == pytest.approx([0.65] * 8)


def test_what_cannot_be_averaged_is_refused_with_the_reason(tmp_path: Path) -> None:
    one = experiment(tmp_path, predictions([0.5] * 4))
    other_folds = experiment(tmp_path, predictions([0.5] * 4, [0, 1, 0, 1]))
    other_classes = experiment(tmp_path, predictions([0.5] * 4).rename({"p_b": "p_c"}))
    other_weight = experiment(
        tmp_path, predictions([0.5] * 4), loss={"name": "ce", "secondary_weight": 0.5}
    )
    without = finished(tmp_path, 0.5, 0.7)
    for names, weights, message in [
        ([one], [], "two experiments or more"),
        ([one, one], [], "each named once"),
        ([one, other_folds], [1], "2 weights above 0, not 1$"),
        ([one, other_folds], [1, -1], "2 weights above 0, not 1, -1$"),
        ([one, other_folds], [], "held out different recordings, or in other folds"),
        ([one, other_classes], [], "differ in classes"),
        ([one, other_weight], [], "differ in loss.secondary_weight"),
        ([one, without], [], r"oof\.parquet cannot be read"),
        ([one, "exp_099"], [], "there is no experiment exp_099"),
    ]:
        with pytest.raises(ConfigError, match=message):
            blend_experiments(tmp_path, names, weights)


def test_a_blend_that_does_not_fit_on_the_disk_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        experiment(tmp_path, predictions([0.9, 0.2, 0.1, 0.4]))
    out = tmp_path / "blend"
    words = [f"experiment.root={tmp_path}", "--blend", "exp_001", "exp_002", "--out", str(out)]
    blend = blend_experiments(tmp_path, ["exp_001", "exp_002"])
    blend.write(tmp_path)
    enough_for_one = (tmp_path / "oof_recordings.parquet").stat().st_size
    assert enough_for_one < (tmp_path / "oof.parquet").stat().st_size
    with largest_file(enough_for_one):
        assert run(COMMAND, main, words) == 1
    assert ".parquet cannot be written (" in capsys.readouterr().err
    assert list(out.iterdir()) == []
    assert run(COMMAND, main, words) == 0


def test_the_command_prints_the_table_and_writes_what_training_takes_as_targets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for p_a in ([0.9, 0.2, 0.1, 0.4], [0.4, 0.1, 0.2, 0.8]):
        experiment(tmp_path, predictions(p_a))
    words = [f"experiment.root={tmp_path}", "--blend", "exp_001", "exp_002"]
    out = tmp_path / "preds" / "blend"
    assert run(COMMAND, main, [*words, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "all slices" in printed
    assert "exp_002 alone" in printed
    assert pl.read_parquet(out / "oof.parquet")["row"].to_list() == list(range(8))
    before = (tmp_path / "preds" / "exp_001" / "oof.parquet").read_bytes()
    for taken in (out, tmp_path / "preds" / "exp_001"):
        assert run(COMMAND, main, [*words, "--out", str(taken)]) == 2
        assert capsys.readouterr().err.endswith("is not empty: give a new folder\n")
    assert (tmp_path / "preds" / "exp_001" / "oof.parquet").read_bytes() == before
    assert run(COMMAND, main, [*words, "--out", str(out / "oof.parquet")]) == 2
    assert "cannot be made" in capsys.readouterr().err
    assert run(COMMAND, main, [words[0], "--blend", "exp_001", "exp_009"]) == 2
    assert "there is no experiment exp_009" in capsys.readouterr().err
    assert run(COMMAND, main, [words[0], "--weights", "1"]) == 2
    assert "--blend EXP EXP" in capsys.readouterr().err
