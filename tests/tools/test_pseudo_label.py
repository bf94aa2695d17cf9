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


@pytest.mark.slow  # three trainings
def test_from_a_test_bed_to_the_second_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_recordings(tmp_path / "birds", num_classes=3, num_recordings=10)
    write_backgrounds(tmp_path / "noise", number=4)
    bed, preds = tmp_path / "bed", tmp_path / "preds"
    sources = (f"mix.recordings={tmp_path / 'birds'}", f"mix.backgrounds=[{tmp_path / 'noise'}]")
    numbers = ("mix.pool=4", "mix.labelled=2", "mix.test=3", "mix.duration_s=12", "mix.window_s=2")
    assert (
        call(tools.mix_soundscapes, *sources, f"mix.out={bed}", *numbers, "mix.min_calls=10") == 0
    )
    assert call(
        tools.build_store, f"source.root={bed / 'focal'}", f"store={tmp_path / 'focal'}", *RECIPE,
        "build.workers=1",
    ) == 0  # fmt: skip
    for name in ("pool", "labelled"):
        assert call(
            tools.build_store, f"source.root={bed / name}", "source.csv=none",
            f"store={tmp_path / name}", *RECIPE, "build.workers=1",
        ) == 0  # fmt: skip
    train = [f"experiment.root={tmp_path}", *SHORT, "trainer.epochs=1", "train_folds=[0]",
             f"sources.focal.store={tmp_path / 'focal'}"]  # fmt: skip
    assert call(tools.train, *train) == 0
    teach = [f"experiment.root={tmp_path}", f"predict.input={tmp_path / 'pool'}",
             "pseudo.folds=2", "predict.accelerator=cpu", "predict.threads=1"]  # fmt: skip
    assert call(
        tools.pseudo_label, *teach, "predict.from=exp_001", f"predict.out={preds / 'round_1'}",
        "pseudo.transform=[{floor: 0.1}, {power: 1.5}, {cap_sum: 0.75}]",
    ) == 0  # fmt: skip
    for fold in (0, 1):  # a student without each fold of the pool
        targets = preds / "round_1" / f"targets_without_fold_{fold}.parquet"
        assert call(
            tools.train, *train, f"sources.pool.store={tmp_path / 'pool'}",
            "sources.pool.train_only=true", f"sources.pool.targets={targets}",
            "sources.pool.missing_targets=drop", f"sources.lss.store={tmp_path / 'labelled'}",
            f"sources.lss.segments={bed / 'labelled_segments.csv'}",
        ) == 0  # fmt: skip
    assert set(pl.read_parquet(preds / "exp_002" / "oof.parquet")["source"]) == {"focal"}
    capsys.readouterr()
    second = [*teach, f"predict.out={preds / 'round_2'}",
              f"pseudo.previous={preds / 'round_1' / 'targets.parquet'}"]  # fmt: skip
    assert call(tools.pseudo_label, *second, "predict.from=exp_002") == 2
    assert "learned from by all teachers (exp_002)" in capsys.readouterr().err
    assert call(tools.pseudo_label, *second, "predict.from=[exp_002,exp_003]") == 0
    told = capsys.readouterr().out
    assert "24 slices of 4 recordings have targets, 0 are left out" in told
    assert "round before: 24 slices in common" in told
    found = pl.read_parquet(preds / "round_2" / "targets.parquet")
    assert found.select("p_bird0", "p_bird1", "p_bird2").null_count().sum_horizontal()[0] == 0
    out = preds / "test"
    assert call(
        tools.predict, f"experiment.root={tmp_path}", "predict.from=[exp_002,exp_003]",
        f"predict.input={bed / 'test'}", f"predict.out={out}", "predict.workers=0",
        "predict.accelerator=cpu",
    ) == 0  # fmt: skip
    hidden = bed / "hidden" / "test_labels.csv"
    assert call(
        tools.evaluate, f"evaluate.predictions={out / 'predictions.parquet'}",
        f"evaluate.annotations={hidden}", f"evaluate.out={tmp_path / 'scores'}",
    ) == 0  # fmt: skip
    assert "ROC-AUC" in capsys.readouterr().out
