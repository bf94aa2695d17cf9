"""A store of short synthetic recordings, and the words of a training on it that takes seconds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from tests.sounds import write_source

RECIPE = Recipe(sample_rate_hz=8000, fmax_hz=4000, slice_s=3.0, n_mels=64)
SECONDS = (3, 8, 5, 6, 4, 7, 5, 3, 9, 6, 5, 4, 8, 5, 3)
SHORT = [
    "model.backbone=test_resnet",
    "model.views=[[4,4]]",
    "folds.num_folds=3",
    "train_folds=[0,2]",
    "trainer.epochs=2",
    "trainer.effective_batch_size=4",
    "train_loader.batch_size=2",
    "trainer.progress=false",
    "trainer.accelerator=cpu",
    "trainer.threads=1",
    "trainer.logger=csv",
]


def build_small_store(folder: Path, seconds: Sequence[float] = SECONDS) -> Path:
    """Builds `folder/store` of recordings that are so long, and returns it."""
    source = write_source(folder / "source", seconds, np.random.default_rng(2))
    store, config = folder / "store", SourceConfig(root=str(source))
    build_store(config, RECIPE, str(store), BuildConfig(workers=1))
    return store
