"""Small models and recordings to predict, made in milliseconds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from storage.recipe import Recipe

RECIPE = Recipe(
    sample_rate_hz=4000, n_fft=128, hop=64, n_mels=16, fmin_hz=0, fmax_hz=2000, slice_s=1.0
)
LABELS = ("a", "b", "c")


def write_checkpoint(
    path: Path,
    *,
    recipe: Recipe = RECIPE,
    labels: Sequence[str] = LABELS,
    seed: int = 0,
    chunk_s: float = 0.0,
) -> Path:
    """A checkpoint of a very small model with random weights, as training writes it."""
    import torch

    from datasets.chunks import ChunkConfig, chunk_shape
    from datasets.labels import Labels
    from training.model.checkpoints import checkpoint_contents
    from training.model.config import ModelConfig
    from training.model.models import build_classifier

    config = ModelConfig(backbone="test_resnet", output="sigmoid")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shape = chunk_shape(ChunkConfig(length_s=chunk_s), recipe)
        model = build_classifier(config, num_classes=len(labels), slice_shape=shape).eval()
    plain = {name: getattr(config, name) for name in config.__slots__}
    settings = {"model": plain, **({"chunk": {"length_s": chunk_s}} if chunk_s else {})}
    contents = checkpoint_contents(Labels(tuple(labels)), recipe, settings, fold=0)
    weights = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": weights, "epoch": 0, "melbank": contents}, path)
    return path


def write_recordings(
    folder: Path, seconds: Sequence[float], *, seed: int = 0, rate_hz: int = 4000
) -> Path:
    """Noise whose level changes, one wav of each length: 00.wav, 01.wav; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for number, length_s in enumerate(seconds):
        count = round(length_s * rate_hz)
        swell = 0.5 + 0.4 * np.sin(np.arange(count) / 900)
        sound = 0.3 * generator.standard_normal(count) * swell
        soundfile.write(folder / f"{number:02d}.wav", sound.astype(np.float32), rate_hz)
    return folder
