"""Scores against verdicts: only judged cells count; scores that were shown calibrate."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from datasets.reviews import NO, OTHER, UNSURE, YES, ReviewLog, Verdict
from storage.errors import ConfigError
from tools import calibrate, evaluate
from tools.cli.command import run
from training.inference.evaluation.reviewed import (
    decide,
    read_decided,
    read_shown_scores,
    score_reviewed,
)

LABELS = ("owl", "tit", "wren")


def told(log: ReviewLog, name: str, start_s: float, label: str, verdict: str, **more) -> None:
    verdict, _, other = verdict.partition(" ")
    span = {"recording_id": name, "start_s": start_s, "end_s": start_s + 5}
    log.append(
        Verdict(
            **{"annotator": "ana", **more}, verdict=verdict, label=label, other_label=other, **span
        )
    )


def windows(count: int = 8, seed: int = 0) -> pl.DataFrame:
    """Windows of 5 s of the recordings a and b, with random scores."""
    draw = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "recording_id": ["a", "b"] * (count // 2),
            "start_s": np.repeat(np.arange(count // 2) * 5.0, 2),
        }
    ).with_columns(end_s=pl.col("start_s") + 5)
    return frame.with_columns(pl.Series(f"p_{label}", draw.random(count)) for label in LABELS)


def test_judged_cells_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    log, draw, expected = ReviewLog(tmp_path), np.random.default_rng(3), {}
    table = windows()
    for name, start_s in table.select("recording_id", "start_s").iter_rows():
        for label in LABELS:
            verdict = draw.choice([YES, NO, UNSURE, "", ""])
            if not verdict:
                continue
            told(log, name, start_s, label, str(verdict))
            if verdict != UNSURE:
                expected[name, start_s, label] = verdict == YES
    scores = score_reviewed(table, read_decided([str(tmp_path)]))
    found = {}
    for row, (name, start_s) in enumerate(table.select("recording_id", "start_s").iter_rows()):
        for column, label in enumerate(LABELS):
            if scores.judged_NC[row, column]:
                found[name, start_s, label] = bool(scores.present_NC[row, column])
    assert found == expected
    for row in scores.classes().iter_rows(named=True):
        keys = [key for key in expected if key[2] == row["label"]]
        truth = [expected[key] for key in keys]
        values = [
            table.filter(recording_id=key[0], start_s=key[1])[f"p_{key[2]}"][0] for key in keys
        ]
        assert (row["n"], row["n_present"]) == (len(truth), sum(truth))
        assert row["average_precision"] == pytest.approx(average_precision_score(truth, values))
        assert row["roc_auc"] == pytest.approx(roc_auc_score(truth, values))


def test_another_species_counts_for_both(tmp_path: Path) -> None:
    told(ReviewLog(tmp_path), "a", 5.0, "owl", f"{OTHER} tit")
    scores = score_reviewed(windows(), read_decided([str(tmp_path)]))
    assert np.argwhere(scores.judged_NC).tolist() == [[2, 0], [2, 1]]
    assert np.argwhere(scores.present_NC).tolist() == [[2, 1]]
    text = scores.text([0.5])
    assert "2 judged cells (a window and a class) of 1 windows and 2 classes: 1 there" in text


def test_people_who_differ_decide_nothing(tmp_path: Path) -> None:
    log = ReviewLog(tmp_path)
    told(log, "a", 0.0, "owl", YES)
    told(log, "a", 0.0, "owl", NO, annotator="ben")
    told(log, "b", 0.0, "owl", YES)
    scores = score_reviewed(windows(), read_decided([str(tmp_path)]))
    assert np.argwhere(scores.judged_NC).tolist() == [[1, 0]]


def test_a_class_that_a_model_lacks_is_not_judged(tmp_path: Path) -> None:
    log = ReviewLog(tmp_path)
    told(log, "a", 0.0, "owl", YES)
    told(log, "a", 0.0, "tit", YES)
    table = windows().with_columns(p_owl=pl.lit(None, pl.Float64))
    assert score_reviewed(table, read_decided([str(tmp_path)])).judged_NC.sum() == 1


@pytest.mark.parametrize(
    ("label", "name", "message"),
    [("ape", "a", "none of 1 decided labels"), ("owl", "z", "none of 1 decided labels")],
)
def test_reviews_of_other_things_are_refused(tmp_path: Path, label, name, message) -> None:
    told(ReviewLog(tmp_path), name, 0.0, label, YES)
    with pytest.raises(ConfigError, match=message):
        score_reviewed(windows(), read_decided([str(tmp_path)]))


def test_decisions_by_hand() -> None:
    scores, there = np.array([0.9, 0.8, 0.3, 0.1]), np.array([True, False, True, False])
    assert decide(scores, there, 0.5) == (0.5, 0.5, 0.5)
    assert decide(scores, there, 0.05) == (0.5, 1, 2 / 3)
    assert np.isnan(decide(scores, there, 1)[0])


def test_shown_scores_with_their_verdicts(tmp_path: Path) -> None:
    log = ReviewLog(tmp_path)
    told(log, "b", 5.0, "owl", YES, score=0.9, model="m")
    told(log, "b", 5.0, "tit", f"{OTHER} wren", score=0.4, model="m")
    told(log, "a", 0.0, "owl", NO, score=0.3, model="m")
    told(log, "a", 5.0, "owl", UNSURE, score=0.3, model="m")
    told(log, "a", 10.0, "owl", YES)
    found = read_shown_scores([str(tmp_path)])
    assert found.labels == ("owl", "tit")
    assert np.array_equal(found.scores_NC, [[0.3, np.nan], [0.9, 0.4]], equal_nan=True)
    assert found.positives_NC.tolist() == [[False, False], [True, False]]
    assert found.recording_no_N.tolist() == [0, 1]
    told(log, "c", 0.0, "owl", YES, score=0.2, model="n")
    with pytest.raises(ConfigError, match=r"of 2 models, m, n: name one as calibrate\.model"):
        read_shown_scores([str(tmp_path)])
    assert read_shown_scores([str(tmp_path)], "n").scores_NC.tolist() == [[0.2]]
    with pytest.raises(ConfigError, match=r"no score of calibrate\.model=o was shown"):
        read_shown_scores([str(tmp_path)], "o")


def test_the_commands(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    draw, log, table = np.random.default_rng(1), ReviewLog(Path("reviews")), windows(60)
    for name, start_s, score in table.select("recording_id", "start_s", "p_owl").iter_rows():
        there = YES if draw.random() < score**2 else NO
        told(log, name, start_s, "owl", there, score=score, model="m")
    table.write_parquet("predictions.parquet")
    words = ["evaluate.predictions=predictions.parquet", "evaluate.reviews=reviews"]
    assert run(evaluate.COMMAND, evaluate.main, [*words, "evaluate.out=out"]) == 0
    assert "60 judged cells" in capsys.readouterr().out
    assert pl.read_csv("out/reviewed_classes.csv")["n"].to_list() == [60]
    assert run(calibrate.COMMAND, calibrate.main, ["calibrate.reviews=reviews"]) == 0
    assert "60 scores with a verdict" in capsys.readouterr().out
    owl = pl.read_csv("calibration.csv").row(0, named=True)
    assert (owl["label"], owl["n"]) == ("owl", 60)
    both = ["calibrate.reviews=reviews", "calibrate.from=predictions.parquet"]
    assert run(calibrate.COMMAND, calibrate.main, both) == 2
    assert run(evaluate.COMMAND, evaluate.main, [*words, "evaluate.annotations=a.csv"]) == 2
