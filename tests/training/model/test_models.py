"""training.model.models: shapes, pooling, pretrained weights, and backbones of one image size."""

import pytest
import timm
import torch
from torch.nn import functional

from storage.errors import ConfigError
from training.model.models import (
    ModelConfig,
    build_classifier,
    mean_logits,
    prepare_images,
    probabilities,
)

TINY = "test_resnet"
SHAPE = (32, 48)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def build(backbone=TINY, *, shape=SHAPE, num_classes=3, **options):
    config = ModelConfig(backbone=backbone, **options)
    return build_classifier(config, num_classes=num_classes, slice_shape=shape)


@pytest.mark.parametrize("pooling", ["avg", "max", "avgmax", "catavgmax"])
def test_logits_and_embedding_have_the_shapes_that_pooling_gives(pooling):
    model = build(pooling=pooling, num_classes=4)
    logits, embedding = model(torch.rand(5, *SHAPE))
    assert logits.shape == (5, 4)
    assert embedding.shape == (5, model.embedding_size)
    width = timm.create_model(TINY, num_classes=0).num_features
    assert model.embedding_size == width * (2 if pooling == "catavgmax" else 1)


def test_avgmax_is_the_mean_of_the_average_and_the_largest_cell():
    model = build().eval()
    slices = torch.rand(2, *SHAPE)
    cells = model.views[0].backbone.forward_features(slices[:, None])
    expected = (cells.mean((2, 3)) + cells.amax((2, 3))) / 2
    torch.testing.assert_close(model(slices).embedding, expected)


def test_the_embedding_is_what_the_head_sees_without_dropout():
    model = build(dropout=0.9)
    slices = torch.rand(4, *SHAPE)
    logits, embedding = model.eval()(slices)
    torch.testing.assert_close(model.views[0].head(embedding), logits)
    model.train()
    logits, embedding = model(slices)
    assert not torch.allclose(model.views[0].head(embedding), logits)


def test_a_view_averages_oblongs_of_bands_and_frames():
    slices = torch.arange(24).float().view(1, 4, 6)
    images = prepare_images(slices, (2, 3), fixed_size=False)
    assert images.shape == (1, 1, 2, 2)
    assert images[0, 0, 0, 1] == slices[0, :2, 3:].mean()
    assert build(views=[[2, 3]])(torch.rand(2, *SHAPE)).logits.shape == (2, 3)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_several_views_predict_the_mean_of_their_probabilities(output):
    model = build(views=[[1, 1], [4, 2], [2, 4]], output=output, pooling="avg").eval()
    slices = torch.rand(5, *SHAPE)
    alone = [view(slices) for view in model.views]
    together = model(slices)
    expected = torch.stack([probabilities(view.logits, output) for view in alone]).mean(0)
    torch.testing.assert_close(probabilities(together.logits, output), expected)
    assert torch.equal(together.embedding, torch.cat([view.embedding for view in alone], dim=1))
    assert together.embedding.shape == (5, model.embedding_size)
    assert not torch.allclose(alone[0].logits, alone[1].logits)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_views_that_are_quite_sure_still_have_finite_logits(output):
    sure = torch.tensor([[300.0, -300.0]])
    for logits in ([sure, sure], [sure, -sure]):
        assert mean_logits(logits, output).isfinite().all()
    undecided = probabilities(mean_logits([sure, -sure], output), output)
    torch.testing.assert_close(undecided, torch.full((1, 2), 0.5))


def test_equal_views_begin_with_weights_of_their_own():
    first, second = (view.state_dict() for view in build(views=[[2, 2], [2, 2]]).views)
    assert not torch.equal(first["head.weight"], second["head.weight"])


def test_images_of_fixed_size_are_filled_with_silence_behind_and_above():
    slices = torch.rand(2, 30, 50)
    images = prepare_images(slices, (1, 1), fixed_size=True)
    assert images.shape == (2, 1, 32, 64)
    assert torch.equal(images[:, 0, :30, :50], slices)
    assert images[:, :, 30:].sum() == images[:, :, :, 50:].sum() == 0


@pytest.mark.parametrize("backbone", ["test_vit", "test_efficientnet", "test_convnext"])
def test_backbones_of_other_kinds_take_the_shape_of_a_real_slice(backbone):
    model = build(backbone, shape=(128, 313))
    assert model(torch.rand(2, 128, 313)).logits.shape == (2, 3)


def test_pretrained_weights_come_from_the_file_with_their_colours_summed(tmp_path):
    source = timm.create_model(TINY)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    model = build(weights_file=str(tmp_path / "weights.pth"))
    loaded = model.views[0].backbone.state_dict()
    stem = next(name for name, value in source.state_dict().items() if value.ndim == 4)
    for name, value in source.state_dict().items():
        if name == stem:
            torch.testing.assert_close(loaded[name], value.sum(1, keepdim=True))
        elif name in loaded:
            torch.testing.assert_close(loaded[name], value)
    assert not torch.equal(build().views[0].backbone.state_dict()[stem], loaded[stem])


def test_weights_of_another_architecture_are_refused(tmp_path):
    torch.save(timm.create_model("test_efficientnet").state_dict(), tmp_path / "other.pth")
    with pytest.raises(ConfigError, match=r"other.pth do not fit .*conv1.0.weight is"):
        build(weights_file=str(tmp_path / "other.pth"))


def test_compiled_backbones_keep_their_weights_names_and_fill_up_small_batches():
    model = build().eval()
    slices = torch.rand(3, *SHAPE)
    names, plain = list(model.state_dict()), model(slices)
    sizes = []
    model.views[0].backbone.register_forward_hook(lambda _, images, out: sizes.append(len(out)))
    with torch.compiler.set_stance("force_eager"):
        model.compile_backbones(full_batch=8)
        filled = model(slices)
        model.train()(slices)
    assert list(model.state_dict()) == names
    assert sizes == [8, 3]
    torch.testing.assert_close(filled, plain)


def test_probabilities_are_shares_or_each_for_itself():
    logits = torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.bfloat16)
    shares = probabilities(logits, "softmax")
    assert shares.dtype == torch.float32
    torch.testing.assert_close(shares, functional.softmax(logits.float(), 1))
    torch.testing.assert_close(probabilities(logits, "sigmoid"), logits.float().sigmoid())


def test_a_pooling_that_the_backbone_does_not_have_is_refused():
    with pytest.raises(ConfigError, match="test_vit cannot be built with pooling=catavgmax"):
        build("test_vit", pooling="catavgmax")


def test_slices_smaller_than_one_pooled_cell_are_refused():
    with pytest.raises(ConfigError, match=r"view \[4, 1\] of model.views leaves nothing .* 2 x 9"):
        build(shape=(2, 9), views=[[4, 1]])


def test_slices_too_small_for_the_backbone_are_refused():
    with pytest.raises(ConfigError, match="test_convnext cannot take slices of 4 x 4"):
        build("test_convnext", shape=(4, 4))
