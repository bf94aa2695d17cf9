"""training.inference.export: an exported file predicts as its checkpoint does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets.labels import Labels
from storage.audio.filterbank import mel_filterbank
from storage.audio.mel import MelTransform
from storage.encoding import encode, to_unit
from storage.errors import ConfigError
from storage.recipe import Recipe
from training.inference.export.front_end import FrontEnd, fourier_kernels
from training.inference.export.onnx_export import ExportOptions, check_members, export_onnx
from training.inference.export.onnx_model import OnnxClassifier, OnnxModel
from training.model.checkpoints import TrainedClassifier
from training.model.config import ModelConfig, RefitConfig
from training.model.cosine_head import ClassMoments
from training.model.models import build_classifier, probabilities

RECIPE = Recipe(
    sample_rate_hz=8000, n_fft=256, hop=125, n_mels=32, fmax_hz=4000, slice_s=1.0, slice_step_s=0.5
)
LABELS = Labels(("robin", "wren", "owl"))
TOLERANCE = 1e-4  # in probability


def member(
    folder, *, seed=0, fold=0, recipe=RECIPE, labels=LABELS, spread=0.5, refit=False, **options
):
    """A classifier with weights that give other answers for other slices, by `spread`.

    With `refit` the heads are computed from slices of noise.
    """
    config = ModelConfig(**{"backbone": "test_resnet", **options})
    torch.manual_seed(seed)
    model = build_classifier(config, num_classes=len(labels), slice_shape=recipe.slice_shape)
    for view in model.views:
        torch.nn.init.normal_(view.head.weight, std=spread)
    if refit:
        add_computed_head(model.eval(), recipe)
    path = folder / f"exp_001_fold_{fold}.ckpt"
    path.write_bytes(b"weights")
    return TrainedClassifier(
        model=model.eval(),
        labels=labels,
        recipe=recipe,
        model_config=config,
        config={},
        epoch=1,
        fold=fold,
        path=str(path),
        names={"owl": {"common_name": "Tawny owl"}},
    )


def add_computed_head(model, recipe):
    """A head of 12 slices, the classes in turn."""
    slices = to_unit(torch.from_numpy(cells(12, seed=5, recipe=recipe)))
    weights = torch.eye(model.num_classes)[torch.arange(12) % model.num_classes]
    moments = ClassMoments(num_classes=model.num_classes, sizes=model.embedding_sizes)
    with torch.inference_mode():
        moments.add(model(slices).embedding, weights)
    model.cosine_head = moments.head(RefitConfig(kind="cosine"))


def cells(count, seed=0, recipe=RECIPE):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, *recipe.slice_shape)).astype(np.uint8)


def expected(one, slices):
    with torch.inference_mode():
        logits, embedding = one.model(to_unit(torch.from_numpy(slices)))
    return probabilities(logits, one.model_config.output).numpy(), embedding.numpy()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"output": "sigmoid", "pooling": "catavgmax"},
        {"views": [[1, 1], [2, 1]], "output": "sigmoid"},
        {"backbone": "test_vit", "pooling": "avg"},
        {"backbone": "test_efficientnet"},
        {"views": [[1, 1], [2, 1]], "refit": True},
    ],
    ids=[
        "one view",
        "sigmoid",
        "two views, sigmoid",
        "one image size",
        "efficientnet",
        "two views with computed heads",
    ],
)
def test_probabilities_and_embeddings_agree_for_any_batch_size(tmp_path, options):
    trained = member(tmp_path, **options)
    export_onnx([trained], tmp_path / "model.onnx", ExportOptions())
    exported = OnnxClassifier(tmp_path / "model.onnx")
    for size in (1, 2, 5):
        slices = cells(size, seed=size)
        slices[-1] = 0  # silence
        wanted, embedding = expected(trained, slices)
        found = exported.probabilities(slices)
        assert found.shape == (size, 3)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, atol=TOLERANCE)
        np.testing.assert_allclose(exported.embeddings(slices), embedding, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_several_folds_are_the_mean_of_their_probabilities(tmp_path, output):
    members = [member(tmp_path, seed=fold, fold=fold, output=output) for fold in range(2)]
    export_onnx(members, tmp_path / "model.onnx", ExportOptions())
    slices = cells(4)
    mean = np.mean([expected(one, slices)[0] for one in members], axis=0)
    exported = OnnxClassifier(tmp_path / "model.onnx")
    np.testing.assert_allclose(exported.probabilities(slices), mean, atol=TOLERANCE)
    logits = exported._model.run("logits", to_unit(slices))
    again = probabilities(torch.from_numpy(logits), output).numpy()
    np.testing.assert_allclose(again, mean, atol=TOLERANCE)


def sounds(recipe):
    """Noise, a whistle over noise, a sweep that is far from full scale, silence, a click."""
    generator = np.random.default_rng(1)
    time_s = np.arange(recipe.slice_samples) / recipe.sample_rate_hz
    waves = 0.1 * generator.standard_normal((5, recipe.slice_samples))
    waves[1] = 0.9 * np.sin(2 * np.pi * 1234 * time_s) + 0.001 * waves[1]
    waves[2] = 1e-3 * np.sin(2 * np.pi * (500 * time_s + 900 * time_s**2)) + 1e-6 * waves[2]
    waves[3] = 0
    waves[4] = 0
    waves[4, 1000] = 1
    return waves.astype(np.float32)


def stored_cells(waves, recipe):
    transform = MelTransform(recipe, mel_filterbank(recipe))
    decibels = [transform.decibels(transform.power(wave))[0] for wave in waves]
    return np.stack([encode(one, top_db=recipe.top_db, dtype=recipe.dtype) for one in decibels])


@pytest.mark.parametrize("encoding", ["uint8", "float16", "float32"])
def test_the_front_end_makes_the_cells_of_a_store(encoding):
    recipe = Recipe(encoding=encoding, slice_s=2.0)
    waves = sounds(recipe)
    wanted = to_unit(stored_cells(waves, recipe))
    found = FrontEnd(recipe, mel_filterbank(recipe))(torch.from_numpy(waves)).numpy()
    step = {"uint8": 1 / 255, "float16": 1e-3, "float32": 1e-4}[encoding]
    assert np.abs(found - wanted).max() < step + 1e-6
    assert (np.abs(found - wanted) > 2e-3).mean() < 1e-3
    assert not found[3].any()


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_a_waveform_gives_the_probabilities_of_its_stored_slice(tmp_path, output):
    trained = member(tmp_path, output=output)
    export_onnx([trained], tmp_path / "model.onnx", ExportOptions(mel=True))
    model = OnnxModel(tmp_path / "model.onnx")
    waves = sounds(RECIPE)
    wanted, _ = expected(trained, stored_cells(waves, RECIPE))
    for places in ([0], [3], [1, 2], [0, 1, 2, 3, 4]):
        found = model.run("probabilities", waves[places])
        np.testing.assert_allclose(found, wanted[places], atol=TOLERANCE)


def test_a_file_for_waveforms_takes_no_cells(tmp_path):
    export_onnx([member(tmp_path)], tmp_path / "model.onnx", ExportOptions(mel=True))
    with pytest.raises(ConfigError, match=r"takes waveforms.*export\.mel=false"):
        OnnxClassifier(tmp_path / "model.onnx")


def test_an_export_is_the_same_bytes_again_says_nothing_and_names_no_place(tmp_path, capfd):
    members = [member(tmp_path, seed=fold, fold=fold) for fold in range(2)]
    options = ExportOptions(post=[{"power": {}}])
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    metadata = export_onnx(members, first, options)
    export_onnx(members, second, options)
    assert first.read_bytes() == second.read_bytes()
    assert str(tmp_path).encode() not in first.read_bytes()
    assert OnnxModel(first).metadata == metadata
    assert metadata.names == {"owl": {"common_name": "Tawny owl"}}
    assert [model["fold"] for model in metadata.models] == [0, 1]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"labels": Labels(("owl", "wren", "robin"))}, "have other labels"),
        ({"output": "sigmoid"}, "gives softmax and .* sigmoid"),
        ({"recipe": replace(RECIPE, top_db=60.0)}, r"recipe\.top_db is 60.0 there, 80.0 here"),
    ],
    ids=["labels", "output", "recipe"],
)
def test_members_that_do_not_go_together_are_refused(tmp_path, changes, reason):
    with pytest.raises(ConfigError, match=reason):
        check_members([member(tmp_path), member(tmp_path, **changes)])
    with pytest.raises(ConfigError, match=r"give export\.from="):
        check_members([])


def test_slices_that_were_made_elsewhere_have_no_front_end():
    with pytest.raises(ConfigError, match=r"export\.mel=false"):
        FrontEnd(replace(RECIPE, origin="foreign"), mel_filterbank(RECIPE))
    with pytest.raises(ConfigError, match=r"recipe\.n_fft=32768 needs kernels of"):
        fourier_kernels(32768, np.arange(16385))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["efficientnet_b0", "resnet18", "convnext_atto"])
def test_backbones_of_practice_agree(tmp_path, backbone):
    recipe = Recipe()
    trained = member(tmp_path, backbone=backbone, recipe=recipe, spread=0.1)
    export_onnx([trained], tmp_path / "model.onnx", ExportOptions())
    slices = stored_cells(sounds(recipe), recipe)
    found = OnnxClassifier(tmp_path / "model.onnx").probabilities(slices)
    np.testing.assert_allclose(found, expected(trained, slices)[0], atol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["efficientnet_b0", "resnet18"])
def test_backbones_of_practice_agree_on_waveforms(tmp_path, backbone):
    # In 32-bit cells. Of 8 bits, one in 10,000 is rounded to the other side. Not convnext_atto,
    # which magnifies the smallest differences of constant regions: docs/inference.md.
    recipe = Recipe(encoding="float32")
    trained = member(tmp_path, backbone=backbone, recipe=recipe, spread=0.1)
    export_onnx([trained], tmp_path / "model.onnx", ExportOptions(mel=True))
    waves = sounds(recipe)
    found = OnnxModel(tmp_path / "model.onnx").run("probabilities", waves)
    wanted, _ = expected(trained, stored_cells(waves, recipe))
    np.testing.assert_allclose(found, wanted, atol=TOLERANCE)
