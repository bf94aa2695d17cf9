"""Scores of predictions agree with scikit-learn's, at each level."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import gmean

from storage.errors import ConfigError
from training.experiments.report import score_frame
from training.inference.evaluation.annotations import SCHEMA, Annotations
from training.inference.evaluation.config import EvaluateConfig
from training.inference.evaluation.errors import worst_errors
from training.inference.evaluation.evaluate import evaluate
from training.inference.evaluation.labelled import read_predictions
from training.inference.evaluation.report import class_table, report_text, scores_json

LABELS = ("robin", "wren", "frog")
QUICK = EvaluateConfig(bootstrap=20)


@pytest.fixture
def positives() -> np.ndarray:
    return np.random.default_rng(1).random((48, 3)) < [0.3, 0.4, 0.3]


@pytest.fixture
def predictions(positives: np.ndarray) -> pl.DataFrame:
    """Eight recordings of six windows each, at two sites."""
    generator = np.random.default_rng(2)
    logits = generator.normal(np.where(positives, 1, -1), 1.5)
    columns = {f"p_{label}": 1 / (1 + np.exp(-logits[:, at])) for at, label in enumerate(LABELS)}
    names = [f"{'AB'[at % 2]}_20240601_0{at}3000" for at in range(8)]
    return pl.DataFrame(
        {
            "recording_id": np.repeat(names, 6),
            "start_s": np.tile(np.arange(6) * 5.0, 8),
            "end_s": np.tile(np.arange(6) * 5.0 + 5, 8),
            **columns,
        }
    ).with_columns(pl.col("^p_.*$").cast(pl.Float32))


@pytest.fixture
def annotations(predictions: pl.DataFrame, positives: np.ndarray) -> Annotations:
    windows = predictions.select("recording_id", "start_s").rows()
    rows = [
        (f"{windows[row][0]}.wav", windows[row][1] + 1, windows[row][1] + 2, LABELS[place])
        for row, place in np.argwhere(positives)
    ]
    return Annotations(table=pl.DataFrame(rows, schema=SCHEMA, orient="row"), where="a.csv")


def test_scores_are_those_of_scikit_learn(
    predictions: pl.DataFrame, annotations: Annotations, positives: np.ndarray
) -> None:
    from sklearn import metrics

    found = evaluate(predictions, annotations, QUICK)
    scores = predictions.select("^p_.*$").to_numpy()
    np.testing.assert_array_equal(found.positives_NC, positives)
    windows = found.levels[0]
    assert (windows.num, windows.num_classes) == (48, 3)
    assert windows.scores["roc_auc"] == pytest.approx(metrics.roc_auc_score(positives, scores))
    precision = metrics.average_precision_score(positives, scores)
    assert windows.scores["cmap"] == pytest.approx(precision)
    for name, decisions in found.thresholds.items():
        detected = scores >= np.float32(float(name))
        micro = metrics.precision_recall_fscore_support(
            positives, detected, average="micro", zero_division=np.nan
        )
        assert decisions.micro() == pytest.approx(micro[:3], nan_ok=True)
        macro = metrics.f1_score(positives, detected, average="macro", zero_division=0)
        assert decisions.macro_f1() == pytest.approx(macro)
    labelled = positives.any(1)
    right = positives[np.arange(48), scores.argmax(1)] & (positives.sum(1) == 1)
    single = positives.sum(1) == 1
    alone = evaluate(
        predictions.filter(single),
        annotations,
        EvaluateConfig(bootstrap=0),
    )
    assert alone.levels[0].scores["accuracy"] == pytest.approx(right[single].mean())
    assert 0 < labelled.sum() < 48


def test_recordings_sites_and_taxa_have_scores_of_their_own(
    predictions: pl.DataFrame, annotations: Annotations, positives: np.ndarray, tmp_path: Path
) -> None:
    from sklearn.metrics import roc_auc_score

    path = tmp_path / "taxonomy.csv"
    text = (
        "primary_label,common_name,class_name\nrobin,Robin,Aves\nwren,Wren,Aves\nfrog,,Amphibia\n"
    )
    path.write_text(text, encoding="utf-8")
    most = evaluate(predictions, annotations, EvaluateConfig(bootstrap=0, pool="max"))
    highest = predictions.select("^p_.*$").to_numpy().reshape(8, 6, 3).max(1)
    np.testing.assert_allclose(most.recordings.select("^p_.*$").to_numpy(), highest)
    typical = evaluate(predictions, annotations, EvaluateConfig(bootstrap=0, pool="geometric"))
    geometric = gmean(predictions.select("^p_.*$").to_numpy().reshape(8, 6, 3), axis=1)
    np.testing.assert_allclose(typical.recordings.select("^p_.*$").to_numpy(), geometric, rtol=1e-5)
    config = EvaluateConfig(bootstrap=0, taxonomy=str(path))
    levels = {level.name: level for level in evaluate(predictions, annotations, config).levels}
    assert list(levels) == ["windows", "recordings", "site A", "site B", "Amphibia", "Aves"]
    scores = predictions.select("^p_.*$").to_numpy()
    at_a = predictions["recording_id"].str.starts_with("A").to_numpy()
    site = roc_auc_score(positives[at_a], scores[at_a])
    assert levels["site A"].scores["roc_auc"] == pytest.approx(site)
    birds = roc_auc_score(positives[:, :2], scores[:, :2])
    assert levels["Aves"].scores["roc_auc"] == pytest.approx(birds)
    assert (levels["Aves"].num_classes, levels["Amphibia"].num_classes) == (2, 1)
    pooled = scores.reshape(8, 6, 3).mean(1)
    heard = positives.reshape(8, 6, 3).any(1)
    defined = heard.any(0) & ~heard.all(0)
    recordings = roc_auc_score(heard[:, defined], pooled[:, defined])
    assert levels["recordings"].scores["roc_auc"] == pytest.approx(recordings)


def test_classes_that_no_model_has_are_left_out_and_named(
    predictions: pl.DataFrame, annotations: Annotations
) -> None:
    masked = predictions.with_columns(p_wren=pl.lit(np.nan, pl.Float32))
    found = evaluate(masked, annotations, QUICK)
    assert found.classes.labels == ("robin", "frog")
    assert "classes without predictions: 1, wren" in found.notes
    expected = evaluate(predictions.drop("p_wren"), annotations, QUICK)
    assert found.levels[0].scores == expected.levels[0].scores
    partly = predictions.with_columns(
        p_wren=pl.when(pl.col("start_s") > 0).then("p_wren").otherwise(np.nan)
    )
    with pytest.raises(ConfigError, match="numbers in some rows and NaN in others"):
        evaluate(partly, annotations, QUICK)


def test_own_targets_count_where_there_are_no_annotations(
    predictions: pl.DataFrame, annotations: Annotations
) -> None:
    given = evaluate(predictions, annotations, QUICK)
    again = evaluate(given.windows.drop("start_s", "end_s"), None, QUICK)
    assert again.levels[0].scores == given.levels[0].scores
    labelled = given.windows.filter(pl.col("target").list.len() > 0)
    scores = evaluate(labelled, None, QUICK).levels[0].scores
    assert scores == score_frame(labelled, QUICK.secondary_weight)  # as a training has them
    with pytest.raises(ConfigError, match=r"lack.* the columns target"):
        evaluate(predictions, None, QUICK)
    with pytest.raises(ConfigError, match=r"lack.* the columns end_s"):
        evaluate(predictions.drop("end_s"), annotations, QUICK)
    with pytest.raises(ConfigError, match=r"the columns p_wren:"):
        evaluate(predictions.with_columns(p_wren=pl.lit("x")), annotations, QUICK)
    with pytest.raises(ConfigError, match="have no row"):
        evaluate(predictions[:0], annotations, QUICK)


def test_windows_without_any_label_are_negatives(predictions: pl.DataFrame) -> None:
    nothing = Annotations(
        table=pl.DataFrame(
            [(name, None, None, None) for name in predictions["recording_id"].unique()],
            schema=SCHEMA,
            orient="row",
        ),
        where="a.csv",
    )
    found = evaluate(predictions, nothing, QUICK)
    assert found.levels[0].num_classes == 0
    assert found.thresholds["0.1"].micro()[0] == 0
    assert set(worst_errors(found, 3)["kind"]) == {"false positive"}
    assert "windows" in report_text(found)
    assert class_table(found)["roc_auc"].null_count() == 3
    assert "NaN" not in scores_json(found)


def test_the_worst_errors_are_one_per_recording_and_label(
    predictions: pl.DataFrame, annotations: Annotations, positives: np.ndarray
) -> None:
    errors = worst_errors(evaluate(predictions, annotations, QUICK), 5)
    scores = predictions.select("^p_.*$").to_numpy()
    false = errors.filter(pl.col("kind") == "false positive")
    missed = errors.filter(pl.col("kind") == "missed")
    assert (len(false), len(missed)) == (5, 5)
    assert false["score"][0] == scores[~positives].max()
    assert missed["score"][0] == scores[positives].min()
    for part in (false, missed):
        assert not part.select("recording_id", "label").is_duplicated().any()


def test_thresholds_of_classes(
    predictions: pl.DataFrame, annotations: Annotations, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("label,threshold\nrobin,0.2\nwren,\n", encoding="utf-8")
    config = EvaluateConfig(bootstrap=0, thresholds=[], class_thresholds=str(path))
    found = evaluate(predictions, annotations, config)
    assert class_table(found)["threshold"].to_list() == [0.2, 0.5, 0.5]
    assert list(found.thresholds) == ["per class"]
    path.write_text("label,threshold\nrobbin,0.2\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="robbin is no class of the predictions"):
        evaluate(predictions, annotations, config)


def test_tables_of_one_run_are_joined_once(predictions: pl.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    predictions[:24].write_parquet(tmp_path / "run" / "predictions.parquet")
    predictions[24:].write_parquet(tmp_path / "b.parquet")
    paths = [str(tmp_path / "run"), str(tmp_path / "b.parquet")]
    assert read_predictions(paths).equals(predictions)
    with pytest.raises(ConfigError, match=r"is in .* and in a table before it"):
        read_predictions([*paths, paths[1]])
    with pytest.raises(ConfigError, match="cannot be read as Parquet"):
        read_predictions([str(tmp_path / "none.parquet")])
    with pytest.raises(ConfigError, match="names no table"):
        read_predictions([])
