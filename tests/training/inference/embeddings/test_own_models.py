"""Embeddings of checkpoints and of their exports agree; a probe after a checkpoint is a model."""

from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.labels import Labels
from storage.errors import ConfigError
from storage.recipe import Recipe
from tests.untrained import write_experiment
from training.inference.embeddings.config import EmbedConfig, EmbedderConfig, ProbeConfig
from training.inference.embeddings.embedders import open_embedder
from training.inference.embeddings.linear_probe import ProbeOrigin, fit_probe, write_probe
from training.inference.embeddings.probe_classifier import open_probes
from training.inference.embeddings.slice_audio import WaveformInput
from training.inference.export.onnx_export import ExportOptions, export_onnx
from training.inference.members import read_branches
from training.inference.model_files import find_models
from training.model.checkpoints import read_checkpoint

RECIPE = Recipe(
    sample_rate_hz=8000, n_fft=256, hop=125, n_mels=32, fmax_hz=4000, slice_s=1.0, slice_step_s=0.5
)
CELLS = np.random.default_rng(0).integers(0, 256, (12, 32, 65)).astype(np.uint8)


def test_a_checkpoint_and_its_exports_give_the_same_embeddings(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path, 2, RECIPE)
    embedder = open_embedder(EmbedConfig(model="exp_001/fold_0"), tmp_path, RECIPE)
    assert embedder.record.name == "exp_001/fold_0.ckpt"
    found = embedder.embed(CELLS)
    trained = read_checkpoint(folder / "fold_0.ckpt")
    for mel in (False, True):
        path = tmp_path / f"{mel}.onnx"
        export_onnx([trained], path, ExportOptions(mel=mel))
        exported = open_embedder(EmbedConfig(model=str(path)), tmp_path, RECIPE)
        if mel:
            assert exported.takes == WaveformInput(sample_rate_hz=8000, window_samples=8000)
        else:
            np.testing.assert_allclose(exported.embed(CELLS), found, atol=1e-4)
    with pytest.raises(ConfigError, match="has 2 models"):
        open_embedder(EmbedConfig(model="exp_001"), tmp_path, RECIPE)
    with pytest.raises(ConfigError, match="another recipe"):
        open_embedder(EmbedConfig(model="exp_001/fold_0"), tmp_path, Recipe())


def test_a_probe_after_its_checkpoint_predicts_slices(tmp_path: Path) -> None:
    write_experiment(tmp_path, 1, RECIPE)
    embedder = open_embedder(EmbedConfig(model="exp_001/fold_0"), tmp_path, RECIPE)
    embeddings = embedder.embed(CELLS)
    probe = fit_probe(embeddings, np.arange(12) % 2, Labels(("a", "b")), ProbeConfig())
    path = tmp_path / "weights" / "exp_002" / "fold_0.safetensors"
    path.parent.mkdir()
    write_probe(probe, ProbeOrigin(fold=0, model=embedder.record), path)
    model = open_probes([path], EmbedderConfig(), 1)[path]
    assert (model.labels, model.recipe) == (("a", "b"), RECIPE)
    np.testing.assert_array_equal(model(CELLS), probe.probabilities(embeddings))
    models = find_models(["exp_002", "exp_001", "exp_002/fold_0"], tmp_path)
    branches, _ = read_branches(models[::2], torch.device("cpu"), "32-true", 1)
    np.testing.assert_array_equal(branches[0].members[0].probabilities(CELLS), model(CELLS))
    elsewhere = tmp_path / "probe.safetensors"
    elsewhere.write_bytes(path.read_bytes())
    with pytest.raises(ConfigError, match=r"is not that file: both must be in one folder weights"):
        open_probes([elsewhere], EmbedderConfig(), 1)


def test_an_export_is_a_model_of_a_prediction(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path, 2, RECIPE)
    members = [read_checkpoint(path) for path in sorted(folder.iterdir())]
    export_onnx(members, tmp_path / "model.onnx", ExportOptions())
    models = find_models([str(tmp_path / "model.onnx"), "exp_001"], tmp_path)
    (exported, own), _ = read_branches(models, torch.device("cpu"), "32-true", 1)
    assert (len(exported.members), len(own.members)) == (1, 2)
    mean = np.mean([one.probabilities(CELLS) for one in own.members], axis=0)
    np.testing.assert_allclose(exported.members[0].probabilities(CELLS), mean, atol=1e-4)
    assert exported.members[0].labels == own.members[0].labels
