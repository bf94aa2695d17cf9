"""Rounds of pseudo-labels: targets of a pool's slices, out of fold, with folds and weights."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from datasets.targets import match_slices, read_soft_table
from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.errors import ConfigError
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.predicting import LABELS, RECIPE, write_checkpoint, write_recordings
from training.inference.config import PredictConfig
from training.inference.model_files import find_models
from training.inference.post.blend import BlendConfig
from training.inference.pseudo.config import PseudoConfig, RoundConfig
from training.inference.pseudo.make import RoundOutcome, make_round
from training.inference.pseudo.teachers import pool_folds
from training.inference.reading.inputs import list_inputs
from training.inference.results import Results

SECONDS = (4.0, 3.0, 2.0, 5.0)
BY_SECOND = replace(RECIPE, slice_step_s=1.0)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment of two folds that has not seen the pool, and the pool, a store."""
    root = tmp_path_factory.mktemp("lab")
    for fold in (0, 1):
        write_checkpoint(
            root / "weights" / "exp_001" / f"fold_{fold}.ckpt", recipe=BY_SECOND, seed=fold
        )
    source = SourceConfig(root=str(write_recordings(root / "sounds", SECONDS)), csv="none")
    build_store(source, BY_SECOND, str(root / "pool"), BuildConfig(workers=1))
    return root


def student(lab: Path, name: str, sources: dict[str, Any], folds: Sequence[int] = (0,)) -> None:
    """Writes an experiment whose training had these sources."""
    for fold in folds:
        path = lab / "weights" / name / f"fold_{fold}.ckpt"
        write_checkpoint(path, recipe=BY_SECOND, seed=10 * int(name[-1]) + fold)
        checkpoint = torch.load(path, weights_only=True)
        checkpoint["melbank"]["config"]["sources"] = sources
        torch.save(checkpoint, path)


def label(
    lab: Path, out: Path, given: str = "exp_001", blend: BlendConfig | None = None, **options: Any
) -> RoundOutcome:
    config = RoundConfig(
        predict=PredictConfig(
            from_=given.split(","), input=[str(lab / "pool")], out=str(out), accelerator="cpu",
            threads=1,
        ),
        blend=blend or BlendConfig(),
        pseudo=PseudoConfig(**options),
    )  # fmt: skip
    inputs = list_inputs(config.predict.input)
    return make_round(config, find_models(config.predict.from_, lab), inputs)


def values(frame: pl.DataFrame) -> np.ndarray:
    return frame.select(f"p_{name}" for name in LABELS).to_numpy()


def raw_of(out: Path) -> dict[str, np.ndarray]:
    return {one.recording.recording_id: one.probabilities for one in Results(out).iterate()}


def test_targets_are_the_predictions_of_the_slices_and_fit_the_store(
    lab: Path, tmp_path: Path
) -> None:
    outcome = label(lab, tmp_path / "one", folds=2)
    frame = pl.read_parquet(outcome.targets)
    raw = raw_of(tmp_path / "one")
    assert len(frame) == sum(map(int, SECONDS))
    for (name,), part in frame.group_by("recording_id", maintain_order=True):
        assert part["slice_no"].to_list() == list(range(len(part)))
        assert np.array_equal(values(part), raw[str(name)][0])
        assert part["weight"][0] == pytest.approx(values(part).max(axis=0).sum())
    with open_store(str(lab / "pool")) as pool:
        slices = match_slices(read_soft_table(str(outcome.targets)), pool.recordings())
        assert slices.rows.tolist() == pool.slice_index()["row"].to_list()
        folds = pool_folds(pool.recordings(), 2)
    assert set(folds.tolist()) == {0, 1}
    for fold in (0, 1):
        path = tmp_path / "one" / f"targets_without_fold_{fold}.parquet"
        assert pl.read_parquet(path).equals(frame.filter(pl.col("fold") != fold))
    record = json.loads((tmp_path / "one" / "pseudo.json").read_text())
    assert record["num_slices"] == len(frame)
    assert record["mass"] == pytest.approx(float(values(frame).sum()), rel=1e-5)
    pooled = pl.read_parquet(tmp_path / "one" / "pool_recordings.parquet")
    assert pooled["num_slices"].to_list() == list(map(int, SECONDS))


def test_other_steps_use_the_predictions_that_are_there(lab: Path, tmp_path: Path) -> None:
    first = pl.read_parquet(label(lab, tmp_path / "one").targets)
    raw = tmp_path / "one" / "raw"
    before = {path: path.stat().st_mtime_ns for path in raw.rglob("*.parquet")}
    labels = tmp_path / "labels.csv"
    labels.write_text("filename,start,end,labels\n00.wav,0,1,c\n")
    second = label(
        lab, tmp_path / "one", transform=[{"power": 2.0}, {"hard": {"file": str(labels)}}]
    )
    found = values(pl.read_parquet(second.targets))
    assert {path: path.stat().st_mtime_ns for path in raw.rglob("*.parquet")} == before
    assert found[0].tolist() == [0, 0, 1]
    np.testing.assert_allclose(found[1:], values(first)[1:] ** 2, rtol=1e-5)


def test_a_teacher_does_not_label_what_it_has_learned_from(lab: Path, tmp_path: Path) -> None:
    pool = str(lab / "pool")
    frame = pl.read_parquet(label(lab, tmp_path / "one", folds=2).targets)
    for fold in (0, 1):
        path = str(tmp_path / "one" / f"targets_without_fold_{fold}.parquet")
        student(lab, f"exp_00{2 + fold}", {"pool": {"store": pool, "targets": path}})
    outcome = label(lab, tmp_path / "two", "exp_002,exp_003")
    found = pl.read_parquet(outcome.targets)
    raw = raw_of(tmp_path / "two")
    fold_of = dict(frame.select("recording_id", "fold").unique().iter_rows())
    for (name,), part in found.group_by("recording_id"):
        own = raw[str(name)][fold_of[name]]  # of the teacher that did not see it
        assert np.array_equal(values(part), own)


def test_experiments_share_their_weight_among_folds_that_may_label(
    lab: Path, tmp_path: Path
) -> None:
    student(lab, "exp_004", {"pool": {"store": str(lab / "pool")}}, folds=(0, 1))
    blend = BlendConfig(weights=[3.0, 1.0])
    outcome = label(lab, tmp_path / "two", "exp_001,exp_004", blend, seen="drop")
    raw = raw_of(tmp_path / "two")
    assert Results(tmp_path / "two").branches() == (
        "exp_001/fold_0", "exp_001/fold_1", "exp_004/fold_0", "exp_004/fold_1",
    )  # fmt: skip
    for (name,), part in pl.read_parquet(outcome.targets).group_by("recording_id"):
        np.testing.assert_allclose(values(part), raw[str(name)][:2].mean(axis=0), rtol=1e-5)


def test_recordings_that_all_teachers_saw_are_refused_dropped_or_allowed(
    lab: Path, tmp_path: Path
) -> None:
    first = label(lab, tmp_path / "one").targets
    part = tmp_path / "part.parquet"
    pl.read_parquet(first).filter(pl.col("recording_id") != "02").write_parquet(part)
    student(lab, "exp_005", {"pool": {"store": str(lab / "pool"), "targets": str(part)}})
    student(lab, "exp_006", {"pool": {"store": str(lab / "pool"), "targets": "gone.parquet"}})
    with pytest.raises(ConfigError, match=r"3 of 4 recordings of the pool, such as 00, .*exp_005"):
        label(lab, tmp_path / "two", "exp_005")
    assert not (tmp_path / "two").exists()  # noticed before anything is predicted
    dropped = pl.read_parquet(label(lab, tmp_path / "two", "exp_005", seen="drop").targets)
    assert set(dropped["recording_id"]) == {"02"}
    allowed = pl.read_parquet(label(lab, tmp_path / "three", "exp_005", seen="allow").targets)
    assert len(allowed) == sum(map(int, SECONDS))
    with pytest.raises(ConfigError, match="4 of 4 recordings"):
        label(lab, tmp_path / "four", "exp_006")
    label(lab, tmp_path / "five", "exp_001,exp_006")


def test_a_round_that_changes_little_says_stop(lab: Path, tmp_path: Path) -> None:
    first = label(lab, tmp_path / "one")
    assert first.report.agreement is None
    assert not first.stop
    again = label(lab, tmp_path / "two", previous=str(first.targets))
    assert again.stop
    assert "top class equal in 1.000" in "\n".join(again.report.lines())
    other = label(lab, tmp_path / "two", previous=str(first.targets), transform=[{"power": 3.0}])
    assert not other.stop


def test_what_is_no_pool_is_refused(lab: Path, tmp_path: Path) -> None:
    config = RoundConfig(
        predict=PredictConfig(
            from_=["exp_001"], input=[str(lab / "sounds")], out=str(tmp_path / "x")
        )
    )
    models = find_models(["exp_001"], lab)
    with pytest.raises(ConfigError, match=r"is no store: .*source\.csv=none"):
        make_round(config, models, list_inputs(config.predict.input))
    with pytest.raises(ConfigError, match="leaves none of 14 slices"):
        label(lab, tmp_path / "one", transform=[{"threshold_max": 1.0}])
