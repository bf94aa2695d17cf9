"""Groups of classes: targets, their heads' loss, checkpoints that know them."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from datasets.labels import LabelConfig, Labels
from datasets.loading.config import LoaderConfig
from storage.errors import ConfigError, StoreError
from storage.recipe import Recipe
from training.config import TrainingConfig
from training.model.checkpoints import checkpoint_contents, read_checkpoint
from training.model.groups import build_groups, num_groups, parse_groups
from training.model.learning.losses import LossConfig, build_loss
from training.model.learning.objective import Objective
from training.model.models import ModelConfig, build_classifier
from training.model.pretrained import KEY, MODEL_PREFIX
from training.model.views import Prediction

LABELS = ("crow", "raven", "owl", "toad", "noise")
NAMES = {
    "crow": {"genus": "Corvus", "class_name": "Aves"},
    "raven": {"genus": "Corvus", "class_name": "Aves"},
    "owl": {"genus": "Strix", "class_name": "Aves"},
    "toad": {"genus": "Bufo", "class_name": "Amphibia"},
}
RECIPE = Recipe(sample_rate_hz=8000, fmax_hz=4000, slice_s=2.0, n_mels=32)


@pytest.fixture
def groups():
    return build_groups(("genus", "class_name"), LABELS, NAMES)


def test_groups_are_sorted_and_a_class_without_one_is_in_none(groups):
    genus, kind = groups
    assert genus.names == ("Bufo", "Corvus", "Strix")
    assert genus.of_class == (1, 1, 2, 0, -1)
    assert kind.names == ("Amphibia", "Aves")
    assert kind.of_class == (1, 1, 1, 0, -1)
    assert num_groups(groups) == 5


def test_the_target_of_a_group_is_the_maximum_of_its_classes(groups):
    nan = torch.nan
    targets = torch.tensor(
        [
            [0.3, 0.7, 0.0, 0.2, 1.0],  # the last one is in no group
            [nan, 1.0, 0.5, 0.0, 0.0],  # known to be there, whatever the other is
            [nan, 0.5, nan, 0.0, 0.0],
        ]
    )
    expected = [[0.2, 0.7, 0.0], [0.0, 1.0, 0.5], [0.0, nan, nan]]
    found = groups[0].targets(targets)
    torch.testing.assert_close(found, torch.tensor(expected), equal_nan=True)


def test_the_loss_is_the_weighted_sum_over_clip_frames_and_groups(groups):
    generator = torch.Generator().manual_seed(2)
    logits, frames, more = (
        torch.randn(*shape, generator=generator) for shape in ((6, 5), (6, 4, 5), (6, 5))
    )
    targets = torch.rand(6, 5, generator=generator)
    prediction = Prediction(logits, logits, frames, more)
    config = LossConfig(clip_weight=0.6, frame_weight=0.4, group_weight=0.3)
    bce = build_loss(LossConfig())
    of_groups = [
        bce(more[:, :3], groups[0].targets(targets)),
        bce(more[:, 3:], groups[1].targets(targets)),
    ]
    expected = 0.6 * bce(logits, targets) + 0.4 * bce(frames.max(1).values, targets)
    expected = expected + 0.3 * (of_groups[0] + of_groups[1]) / 2
    torch.testing.assert_close(Objective(config, groups)(prediction, targets), expected)
    plain = Objective(LossConfig())(Prediction(logits, logits), targets)
    assert torch.equal(plain, bce(logits, targets))


def write_checkpoint(folder: Path, groups, values=None) -> Path:
    config = ModelConfig(backbone="test_resnet", head="sed")
    shape = RECIPE.slice_shape
    model = build_classifier(
        config, num_classes=len(LABELS), slice_shape=shape, num_groups=num_groups(groups)
    )
    state = {f"{MODEL_PREFIX}{name}": value for name, value in model.state_dict().items()}
    contents = checkpoint_contents(
        Labels(LABELS), RECIPE, {"model": asdict(config)}, fold=0, groups=groups
    )
    contents |= {} if values is None else {"groups": values}
    torch.save({"state_dict": state, "epoch": 1, KEY: contents}, folder / "fold_0.ckpt")
    return folder / "fold_0.ckpt"


def test_a_checkpoint_knows_its_groups(groups, tmp_path):
    trained = read_checkpoint(write_checkpoint(tmp_path, groups))
    assert trained.groups == groups
    assert trained.model.views[0].group_head.out_features == 5
    assert trained.model(torch.rand(2, *RECIPE.slice_shape)).frame_logits.shape[::2] == (2, 5)


def test_a_checkpoint_of_an_earlier_version_is_read(tmp_path):
    """Its config knows nothing of the settings that came later."""
    old = ("backbone", "pretrained", "weights_file", "pooling", "dropout", "views", "output")
    config = ModelConfig(backbone="test_resnet")
    shape = RECIPE.slice_shape
    model = build_classifier(config, num_classes=len(LABELS), slice_shape=shape)
    state = {f"{MODEL_PREFIX}{name}": value for name, value in model.state_dict().items()}
    values = {name: getattr(config, name) for name in old}
    contents = checkpoint_contents(Labels(LABELS), RECIPE, {"model": values}, fold=0)
    torch.save({"state_dict": state, "epoch": 1, KEY: contents}, tmp_path / "fold_0.ckpt")
    trained = read_checkpoint(tmp_path / "fold_0.ckpt")
    slices = torch.rand(2, *shape)
    assert torch.equal(trained.model(slices).logits, model.eval()(slices).logits)
    assert trained.groups == ()


def test_contents_without_groups_are_as_before():
    assert "groups" not in checkpoint_contents(Labels(LABELS), RECIPE, {}, fold=0)
    assert parse_groups(None, 5) == ()


@pytest.mark.parametrize(
    "values",
    [
        [{"column": "genus", "names": ["a", "b"], "of_class": [0, 1]}],
        [{"column": "genus", "names": ["a", "b"], "of_class": [0, 1, 2, 0, 0]}],
        [{"column": "genus", "names": ["a", 3], "of_class": [0, 1, 1, 0, 0]}],
        [{"names": ["a", "b"]}],
        7,
    ],
)
def test_forged_groups_are_refused(values, groups, tmp_path):
    path = write_checkpoint(tmp_path, groups, values)
    with pytest.raises(StoreError, match="does not hold together"):
        read_checkpoint(path)


def test_columns_that_say_nothing_are_refused():
    with pytest.raises(ConfigError, match="names family, of which the 5 classes have none"):
        build_groups(("family",), LABELS, NAMES)
    with pytest.raises(ConfigError, match="have Aves: a head for it needs two groups"):
        build_groups(("class_name",), LABELS[:3], NAMES)
    with pytest.raises(ConfigError, match=r"labels\.groups=tribe is none of class_name, order"):
        LabelConfig(groups=["tribe"])
    with pytest.raises(ConfigError, match="names a column twice"):
        LabelConfig(groups=["genus", "genus"])


def test_a_weight_of_frames_needs_frames():
    loss = LossConfig(frame_weight=0.5)
    with pytest.raises(ConfigError, match=r"frame_weight=0\.5 needs frames.*set model.head=sed"):
        TrainingConfig(loss=loss)
    TrainingConfig(loss=loss, model=ModelConfig(head="sed"))


def test_soft_auc_needs_more_than_one_sample():
    loss, alone = LossConfig(name="soft_auc"), LoaderConfig(batch_size=1)
    with pytest.raises(ConfigError, match=r"compares samples of a batch.*batch_size=1"):
        TrainingConfig(loss=loss, train_loader=alone)
