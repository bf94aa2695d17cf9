"""The listing of tools.experiments shows what experiments have written."""

import json
from pathlib import Path

import pytest

from storage.errors import ConfigError
from tools.cli.command import run
from tools.experiments import COMMAND, main
from training.experiments.experiment import (
    ExperimentConfig,
    guard_experiment,
    take_experiment,
)
from training.experiments.listing import compare_experiments, experiment_table, list_experiments
from training.experiments.settings import write_settings


def finished(root: Path, kl: float, accuracy: float | None, **settings: object) -> str:
    experiment = take_experiment(ExperimentConfig(root=str(root)))
    write_settings(experiment, {"seed": 0, "model": {"backbone": "resnet18"}, **settings})
    folds = [{"fold": fold, "duration_s": 90.0} for fold in range(2)]
    overall = {"kl": kl, "roc_auc": 0.9, "accuracy": accuracy}
    document = {"folds": folds, "overall": overall}
    (experiment.preds / "scores.json").write_text(json.dumps(document), encoding="utf-8")
    return experiment.name


@pytest.fixture
def root(tmp_path: Path) -> Path:
    finished(tmp_path, 0.5, 0.7)
    failing = take_experiment(ExperimentConfig(root=str(tmp_path)))
    with pytest.raises(ValueError, match="no"), guard_experiment(failing):
        raise ValueError("no good")
    take_experiment(ExperimentConfig(root=str(tmp_path)))
    finished(tmp_path, 0.3, 0.9, seed=1, model={"backbone": "resnet34", "dropout": 0.1})
    return tmp_path


def test_every_experiment_is_listed_with_its_outcome(root: Path) -> None:
    table = experiment_table(list_experiments(root))
    assert table["experiment"].to_list() == ["exp_001", "exp_002", "exp_003", "exp_004"]
    assert table["status"].to_list() == ["finished", "failed", "unfinished", "finished"]
    assert table["KL"].to_list() == [0.5, None, None, 0.3]
    assert table["folds"].to_list() == [2, 0, 0, 2]
    assert table["minutes"].to_list() == [3.0, None, None, 3.0]
    assert "no good" in table["why"][1]


@pytest.mark.parametrize(("sort", "first"), [("kl", "exp_004"), ("accuracy", "exp_004")])
def test_the_best_comes_first_and_those_without_scores_last(
    sort: str, first: str, root: Path
) -> None:
    names = experiment_table(list_experiments(root), sort)["experiment"].to_list()
    assert names[:2] == [first, "exp_001"]


def test_comparing_shows_scores_and_only_what_differs(root: Path) -> None:
    table = compare_experiments(list_experiments(root), ["exp_001", "exp_004"])
    lines = {line[0]: line[1:] for line in table.iter_rows()}
    assert lines["KL"] == ("0.5000", "0.3000")
    assert lines["cmAP"] == ("-", "-")
    assert lines["model.dropout"] == ("-", "0.1000")
    assert lines["seed"] == ("0", "1")
    assert "model" not in lines


def test_names_and_orders_that_do_not_exist_are_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match="exp_009"):
        compare_experiments(list_experiments(root), ["exp_009"])
    with pytest.raises(ConfigError, match="speed"):
        experiment_table(list_experiments(root), "speed")


def test_the_command_prints_them(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(COMMAND, main, [f"experiment.root={root}", "--sort", "kl"]) == 0
    printed = capsys.readouterr().out
    assert printed.index("exp_004") < printed.index("exp_001")
    assert (
        run(COMMAND, main, ["--compare", "exp_001", "exp_004", "--", f"experiment.root={root}"])
        == 0
    )
    assert "resnet34" in capsys.readouterr().out


def test_a_damaged_file_is_named_beside_the_others(root: Path) -> None:
    before = {record.name: record for record in list_experiments(root)}
    finished = next(name for name, record in before.items() if record.status == "finished")
    (root / "preds" / finished / "scores.json").write_text("{")
    (root / "configs" / f"{finished}.yaml").write_text("a: [\n")
    after = {record.name: record for record in list_experiments(root)}
    assert after.keys() == before.keys()
    assert after[finished].reason.endswith("scores.json is damaged")
