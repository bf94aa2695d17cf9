"""Runs the code of docs/training.md that predicts on soundscapes."""

import re
import textwrap
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
import torch

from datasets.labels import Labels
from storage.build.build import BuildConfig, build_store
from storage.errors import StoreError
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from tests.paths import ROOT
from tests.sounds import RATE_HZ, chirps
from training.model.checkpoints import KEY, MODEL_PREFIX, checkpoint_contents, read_checkpoint
from training.model.models import ModelConfig, build_classifier

DOCUMENT = ROOT / "docs" / "training.md"
LABELS = ("owl", "toad", "wren")


def example() -> str:
    """Returns the block of code of docs/training.md that predicts."""
    blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    found = [textwrap.dedent(block) for block in blocks if "read_checkpoint(" in block]
    assert len(found) == 1
    return found[0][found[0].index("import polars") :]


def write_checkpoint(path: Path, fold: int, recipe: Recipe) -> None:
    """Weights that nobody has trained, as training writes them."""
    torch.manual_seed(fold)
    config = ModelConfig(backbone="test_resnet", views=[[4, 4]])
    model = build_classifier(config, num_classes=len(LABELS), slice_shape=recipe.slice_shape)
    state = {f"{MODEL_PREFIX}{name}": value for name, value in model.state_dict().items()}
    contents = checkpoint_contents(Labels(LABELS), recipe, {"model": asdict(config)}, fold=fold)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": state, "epoch": 1, KEY: contents}, path)


def submission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> pl.DataFrame:
    """Runs the example on a soundscape, in a store of an encoding."""
    audio = tmp_path / "data" / "test" / "test_soundscapes"
    audio.mkdir(parents=True)
    soundfile.write(audio / "scape_1.ogg", chirps(15, np.random.default_rng(4)), RATE_HZ)
    source = SourceConfig(root=str(audio.parent), csv="none")
    store = str(tmp_path / "data" / "test_store")
    recipe = Recipe(slice_step_s=5.0, encoding=encoding)
    build_store(source, recipe, store, BuildConfig(workers=1))
    for fold in range(3):
        write_checkpoint(tmp_path / "weights" / "exp_001" / f"fold_{fold}.ckpt", fold, Recipe())
    monkeypatch.chdir(tmp_path)
    exec(example(), {})
    return pl.read_csv("submission.csv")


def test_soundscapes_become_a_submission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = submission(tmp_path / "uint8", monkeypatch, "uint8")
    assert table.columns == ["row_id", *LABELS]
    assert table["row_id"].to_list() == ["scape_1_5", "scape_1_10", "scape_1_15"]
    assert np.allclose(table.select(LABELS).to_numpy().sum(1), 1, atol=1e-4)
    other = submission(tmp_path / "float32", monkeypatch, "float32")
    assert np.allclose(table.select(LABELS), other.select(LABELS), atol=2e-3)


@pytest.mark.parametrize("what", ["state_dict", "epoch", "fold"])
def test_a_checkpoint_that_lacks_something_is_named(what: str, tmp_path: Path) -> None:
    path = tmp_path / "fold_0.ckpt"
    write_checkpoint(path, 0, Recipe())
    checkpoint = torch.load(path, weights_only=True)
    if what == "state_dict":
        checkpoint["state_dict"].popitem()
    else:
        checkpoint.pop(what, None)
        checkpoint[KEY].pop(what, None)
    torch.save(checkpoint, path)
    with pytest.raises(StoreError, match=r"fold_0\.ckpt does not hold together"):
        read_checkpoint(path)
