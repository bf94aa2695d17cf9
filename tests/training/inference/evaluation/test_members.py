"""The blend without each member has the scores of blending the others by hand."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from storage.errors import ConfigError
from storage.recipe import Recipe
from tools.cli.command import run
from tools.evaluate import COMMAND, main
from training.inference.config import OutputSections
from training.inference.evaluation.annotations import SCHEMA, Annotations
from training.inference.evaluation.config import EvaluateConfig
from training.inference.evaluation.evaluate import evaluate
from training.inference.evaluation.members import evaluate_members, kept_blend
from training.inference.post.blend import BlendConfig
from training.inference.predictions import ClassTable, PredictedRecording
from training.inference.reading.inputs import InputRecording
from training.inference.results import RawPredictions, Results, Run

LABELS = ("robin", "wren")
QUICK = EvaluateConfig(bootstrap=0)
START_S = np.arange(6) * 5.0


def write_run(folder: Path, branches: tuple[str, ...]) -> np.ndarray:
    """Raw results of four recordings of six windows; their probabilities, float32 [B, 24, 2]."""
    run = Run(
        branches=branches,
        classes=ClassTable(labels=LABELS, names={}),
        decides={},
        about={"recipe": asdict(Recipe())},
    )
    names = [f"r{number}" for number in range(4)]
    results, generator = Results(folder), np.random.default_rng(0)
    results.begin(
        run, tuple(InputRecording(recording_id=name, path=f"{name}.wav") for name in names)
    )
    values = generator.random((len(branches), 24, 2)).astype(np.float32)
    for number, name in enumerate(names):
        raw = RawPredictions(
            recording=PredictedRecording(recording_id=name, path=f"{name}.wav", duration_s=30.0),
            start_s=START_S,
            end_s=START_S + 5,
            silent=np.zeros(6, bool),
            probabilities=values[:, number * 6 : number * 6 + 6],
        )
        results.write(number, raw, LABELS)
    return values


@pytest.fixture
def annotations() -> Annotations:
    generator = np.random.default_rng(1)
    rows = [
        (f"r{row // 6}.wav", row % 6 * 5.0 + 1, row % 6 * 5.0 + 3, label)
        for row in range(24)
        for label in LABELS
        if generator.random() < 0.4
    ]
    return Annotations(table=pl.DataFrame(rows, schema=SCHEMA, orient="row"), where="a.csv")


def blended(values: np.ndarray) -> pl.DataFrame:
    """The windows with these probabilities, float32 [24, 2]."""
    return pl.DataFrame(
        {
            "recording_id": np.repeat([f"r{number}" for number in range(4)], 6),
            "start_s": np.tile(START_S, 4),
            "end_s": np.tile(START_S + 5, 4),
            **{f"p_{label}": values[:, place] for place, label in enumerate(LABELS)},
        }
    )


def scores(values: np.ndarray, annotations: Annotations) -> dict[str, float]:
    """Scores of windows with these probabilities, float32 [24, 2]."""
    return evaluate(blended(values), annotations, QUICK).levels[0].scores


def test_each_member_is_left_out_of_the_same_blend(tmp_path, annotations):
    values = write_run(tmp_path, ("a", "b", "c"))
    sections = OutputSections(blend=BlendConfig(weights=[2, 1, 1]))
    found = evaluate_members(tmp_path, annotations, QUICK, sections)
    assert found.whole == pytest.approx(
        scores(np.average(values, axis=0, weights=[2, 1, 1]).astype(np.float32), annotations)
    )
    for place, name in enumerate("abc"):
        rest = [other for other in range(3) if other != place]
        weights = np.array([2, 1, 1])[rest]
        mean = np.average(values[rest], axis=0, weights=weights).astype(np.float32)
        assert found.without[name] == pytest.approx(scores(mean, annotations))
        assert found.alone[name] == pytest.approx(scores(values[place], annotations))
    text = found.text()
    assert all(len(line) <= 80 for line in text.splitlines())
    assert f"{found.whole['roc_auc'] - found.without['b']['roc_auc']:+.4f}" in text


def test_the_rest_goes_through_the_same_steps(tmp_path, annotations):
    write_run(tmp_path, ("a", "b"))
    smooth = replace(OutputSections(), post=[{"smooth": {"kernel": [0.2, 0.6, 0.2]}}])
    plain, smoothed = (
        evaluate_members(tmp_path, annotations, QUICK, sections)
        for sections in (OutputSections(), smooth)
    )
    assert plain.without["a"] == pytest.approx(plain.alone["b"])
    assert smoothed.without["a"] == pytest.approx(smoothed.alone["b"])
    assert smoothed.without["a"] != pytest.approx(plain.without["a"])


def test_weights_follow_the_members_that_are_kept():
    only = {"labels": ["wren"]}
    blend = BlendConfig(
        weights=[0, 0, 1],
        class_weights=[{"only": only, "weights": [1, 0, 2]}],
    )
    kept = kept_blend(blend, [0, 2])
    assert kept.weights == [0, 1]
    assert kept.class_weights == [{"only": only, "weights": [1, 2]}]
    assert kept_blend(blend, [0, 1]).weights == []
    assert kept_blend(blend, [1]).class_weights == []


def test_the_command_prints_the_gains_of_one_folder(tmp_path, annotations, capsys):
    values = write_run(tmp_path, ("first", "second"))
    rows = annotations.table.select("file", "start_s", "end_s", labels="label")
    rows.write_csv(tmp_path / "annotations.csv")
    blended(values.mean(0)).write_parquet(tmp_path / "predictions.parquet")
    words = [f"evaluate.annotations={tmp_path}/annotations.csv", "evaluate.members=true"]
    words.append("evaluate.bootstrap=0")
    assert run(COMMAND, main, [f"evaluate.predictions={tmp_path}", *words]) == 0
    printed = capsys.readouterr().out
    assert "gain of each member" in printed
    assert "second  " in printed
    twice = f"evaluate.predictions=[{tmp_path},{tmp_path}]"
    assert run(COMMAND, main, [twice, *words]) == 2
    assert "evaluate.members takes one folder" in capsys.readouterr().err


def test_one_model_and_folders_without_raw_results_are_refused(tmp_path):
    write_run(tmp_path / "one", ("a",))
    with pytest.raises(ConfigError, match="of one model, a: predict with two or more"):
        evaluate_members(tmp_path / "one", None, QUICK, OutputSections())
    with pytest.raises(ConfigError, match=r"has no predict\.json"):
        evaluate_members(tmp_path, None, QUICK, OutputSections())
