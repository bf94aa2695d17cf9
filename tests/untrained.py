"""Experiments whose weights nobody has trained, as training writes them."""

from dataclasses import asdict
from pathlib import Path

import torch

from datasets.labels import Labels
from storage.recipe import Recipe
from training.model.checkpoints import KEY, checkpoint_contents
from training.model.models import ModelConfig, build_classifier
from training.model.pretrained import MODEL_PREFIX

LABELS = ("owl", "toad", "wren")


def write_experiment(root: Path, num_folds: int, recipe: Recipe, name: str = "exp_001") -> Path:
    """Writes `fold_K.ckpt` of a very small backbone, and returns their folder."""
    config = ModelConfig(backbone="test_resnet")
    folder = root / "weights" / name
    folder.mkdir(parents=True)
    for fold in range(num_folds):
        torch.manual_seed(fold)
        model = build_classifier(config, num_classes=len(LABELS), slice_shape=recipe.slice_shape)
        state = {f"{MODEL_PREFIX}{name}": value for name, value in model.state_dict().items()}
        contents = checkpoint_contents(Labels(LABELS), recipe, {"model": asdict(config)}, fold=fold)
        torch.save({"state_dict": state, "epoch": 1, KEY: contents}, folder / f"fold_{fold}.ckpt")
    return folder
