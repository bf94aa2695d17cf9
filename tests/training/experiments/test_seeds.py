"""Median and spread of experiments that differ by their seed alone."""

import json
from pathlib import Path

import pytest

from storage.errors import ConfigError
from tests.training.experiments.test_listing import finished
from tools.cli.command import run
from tools.experiments import COMMAND, main
from training.experiments.experiment import ExperimentConfig, take_experiment
from training.experiments.seeds import spread_over_seeds


def seeded(root: Path, seed: int, kl: float, pooled_auc: float, **settings: object) -> str:
    """A finished experiment with these scores of slices and recordings."""
    name = finished(root, kl, 0.5, seed=seed, **settings)
    file = root / "preds" / name / "scores.json"
    document = json.loads(file.read_text())
    document["pooled"] = {"roc_auc": pooled_auc, "kl": kl / 2, "accuracy": None}
    file.write_text(json.dumps(document))
    return name


def test_the_table_has_median_and_range_of_slices_and_recordings(tmp_path, capsys) -> None:
    names = [seeded(tmp_path, seed, 0.5 + seed / 10, 0.9 - seed / 100) for seed in range(4)]
    spread = spread_over_seeds(tmp_path, names)
    assert spread.seeds == (0, 1, 2, 3)
    assert spread.values["slices"]["kl"] == pytest.approx([0.5, 0.6, 0.7, 0.8])
    assert "accuracy" not in spread.values["recordings"]
    assert run(COMMAND, main, [f"experiment.root={tmp_path}", "--seeds", *names]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["4", "experiments,", "seeds", "0,", "1,", "2,", "3"]
    assert ["slices", "KL", "0.6500", "0.5000", "0.8000", "0.3000"] in lines
    assert ["recordings", "ROC-AUC", "0.8850", "0.8700", "0.9000", "0.0300"] in lines


def test_what_decides_no_score_may_differ(tmp_path) -> None:
    machines = ({"threads": 1}, {"threads": 2, "logger": "csv"})
    names = [seeded(tmp_path, seed, 1, 1, trainer=one) for seed, one in enumerate(machines)]
    assert spread_over_seeds(tmp_path, names).seeds == (0, 1)


def test_other_configs_and_unfinished_experiments_are_refused(tmp_path) -> None:
    one = seeded(tmp_path, 0, 0.5, 0.9)
    again = seeded(tmp_path, 0, 0.5, 0.9)
    other = seeded(tmp_path, 1, 0.5, 0.9, model={"backbone": "resnet34"})
    unfinished = take_experiment(ExperimentConfig(root=str(tmp_path))).name
    for names, message in [
        ([one], "two experiments or more"),
        ([one, one], "each named once"),
        ([one, other], "differ in more than the seed: model.backbone; --compare"),
        ([one, again], "seed=0 is there twice"),
        ([one, unfinished], f"{unfinished} is unfinished"),
        ([one, "exp_099"], "there is no experiment exp_099"),
    ]:
        with pytest.raises(ConfigError, match=message):
            spread_over_seeds(tmp_path, names)
