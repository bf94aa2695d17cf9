"""Heads and inputs of a classifier: SED against a plain loop, GeM by hand, normalisers."""

import math

import numpy as np
import pytest
import timm
import torch

from storage.errors import ConfigError
from training.model.heads import Gem, SedHead
from training.model.models import (
    ModelConfig,
    View,
    build_classifier,
    channels_first,
    mean_frame_logits,
    prepare_images,
    probabilities,
)

TINY = "test_resnet"
SHAPE = (32, 96)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def build(backbone=TINY, *, num_groups=0, **options):
    config = ModelConfig(backbone=backbone, **options)
    return build_classifier(config, num_classes=3, slice_shape=SHAPE, num_groups=num_groups)


def generalised_mean(values, power):
    return np.mean(np.maximum(values, 1e-6) ** power) ** (1 / power)


def loop_over_frames(head, features_EHT, power):
    """Logits [C], frame logits [T, C] and embedding [E] of one feature map, step by step."""
    features = features_EHT.numpy().astype(np.float64)
    size, _, num_frames = features.shape
    weights = {name: value.numpy().astype(np.float64) for name, value in head.state_dict().items()}
    pooled = np.zeros((size, num_frames))
    for e in range(size):
        for t in range(num_frames):
            column = features[e, :, t]
            pooled[e, t] = generalised_mean(column, power) if power else column.mean()
    logits, scores = np.zeros((num_frames, 3)), np.zeros((num_frames, 3))
    for t in range(num_frames):
        near = [s for s in (t - 1, t, t + 1) if 0 <= s < num_frames]
        smooth = pooled[:, near].max(1) + pooled[:, near].sum(1) / 3
        hidden = np.maximum(weights["hidden.weight"] @ smooth + weights["hidden.bias"], 0)
        logits[t] = weights["classes.weight"] @ hidden + weights["classes.bias"]
        scores[t] = np.tanh(weights["attention.weight"] @ hidden + weights["attention.bias"])
    clip = np.zeros(3)
    for c in range(3):
        shares = np.exp(scores[:, c]) / np.exp(scores[:, c]).sum()
        clip[c] = (shares * logits[:, c]).sum()
    return clip, logits, pooled.mean(1)


@pytest.mark.parametrize("num_frames", [1, 2, 7])
@pytest.mark.parametrize(("pooling", "power"), [("mean", 0), ("gem", 3.0)])
def test_the_sed_head_is_what_a_plain_loop_computes(pooling, power, num_frames):
    head = SedHead(5, 3, dropout=0.4, frequency_pooling=pooling).eval()
    features = torch.randn(2, 5, 4, num_frames)
    with torch.no_grad():
        found = head(features)
    for sample in range(2):
        clip, frames, embedding = loop_over_frames(head, features[sample], power)
        np.testing.assert_allclose(found.logits[sample], clip, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.frame_logits[sample], frames, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.embedding[sample], embedding, rtol=1e-4, atol=1e-5)


def test_gem_by_hand_and_its_power_is_learned():
    pool = Gem((2, 3))
    features = torch.tensor([[[[1.0, 2.0], [3.0, -4.0]]]])
    expected = ((1 + 8 + 27 + 0) / 4) ** (1 / 3)
    assert pool(features).item() == pytest.approx(expected)
    pool.power.data.fill_(1.0)
    assert pool(features).item() == pytest.approx((1 + 2 + 3) / 4)
    pool(features).sum().backward()
    assert pool.power.grad.item() != 0
    pool.power.data.fill_(30.0)
    assert pool(features).item() == pytest.approx(3, rel=0.05)  # near the maximum
    assert pool(features.bfloat16()).dtype == torch.float32


def test_gem_pools_the_feature_map_of_a_linear_head():
    model = build(pooling="gem").eval()
    slices = torch.rand(2, *SHAPE)
    with torch.no_grad():
        cells = model.views[0].backbone(slices[:, None])
        found = model(slices)
    assert cells.ndim == 4
    for sample in range(2):
        expected = [generalised_mean(cell.numpy(), 3.0) for cell in cells[sample]]
        np.testing.assert_allclose(found.embedding[sample], expected, rtol=1e-4)
    torch.testing.assert_close(found.logits, model.views[0].head(found.embedding))
    assert found.frame_logits is None


@pytest.mark.parametrize("backbone", [TINY, "test_efficientnet", "test_convnext"])
def test_a_classifier_with_frames_is_still_a_pair(backbone):
    model = build(backbone, head="sed", frequency_pooling="gem").eval()
    found = model(torch.rand(2, *SHAPE))
    logits, embedding = found
    assert logits.shape == (2, 3)
    assert embedding.shape == (2, model.embedding_size)
    assert found.frame_logits.shape == (2, 3, 3)
    assert model.has_frames
    assert not build(backbone).has_frames


def test_features_that_are_last_come_first():
    """As those of Swin transformers, which say so by `output_fmt`."""
    maps, backbone = torch.rand(2, 4, 6, 8), torch.nn.Identity()
    assert channels_first(maps, backbone) is maps
    backbone.output_fmt = "NHWC"
    assert torch.equal(channels_first(maps, backbone), maps.movedim(3, 1))


@pytest.mark.parametrize("options", [{"head": "sed"}, {"pooling": "gem"}], ids=["sed", "gem"])
def test_a_backbone_without_feature_maps_is_refused(options):
    with pytest.raises(ConfigError, match="test_vit gives no feature map"):
        build("test_vit", **options)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_views_of_fewer_frames_repeat_theirs(output):
    few, many = torch.randn(1, 2, 3), torch.randn(1, 5, 3)
    found = probabilities(mean_frame_logits([few, many], output), output)
    repeated = few[:, [0, 0, 1, 1, 1]]  # frame 2 of 5 is centred on the border, and goes up
    mean = (probabilities(repeated, output) + probabilities(many, output)) / 2
    torch.testing.assert_close(found, mean)
    model = build(head="sed", views=[[1, 1], [1, 2]], output=output).eval()
    slices = torch.rand(2, *SHAPE)
    parts = [view(slices).frame_logits for view in model.views]
    assert [part.shape[1] for part in parts] == [3, 2]
    together = model(slices).frame_logits
    torch.testing.assert_close(together, mean_frame_logits(parts, output))


def test_batches_for_compiled_backbones_are_filled_up_with_feature_maps_too():
    model = build(head="sed").eval()
    slices = torch.rand(3, *SHAPE)
    plain, sizes = model(slices), []
    model.views[0].backbone.register_forward_hook(lambda _, images, out: sizes.append(len(out)))
    model.views[0].full_batch = 8  # as `compile_backbones` sets it
    filled = model(slices)
    assert sizes == [8]
    torch.testing.assert_close(filled, plain)
    torch.testing.assert_close(filled.frame_logits, plain.frame_logits)


def seen_by_the_backbone(model, slices):
    seen = []
    model.views[0].backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model.eval()(slices)
    return seen[0]


def test_each_slice_is_standardised_by_itself():
    slices = torch.rand(3, *SHAPE) * torch.tensor([1.0, 0.2, 0.0])[:, None, None] + 0.3
    images = seen_by_the_backbone(build(normaliser="standardise"), slices)
    cells = slices.flatten(1).numpy().astype(np.float64)
    expected = (cells - cells.mean(1, keepdims=True)) / (cells.std(1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(images.flatten(1), expected, rtol=1e-3, atol=1e-4)


def test_each_band_loses_its_mean_over_time_so_that_steady_noise_is_gone():
    generator = torch.Generator().manual_seed(3)
    noise_of_bands = torch.rand(4, SHAPE[0], 1, generator=generator)
    slices = torch.rand(4, *SHAPE, generator=generator) * 0.4 + noise_of_bands * 0.5
    slices[3] = 0.7  # nothing but steady noise
    images = seen_by_the_backbone(build(normaliser="bands"), slices)
    cells = slices.numpy().astype(np.float64)
    cells = cells - cells.mean(2, keepdims=True)
    expected = cells / (cells.std((1, 2), keepdims=True) + 1e-6)
    np.testing.assert_allclose(images[:3, 0], expected[:3], rtol=1e-3, atol=1e-4)
    assert images[3].abs().max() < 0.2
    other_noise = slices - noise_of_bands * 0.5 + torch.rand(4, SHAPE[0], 1, generator=generator)
    again = seen_by_the_backbone(build(normaliser="bands"), other_noise)
    torch.testing.assert_close(again[:3], images[:3], rtol=1e-3, atol=1e-3)


def test_three_channels_are_equal_and_take_the_colours_of_the_weights():
    slices = torch.rand(2, *SHAPE)
    images = seen_by_the_backbone(build(channels=3), slices)
    assert images.shape == (2, 3, *SHAPE)
    assert all(torch.equal(images[:, colour], slices) for colour in range(3))
    model = build(channels=3, normaliser="imagenet")
    images = seen_by_the_backbone(model, slices)
    weights = timm.get_pretrained_cfg(TINY)
    for colour in range(3):
        expected = (slices - weights.mean[colour]) / weights.std[colour]
        torch.testing.assert_close(images[:, colour], expected)


def test_pretrained_weights_of_colours_are_taken_as_they_are(tmp_path):
    source = timm.create_model(TINY)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    model = build(weights_file=str(tmp_path / "weights.pth"), channels=3)
    loaded = model.views[0].backbone.state_dict()
    stem = next(name for name, value in source.state_dict().items() if value.ndim == 4)
    assert torch.equal(loaded[stem], source.state_dict()[stem])


def test_drop_path_skips_blocks_in_training_alone():
    model = build(drop_path=0.5, dropout=0.0)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data.fill_(1.0)  # zero at first in places, so that a block does nothing yet
    slices = torch.rand(16, *SHAPE)
    plain = build(dropout=0.0)
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(model.eval()(slices).logits, plain.eval()(slices).logits)
    torch.manual_seed(3)
    first = model.train()(slices).logits
    torch.manual_seed(4)
    assert not torch.allclose(model(slices).logits, first)


def test_a_backbone_without_stochastic_depth_is_refused():
    with pytest.raises(ConfigError, match=r"vgg11 cannot be built with .* drop_path=0\.1"):
        build("vgg11", drop_path=0.1)


def test_new_settings_at_their_defaults_change_no_weight_and_no_name():
    """As earlier versions built it: backbone, then head, from one stream of random numbers."""
    torch.manual_seed(5)
    backbone = timm.create_model(TINY, in_chans=1, num_classes=0, global_pool="avgmax")
    size = backbone.num_features
    view = View(backbone, (1, 1), dropout=0.2, num_classes=3, embedding_size=size)
    torch.manual_seed(5)
    model = build()
    assert list(model.state_dict()) == [f"views.0.{name}" for name in view.state_dict()]
    for name, value in view.state_dict().items():
        assert torch.equal(model.state_dict()[f"views.0.{name}"], value)
    slices = torch.rand(2, *SHAPE)
    images = prepare_images(slices, (1, 1), fixed_size=False)
    expected = view.eval().head(backbone.to(memory_format=torch.channels_last)(images))
    assert torch.equal(model.eval()(slices).logits, expected)


def test_groups_have_outputs_of_their_own_beside_an_unchanged_head():
    torch.manual_seed(7)
    plain = build().state_dict()
    torch.manual_seed(7)
    model = build(num_groups=4)
    found = model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in plain.items())
    assert sorted(set(found) - set(plain)) == [
        "views.0.group_head.bias",
        "views.0.group_head.weight",
    ]
    assert model.views[0](torch.rand(2, *SHAPE)).group_logits.shape == (2, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "mlp"}, "model.head=mlp is none of linear, sed"),
        ({"channels": 2}, "model.channels=2 must be 1 or 3"),
        ({"normaliser": "imagenet"}, "is for colours: set model.channels=3"),
        ({"frequency_pooling": "gem"}, "model.frequency_pooling=gem is for model.head=sed"),
        ({"drop_path": 1.0}, "model.drop_path=1 must lie between 0 and below 1"),
        ({"start": "head"}, "model.start=head is none of backbone, all"),
        ({"freeze_epochs": -1}, "model.freeze_epochs=-1 must be at least 0"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**options)


def test_a_silent_slice_is_finite_in_every_form():
    silence = torch.zeros(2, *SHAPE)
    model = build(head="sed", frequency_pooling="gem", normaliser="standardise", channels=3)
    found = model.train()(silence)
    found.logits.sum().backward()
    assert found.logits.isfinite().all()
    assert all(math.isfinite(float(one.grad.sum())) for one in model.parameters())
