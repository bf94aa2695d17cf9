"""Rounds as users type them: a test bed, focal training, pseudo-labels, the next training."""

from pathlib import Path

import polars as pl
import pytest

import tools.build_store
import tools.evaluate
import tools.mix_soundscapes
import tools.predict
import tools.pseudo_label
import tools.train
from tests.paths import ROOT
from tests.small_store import SHORT
from tests.tools.soundscapes.sources import write_backgrounds, write_recordings
from tools.cli.command import run

RECIPE = (
    "recipe.sample_rate_hz=8000",
    "recipe.fmax_hz=4000",
    "recipe.slice_s=2",
    "recipe.slice_step_s=2",
    "recipe.n_mels=32",
)


def call(module: object, *words: object) -> int:
    config = ["--config", str(ROOT / "configs" / "base.yaml")]
    return run(module.COMMAND, module.main, [*config, *map(str, words)])


def test_a_wrong_call_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(tools.pseudo_label) == 2
    assert "predict.from names no model" in capsys.readouterr().err
    assert call(tools.pseudo_label, "pseudo.transform=[{powr: 2}]") == 2
    assert "Did you mean power?" in capsys.readouterr().err
    assert call(tools.pseudo_label, "pseudo.seen=never") == 2
    assert "pseudo.seen=never is none of refuse, drop, allow" in capsys.readouterr().err


def made(*words: object) -> None:
    """Runs a command that must do what it is asked."""
    module, *others = words
    assert call(module, *others) == 0


def build_stores(root: Path) -> None:
    """A test bed of three classes in `root/bed`, and the stores focal, pool and labelled."""
    write_recordings(root / "birds", num_classes=3, num_recordings=10)
    write_backgrounds(root / "noise", number=4)
    bed = root / "bed"
    sources = (f"mix.recordings={root / 'birds'}", f"mix.backgrounds=[{root / 'noise'}]")
    numbers = ("mix.pool=4", "mix.labelled=2", "mix.test=3", "mix.duration_s=12", "mix.window_s=2")
    made(tools.mix_soundscapes, *sources, f"mix.out={bed}", *numbers, "mix.min_calls=10")
    for name in ("focal", "pool", "labelled"):
        csv = "auto" if name == "focal" else "none"
        places = (f"source.root={bed / name}", f"source.csv={csv}", f"store={root / name}")
        made(tools.build_store, *places, *RECIPE, "build.workers=1")


def train(root: Path, targets: Path | None = None) -> None:
    """Trains one fold of the focal recordings, with targets of the pool and labelled segments."""
    words = [f"experiment.root={root}", *SHORT, "trainer.epochs=1", "train_folds=[0]"]
    words.append(f"sources.focal.store={root / 'focal'}")
    if targets is not None:
        words += [
            f"sources.pool.store={root / 'pool'}",
            "sources.pool.train_only=true",
            f"sources.pool.targets={targets}",
            "sources.pool.missing_targets=drop",
            f"sources.lss.store={root / 'labelled'}",
            f"sources.lss.segments={root / 'bed' / 'labelled_segments.csv'}",
        ]
    made(tools.train, *words)


@pytest.mark.slow  # three trainings
def test_from_a_test_bed_to_the_second_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_stores(tmp_path)
    train(tmp_path)
    preds, where = tmp_path / "preds", f"experiment.root={tmp_path}"
    machine = ("predict.accelerator=cpu", "predict.threads=1")
    teach = (where, f"predict.input={tmp_path / 'pool'}", "pseudo.folds=2", *machine)
    first = (f"predict.out={preds / 'round_1'}", "predict.from=exp_001")
    steps = "pseudo.transform=[{floor: 0.1}, {power: 1.5}, {cap_sum: 0.75}]"
    made(tools.pseudo_label, *teach, *first, steps)
    for fold in (0, 1):  # a student without each fold of the pool
        train(tmp_path, preds / "round_1" / f"targets_without_fold_{fold}.parquet")
    assert set(pl.read_parquet(preds / "exp_002" / "oof.parquet")["source"]) == {"focal"}
    capsys.readouterr()
    before = f"pseudo.previous={preds / 'round_1' / 'targets.parquet'}"
    second = (*teach, f"predict.out={preds / 'round_2'}", before)
    assert call(tools.pseudo_label, *second, "predict.from=exp_002") == 2
    assert "learned from by all teachers (exp_002)" in capsys.readouterr().err
    made(tools.pseudo_label, *second, "predict.from=[exp_002,exp_003]")
    told = capsys.readouterr().out
    assert "24 slices of 4 recordings have targets, 0 are left out" in told
    assert "round before: 24 slices in common" in told
    bed, out = tmp_path / "bed", preds / "test"
    given = (f"predict.input={bed / 'test'}", f"predict.out={out}", "predict.workers=0", *machine)
    made(tools.predict, where, "predict.from=[exp_002,exp_003]", *given)
    hidden = f"evaluate.annotations={bed / 'hidden' / 'test_labels.csv'}"
    made(tools.evaluate, f"evaluate.predictions={out / 'predictions.parquet'}", hidden)
    assert "ROC-AUC" in capsys.readouterr().out
