"""training.probe and tools.probe: an experiment from embeddings, with the folds of a training."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from datasets.folds import FoldConfig
from storage.errors import ConfigError
from storage.store import open_store
from tests.small_store import build_small_store
from tools.cli.command import run
from tools.probe import COMMAND, main
from training.config import TrainingConfig
from training.experiments.experiment import ExperimentConfig
from training.experiments.listing import list_experiments
from training.inference.embeddings.config import ProbeConfig
from training.inference.embeddings.linear_probe import read_probe
from training.inference.embeddings.record import ModelRecord
from training.inference.embeddings.table import (
    About,
    EmbeddingTable,
    frame_of,
    read_about,
    read_table,
    write_table,
)
from training.model.metrics import accuracy
from training.probe import ProbeRun, probe_folds
from training.split import split_recordings

MODEL = ModelRecord(name="m", sha256="0", licence="", takes="slices", output="embedding")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, and embeddings of its slices from which labels can be told."""
    made = tmp_path_factory.mktemp("probe")
    build_small_store(made)
    with open_store(str(made / "store")) as store:
        index = store.slice_index()
        label = index.join(store.recordings(), on="recording_id", maintain_order="left")
        place = label["primary_label"].rank("dense").to_numpy()
        generator = np.random.default_rng(0)
        embeddings = np.eye(8)[place] + 0.1 * generator.normal(size=(len(place), 8))
        about = About(
            model=MODEL,
            store_id=store.store_id,
            recipe=store.recipe,
            num_slices=len(index),
            rows_sha256="",
        )
    rows, names = index["row"].to_numpy(), index["recording_id"].to_list()
    frame = frame_of(rows, names, embeddings.astype(np.float32))
    write_table(frame, about, made / "embeddings.parquet")
    return made


def words(folder: Path, root: Path, *more: str) -> list[str]:
    return [
        f"store={folder / 'store'}",
        f"experiment.root={root}",
        f"probe.embeddings={folder / 'embeddings.parquet'}",
        "folds.num_folds=3",
        *more,
    ]


def test_an_experiment_has_the_tables_and_scores_of_a_training(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(COMMAND, main, words(folder, tmp_path)) == 0
    said = capsys.readouterr().out
    assert "nearest neighbour outside its fold has the same label: 1.000" in said
    preds = tmp_path / "preds" / "exp_001"
    oof, pooled = (pl.read_parquet(preds / f"{name}.parquet") for name in ("oof", "oof_recordings"))
    classes = [name for name in oof.columns if name.startswith("p_")]
    assert oof.columns == ["recording_id", "row", "fold", "target", *classes]
    with open_store(str(folder / "store")) as store:
        assert sorted(oof["row"]) == store.slice_index()["row"].to_list()
        config = TrainingConfig(folds=FoldConfig(num_folds=3))
        split = split_recordings(store, config)
    fold_of = dict(zip(split.recordings["recording_id"], split.fold_R, strict=True))
    assert all(fold == fold_of[name] for name, fold in oof.select("recording_id", "fold").rows())
    primary = [classes.index(f"p_{target[0]}") for target in pooled["target"]]
    expected = accuracy(np.array(primary), pooled.select(classes).to_numpy())
    scores = json.loads((preds / "scores.json").read_text())
    assert scores["pooled"]["accuracy"] == pytest.approx(expected)
    assert expected > 0.9
    assert (preds / "classes.csv").is_file()
    for fold in range(3):
        probe, origin = read_probe(tmp_path / "weights" / "exp_001" / f"fold_{fold}.safetensors")
        assert (origin.fold, origin.model) == (fold, MODEL)
        assert [f"p_{name}" for name in probe.labels.names] == classes
    assert [record.status for record in list_experiments(tmp_path)] == ["finished"]
    out = tmp_path / "new.parquet"
    call = words(folder, tmp_path, "probe.from=exp_001", f"probe.out={out}")
    assert run(COMMAND, main, call) == 0
    assert "the mean of 3 probes" in capsys.readouterr().out
    predicted = pl.read_parquet(out)
    assert predicted.columns == ["recording_id", "start_s", "end_s", "silent", *classes]
    assert (predicted["end_s"] - predicted["start_s"]).unique().to_list() == [3.0]
    np.testing.assert_allclose(predicted.select(classes).to_numpy().sum(1), 1, atol=1e-5)


@pytest.mark.slow
def test_the_recorded_config_does_the_same_again(folder: Path, tmp_path: Path) -> None:
    assert run(COMMAND, main, words(folder, tmp_path, "probe.pool=slice", "train_folds=[0,2]")) == 0
    config = tmp_path / "configs" / "exp_001.yaml"
    assert run(COMMAND, main, ["--config", str(config)]) == 0
    first, second = (
        (tmp_path / "preds" / name / "oof.parquet").read_bytes() for name in ("exp_001", "exp_002")
    )
    assert first == second
    frame = pl.read_parquet(tmp_path / "preds" / "exp_001" / "oof.parquet")
    assert set(frame["fold"]) == {0, 2}


def test_recordings_without_an_embedding_are_named(folder: Path, tmp_path: Path) -> None:
    with open_store(str(folder / "store")) as store:
        split = split_recordings(store, TrainingConfig(folds=FoldConfig(num_folds=3)))
        table = read_few(folder, store.slice_index()["recording_id"][0])
    settings = ProbeRun(
        probe=ProbeConfig(),
        experiment=ExperimentConfig(root=str(tmp_path)),
        secondary_weight=0.5,
        settings={},
    )
    with pytest.raises(ConfigError, match="14 recordings have no embedding, among them"):
        probe_folds(table, split, settings)
    assert not list(tmp_path.iterdir())


def read_few(folder: Path, name: str) -> EmbeddingTable:
    table = read_table(folder / "embeddings.parquet")
    chosen = table.frame["recording_id"] == name
    return replace(
        table,
        frame=table.frame.filter(chosen),
        embeddings_NE=table.embeddings_NE[chosen.to_numpy()],
    )


def test_wrong_calls_end_in_one_sentence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = read_about(folder / "embeddings.parquet")
    other = replace(about, store_id="other")
    write_table(
        frame_of(np.array([0]), ["a"], np.zeros((1, 2), np.float32)),
        other,
        tmp_path / "other.parquet",
    )
    for more, sentence in {
        "probe.embeddings=''": "names no file",
        f"probe.embeddings={tmp_path / 'other.parquet'}": "embeddings of another store",
        f"probe.embeddings={tmp_path / 'none.parquet'}": "cannot be read",
        "probe.pool=all": "is none of",
        "probe.from=exp_077": "probe.from=exp_077 has no probe",
    }.items():
        assert run(COMMAND, main, words(folder, tmp_path, more)) == 2
        assert sentence in capsys.readouterr().err.splitlines()[-1]
