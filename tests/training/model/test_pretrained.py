"""Weights of files: taken whole or refused with names, and read without trust in the file."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from datasets.labels import Labels
from storage.errors import ConfigError, StoreError
from storage.recipe import Recipe
from training.model.checkpoints import checkpoint_contents, read_checkpoint
from training.model.models import Classifier, ModelConfig, build_classifier
from training.model.pretrained import KEY, MODEL_PREFIX, Meaning
from training.model.torch_files import read_torch

TINY = "test_resnet"
RECIPE = Recipe(sample_rate_hz=8000, fmax_hz=4000, slice_s=4.0, n_mels=32)
OWL, WREN = ("owl", "toad"), ("owl", "wren")


def build(file: object = "", *, backbone: str = TINY, labels=OWL, recipe=RECIPE, views=((1, 1),)):
    config = ModelConfig(
        backbone=backbone, weights_file=str(file), views=[list(view) for view in views]
    )
    shape = recipe.slice_shape
    return build_classifier(
        config, num_classes=len(labels), slice_shape=shape, meaning=Meaning(labels, recipe)
    )


def own_checkpoint(folder: Path, *, views=((1, 1),)) -> tuple[Path, Classifier]:
    """A checkpoint of melbank for owls and toads, and the model that it holds."""
    model = build(views=views)
    config = ModelConfig(backbone=TINY, views=[list(view) for view in views])
    state = {f"{MODEL_PREFIX}{name}": value for name, value in model.state_dict().items()}
    contents = checkpoint_contents(Labels(OWL), RECIPE, {"model": asdict(config)}, fold=0)
    torch.save({"state_dict": state, "epoch": 1, KEY: contents}, folder / "fold_0.ckpt")
    return folder / "fold_0.ckpt", model


def backbone_of(model: Classifier, view: int = 0) -> dict[str, torch.Tensor]:
    return model.views[view].backbone.state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state},
        lambda state: {"model": state, "epoch": 3},
        lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
    ],
    ids=["plain", "state_dict", "model", "module"],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_files_of_timm_are_taken_however_they_wrap_the_weights(tmp_path, wrap, legacy):
    state = timm.create_model(TINY).state_dict()
    file = tmp_path / "weights.pth"
    torch.save(wrap(state), file, _use_new_zipfile_serialization=not legacy)
    assert torch.equal(backbone_of(build(file))["bn1.weight"], state["bn1.weight"])
    assert torch.equal(
        backbone_of(build(file))["layer1.0.conv1.weight"], state["layer1.0.conv1.weight"]
    )


@pytest.mark.parametrize("backbone", [TINY, "test_vit", "test_convnext", "test_efficientnet"])
def test_safetensors_of_other_kinds_of_backbones_are_taken(tmp_path, backbone):
    state = timm.create_model(backbone).state_dict()
    save_file(state, tmp_path / "model.safetensors")
    found = backbone_of(build(tmp_path / "model.safetensors", backbone=backbone))
    equal = [name for name in found if name in state and torch.equal(found[name], state[name])]
    assert len(equal) > 0.8 * len(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {f"net.{name}": state[name] for name in state}, "conv1.0.weight is missing"),
        (lambda state: {"strange": torch.zeros(3)}, "is missing"),
        (lambda state: {**state, "layer1.9.conv1.weight": torch.zeros(3)}, "has no place"),
        (lambda state: {**state, "bn1.weight": torch.zeros(3)}, r"bn1.weight is 3, not 32"),
        (lambda state: {}, "it is empty"),
        (lambda state: [1, 2], "has no weights"),
        (lambda state: {"state_dict": {"epoch": 3}}, "has no weights"),
    ],
    ids=["prefix", "nothing", "too many", "shape", "empty", "list", "numbers"],
)
def test_a_file_that_does_not_fit_is_refused_with_names_and_shapes(tmp_path, change, message):
    torch.save(change(timm.create_model(TINY).state_dict()), tmp_path / "other.pth")
    with pytest.raises(ConfigError, match=rf"other\.pth.*{message}") as caught:
        build(tmp_path / "other.pth")
    assert "\n" not in str(caught.value)


def test_a_checkpoint_has_the_names_of_its_classes(tmp_path):
    file, _ = own_checkpoint(tmp_path)
    assert read_checkpoint(file).names == {}
    values = torch.load(file, weights_only=True)
    names = {OWL[0]: {"common_name": "Owl", "genus": "Strix"}}
    for given, taken in ((names, names), (None, {})):
        torch.save({**values, KEY: {**values[KEY], "names": given}}, file)
        assert read_checkpoint(file).names == taken
    for forged in ({OWL[0]: 3}, {OWL[0]: {"genus": 3}}, ["owl"], 7):
        torch.save({**values, KEY: {**values[KEY], "names": forged}}, file)
        with pytest.raises(StoreError, match="does not hold together"):
            read_checkpoint(file)


def test_a_checkpoint_with_equal_labels_is_taken_with_its_head(tmp_path):
    file, model = own_checkpoint(tmp_path)
    assert same(build(file).state_dict(), model.state_dict())


def test_a_checkpoint_with_other_labels_gives_its_backbone(tmp_path):
    file, model = own_checkpoint(tmp_path)
    started = build(file, labels=WREN)
    assert same(backbone_of(started), backbone_of(model))
    assert not torch.equal(started.views[0].head.weight, model.views[0].head.weight)


def test_views_begin_with_the_view_of_their_number_or_the_only_one(tmp_path):
    file, model = own_checkpoint(tmp_path, views=((1, 1), (2, 2)))
    assert same(build(file, views=((1, 1), (2, 2))).state_dict(), model.state_dict())
    (tmp_path / "one").mkdir()
    file, model = own_checkpoint(tmp_path / "one")
    both = build(file, views=((1, 1), (2, 2)))
    assert same(backbone_of(both, 0), backbone_of(model))
    assert same(backbone_of(both, 1), backbone_of(model))


@pytest.mark.parametrize(
    ("key", "value"), [("hop", 256), ("fmin_hz", 50.0), ("top_db", 60.0), ("n_mels", 64)]
)
def test_a_model_of_another_recipe_is_refused_with_the_keys(tmp_path, key, value):
    file, _ = own_checkpoint(tmp_path)
    other = replace(RECIPE, **{key: value})
    message = rf"fold_0\.ckpt.*recipe\.{key} is {getattr(RECIPE, key)} there, {value} here"
    with pytest.raises(ConfigError, match=message):
        build(file, recipe=other)
    with pytest.raises(ConfigError, match=message):
        read_checkpoint(file).check_recipe(other)


@pytest.mark.parametrize(("key", "value"), [("slice_step_s", 1.0), ("encoding", "float32")])
def test_a_recipe_that_a_slice_does_not_show_is_no_other(tmp_path, key, value):
    file, _ = own_checkpoint(tmp_path)
    read_checkpoint(file).check_recipe(replace(RECIPE, **{key: value}))


def pack(path: Path) -> None:
    """Writes the parts again, compressed, as a file that unpacks to far more would have them."""
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as plain:
        parts = {name: plain.read(name) for name in plain.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in parts.items():
            packed.writestr(name, content)


def nest(path: Path) -> None:
    """Writes a list that is nested a hundred thousand deep."""
    content = b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    with zipfile.ZipFile(path, "w") as parts:
        parts.writestr("x/data.pkl", content)
        parts.writestr("x/version", "3")


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (lambda path: torch.save({"w": torch.zeros(1).expand(10**12)}, path), "more bytes"),
        (pack, "declares parts of more than its own"),
        (nest, "cannot be read"),
        (lambda path: torch.save({"w": torch.nn.Linear(2, 2)}, path), "nothing of it was run"),
        (lambda path: path.unlink(), "does not exist"),
    ],
    ids=["expanded", "packed", "nested", "module", "missing"],
)
def test_forged_files_are_refused(tmp_path, forge: Callable[[Path], object], message):
    file = tmp_path / "forged.ckpt"
    torch.save({"w": torch.zeros(1000)}, file)
    forge(file)
    with pytest.raises(StoreError, match=rf"forged\.ckpt.*{message}"):
        read_torch(file)


def test_cut_or_flipped_anywhere_a_file_is_read_as_it_was_or_refused(tmp_path):
    file = tmp_path / "fold_0.ckpt"
    torch.save({"w": torch.arange(100), "labels": ["owl", "toad"]}, file)
    content = file.read_bytes()
    for place in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        for bad in (content[:place], bytes(flipped)):
            file.write_bytes(bad)
            try:
                values = read_torch(file)
            except StoreError as error:
                assert str(error).startswith(str(file))  # noqa: PT017  # both ends are right
            else:
                assert torch.equal(values["w"], torch.arange(100))
                assert values["labels"] == ["owl", "toad"]
