"""tools.ablate: runs of several variants and seeds, their table, and going on after a stop."""

import json
from pathlib import Path

import pytest

from storage.errors import ConfigError
from tests.small_store import build_small_store
from tools.ablate import COMMAND, main
from tools.cli.ablation import AblationConfig, plan_runs, section_of
from tools.cli.command import run

CONFIG = """
ablation:
  variants:
    as it is: []
    shaky: [augment.noise.p=1, trainer.epochs=2]
  seeds: [3]
  jobs: 2
folds: {num_folds: 3}
train_folds: [0]
model: {backbone: test_resnet, views: [[4, 4]]}
train_loader: {batch_size: 2}
trainer: {epochs: 1, effective_batch_size: 4, progress: false, accelerator: cpu}
"""


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A call on a small store."""
    store = build_small_store(tmp_path, [3, 4, 3, 5, 3, 4, 3, 4, 3])
    config = tmp_path / "ablation.yaml"
    config.write_text(CONFIG)
    return ["--config", str(config), f"store={store}", f"ablation.root={tmp_path / 'runs'}"]


@pytest.mark.slow
def test_every_variant_is_trained_once_and_tabled(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results.md"
    assert run(COMMAND, main, [*words, "--markdown", str(results)]) == 0
    files = {name: _scores_file(tmp_path, name) for name in ("as it is", "shaky")}
    epochs = {
        name: json.loads(file.read_text())["folds"][0]["num_epochs"] for name, file in files.items()
    }
    assert epochs == {"as it is": 1, "shaky": 2}
    for file in files.values():
        accuracy = json.loads(file.read_text())["overall"]["accuracy"]
        assert f"{accuracy:.3f} ± 0.000" in results.read_text()
    assert "python -m tools.ablate --config" in results.read_text()

    before = {name: file.stat().st_mtime_ns for name, file in files.items()}
    files["shaky"].unlink()
    assert run(COMMAND, main, words) == 0
    assert files["as it is"].stat().st_mtime_ns == before["as it is"]
    assert _scores_file(tmp_path, "shaky").is_file()
    assert "shaky" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_that_fails_names_its_log(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(COMMAND, main, [*words, "train_folds=[7]"]) == 1
    log = tmp_path / "runs" / "as it is" / "seed_3" / "log.txt"
    assert f"see {log}" in capsys.readouterr().err
    assert "train_folds" in log.read_text()


def test_the_table_has_means_and_spreads_over_seeds(tmp_path: Path) -> None:
    config = AblationConfig(variants={"plain": []}, seeds=[1, 2, 3], root=str(tmp_path))
    runs = plan_runs(config, ["store=s"])
    for one, accuracy in zip(runs, (0.5, 0.6, 0.7), strict=True):
        preds = one.root / "preds" / "exp_001"
        preds.mkdir(parents=True)
        overall = {"accuracy": accuracy, "roc_auc": None, "kl": 1.0}
        scores = {"overall": overall, "folds": [{"duration_s": 2.0}]}
        (preds / "scores.json").write_text(json.dumps(scores))
        (one.root / "words.json").write_text(json.dumps(one.words))
    line = section_of(config, runs).text().splitlines()[-1].split("  ")
    assert [cell.strip() for cell in line if cell.strip()] == [
        "plain", "1.000 ± 0.000", "-", "-", "0.600 ± 0.100", "-", "2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["ablation.variants={}"], "at least one run"),
        (["ablation.seeds=[]"], "at least one run"),
        (["ablation.jobs=0"], "ablation.jobs=0 must be at least 1"),
        (["ablation.variants={a/b: []}"], "'a/b' must be a name for a folder"),
    ],
    ids=["no variants", "no seeds", "no jobs", "a path"],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(
    wrong: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "ablation.yaml"
    config.write_text("seed: 0\n" if "variants" in wrong[0] else "ablation: {variants: {a: []}}\n")
    assert run(COMMAND, main, ["--config", str(config), *wrong]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def _scores_file(folder: Path, variant: str) -> Path:
    return next((folder / "runs" / variant / "seed_3" / "preds").glob("exp_*/scores.json"))


@pytest.mark.parametrize("word", ["model.backbne=x", "--resume", "trainer.epochs=0"])
def test_a_variant_that_cannot_train_is_named_before_any_run(
    word: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(COMMAND, main, [*words, f"ablation.variants={{good: [], bad: [{word}]}}"]) == 2
    assert "error: ablation.variants: bad: " in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_each_run_is_tested_on_recordings_that_no_training_has_seen(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = next(word for word in words if word.startswith("store=")).removeprefix("store=")
    test = [f"ablation.test={store}", f"ablation.test_labels={store}"]
    variants = "ablation.variants={as it is: [], ranked: ['post=[{file_top: {k: 2}}]']}"
    assert run(COMMAND, main, [*words, *test, variants]) == 0
    assert "test ROC-AUC" in capsys.readouterr().out
    for name in ("as it is", "ranked"):
        root = tmp_path / "runs" / name / "seed_3"
        tested = json.loads((root / "evaluation" / "scores.json").read_text())["levels"][0]
        assert 0 <= tested["roc_auc"] <= 1
        assert (root / "test" / "predictions.parquet").is_file()
    file = tmp_path / "runs" / "ranked" / "seed_3" / "evaluation" / "scores.json"
    before = file.stat().st_mtime_ns
    assert run(COMMAND, main, [*words, *test, variants]) == 0
    assert file.stat().st_mtime_ns == before


def test_a_test_needs_labels() -> None:
    with pytest.raises(ConfigError, match="give both, or none"):
        AblationConfig(test="soundscapes")
