"""Predictions of models that learned from chunks: of recordings, of stores, and with others."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.chunks import Chunks
from datasets.levels import Levels
from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.sampling.epoch_plan import plan_all
from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.errors import ConfigError
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.predicting import RECIPE, write_checkpoint, write_recordings
from training.inference.config import PredictConfig
from training.inference.embeddings.embedders import CheckpointEmbedder
from training.inference.export.onnx_export import check_members
from training.inference.model_files import find_models
from training.inference.predictor import predict_recordings
from training.inference.reading.inputs import list_inputs
from training.inference.results import RawPredictions, Results
from training.model.checkpoints import read_checkpoint
from training.model.predict import predict

STORE_RECIPE = replace(RECIPE, slice_step_s=0.5, tail_min_s=0.1)
CHUNK_S = 3.0


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings, a store of them, and models of chunks and of slices."""
    root = tmp_path_factory.mktemp("lab")
    write_recordings(root / "sounds", (2.5, 0.4, 7.3, 9.0))
    config = SourceConfig(root=str(root / "sounds"), csv="none")
    build_store(config, STORE_RECIPE, str(root / "store"), BuildConfig(workers=1))
    write_checkpoint(root / "chunks.ckpt", recipe=STORE_RECIPE, chunk_s=CHUNK_S)
    write_checkpoint(root / "slices.ckpt", recipe=STORE_RECIPE, seed=1)
    return root


def run(lab: Path, out: Path, *models: str, **options: object) -> list[RawPredictions]:
    basic = {"input": [str(lab / "sounds")], "workers": 0, "threads": 1, "accelerator": "cpu"}
    basic["precision"] = "32-true"  # where a processor has bf16, it is taken for some of these only
    names = [str(lab / f"{model}.ckpt") for model in models]
    config = PredictConfig(from_=names, out=str(out), **{**basic, **options})
    predict_recordings(config, find_models(config.from_, lab), list_inputs(config.input))
    return list(Results(out).iterate())


def test_rows_of_a_store_agree_with_the_predictions_of_training(lab: Path, tmp_path: Path) -> None:
    found = run(lab, tmp_path / "new", "chunks", input=[str(lab / "store")], batch_size=5)
    trained = read_checkpoint(lab / "chunks.ckpt")
    assert trained.chunks == Chunks(count=3, step=2)
    with open_store(str(lab / "store")) as store:
        plan = plan_all(store.recordings())
        reader = BatchReader(
            store,
            lambda _: plan,
            LoaderConfig(batch_size=4),
            targets=None,
            train=False,
            chunks=trained.chunks,
            levels=Levels(store),
        )
        expected = predict(trained.model, reader, output="sigmoid", top_db=RECIPE.top_db)
        ids = store.recordings()["recording_id"].to_list()
        index = store.slice_index()
    assert np.array_equal(np.sort(expected.rows), index["row"].to_numpy())
    for raw in found:
        own = expected.recording_no == ids.index(raw.recording.recording_id)
        np.testing.assert_allclose(
            raw.probabilities[0], expected.probabilities[own], rtol=0, atol=1e-4
        )
        assert np.array_equal(raw.start_s, 0.5 * np.arange(own.sum()))
        np.testing.assert_allclose(raw.end_s, raw.start_s + CHUNK_S)


def test_windows_of_recordings_are_those_of_a_store_where_a_chunk_fits(
    lab: Path, tmp_path: Path
) -> None:
    of_store = run(lab, tmp_path / "store", "chunks", input=[str(lab / "store")])
    found = run(lab, tmp_path / "audio", "chunks", step_s=0.5)
    for raw, other in zip(found, of_store, strict=True):
        whole = max(0, int((raw.recording.duration_s - CHUNK_S) / 0.5) + 1)
        assert len(raw.start_s) >= max(1, whole)
        np.testing.assert_allclose(
            raw.probabilities[:, :whole], other.probabilities[:, :whole], rtol=0, atol=1e-6
        )
        np.testing.assert_allclose(raw.end_s, raw.start_s + CHUNK_S)
    shortest = next(raw for raw in found if raw.recording.duration_s < 1)
    other = next(raw for raw in of_store if raw.recording.duration_s < 1)
    np.testing.assert_allclose(shortest.probabilities, other.probabilities, rtol=0, atol=1e-6)


def test_by_default_windows_follow_one_another(lab: Path, tmp_path: Path) -> None:
    here = run(lab, tmp_path / "here", "chunks")
    assert [raw.start_s.tolist() for raw in here] == [[0], [0], [0, 3, 6], [0, 3, 6]]


@pytest.mark.slow
def test_workers_change_nothing(lab: Path, tmp_path: Path) -> None:
    here = run(lab, tmp_path / "here", "chunks")
    there = run(lab, tmp_path / "there", "chunks", workers=1)
    for raw, other in zip(here, there, strict=True):
        assert np.array_equal(raw.probabilities, other.probabilities)


def test_models_of_slices_and_of_chunks_go_together(lab: Path, tmp_path: Path) -> None:
    """Each as alone in its own windows; a chunk is centred on the window of a slice."""
    alone = run(lab, tmp_path / "chunks", "chunks")
    both = run(lab, tmp_path / "both", "chunks", "slices")
    turned = run(lab, tmp_path / "turned", "slices", "chunks")
    slices = run(lab, tmp_path / "slices", "slices")
    for raw, other in zip(both, alone, strict=True):
        np.testing.assert_allclose(raw.probabilities[0], other.probabilities[0], atol=1e-6)
        assert np.isfinite(raw.probabilities).all()
    for raw, other in zip(turned, slices, strict=True):
        np.testing.assert_allclose(raw.probabilities[0], other.probabilities[0], atol=1e-6)
        assert np.isfinite(raw.probabilities).all()
    middle = turned[3].probabilities[1][4]  # the chunk of 3 to 6 s, around 4 to 5 s
    np.testing.assert_allclose(middle, alone[3].probabilities[0][1], atol=1e-6)
    stored = run(lab, tmp_path / "stored", "slices", "chunks", input=[str(lab / "store")])
    apart = run(lab, tmp_path / "apart", "chunks", input=[str(lab / "store")])
    for raw, other in zip(stored, apart, strict=True):
        np.testing.assert_allclose(raw.probabilities[1], other.probabilities[0], atol=1e-6)


def test_what_takes_single_slices_refuses_a_model_of_chunks(lab: Path) -> None:
    trained = read_checkpoint(lab / "chunks.ckpt")
    with pytest.raises(ConfigError, match="embeddings are of single slices"):
        CheckpointEmbedder(trained, trained.recipe)
    with pytest.raises(ConfigError, match="an exported file cannot join"):
        check_members([trained])
    old = read_checkpoint(lab / "slices.ckpt")  # of a version that knew no chunks
    assert (old.chunks, old.sample_shape) == (Chunks(), old.recipe.slice_shape)
