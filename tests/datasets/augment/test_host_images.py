"""Transforms of albumentations on the host, seeded sample by sample."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datasets.augment.host_images import ImageTransforms
from datasets.augment.pipeline import AugmentConfig
from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.loading.torch_dataset import BatchDataset
from datasets.sampling.epoch_plan import EpochPlanner, SamplingConfig
from storage.errors import ConfigError
from storage.recipe import Recipe
from tests.fakes import SMALL, write_fake_source
from tests.paths import ROOT

SHAPE = (16, 31)
GAMMA = {"name": "RandomGamma", "p": 0.6}
BLUR = {"name": "GaussianBlur", "p": 0.6}
FLIP = {"name": "HorizontalFlip", "p": 0.5}
NOISE = {"name": "GaussNoise", "p": 0.5, "std_range": [0.1, 0.2]}
SPECS = [GAMMA, FLIP, NOISE, BLUR]


def transformed(specs, slices, *, seed=0, epoch=2, position=None):
    found = slices.copy()
    position = np.arange(len(slices)) if position is None else position
    ImageTransforms(specs, seed=seed, slice_shape=SHAPE)(found, epoch=epoch, position=position)
    return found


@pytest.fixture
def slices():
    return np.random.default_rng(3).integers(0, 256, (40, *SHAPE), np.uint8)


def test_a_flip_turns_about_half_of_the_slices_and_changes_no_other_bit(slices):
    found = transformed([FLIP], slices)
    turned = (found == slices[:, :, ::-1]).all((1, 2))
    assert ((found == slices).all((1, 2)) | turned).all()
    assert 10 < turned.sum() < 30


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32])
def test_values_stay_in_their_range_whatever_the_store_keeps(dtype, slices):
    stored = slices if dtype == np.uint8 else (slices / 255).astype(dtype)
    found = transformed(SPECS, stored)
    assert found.dtype == dtype
    assert found.max() <= (255 if dtype == np.uint8 else 1)
    assert found.min() >= 0
    assert (found != stored).any((1, 2)).sum() > 25
    other = transformed(SPECS, slices) / 255
    np.testing.assert_allclose(found / (255 if dtype == np.uint8 else 1), other, atol=0.01)


def test_a_probability_of_zero_changes_no_bit(slices):
    specs = [{**spec, "p": 0.0} for spec in SPECS]
    assert np.array_equal(transformed(specs, slices), slices)


def test_seed_epoch_and_position_decide_and_nothing_else(slices):
    first = transformed(SPECS, slices)
    np.random.seed(5)  # noqa: NPY002 - the global generator has no part in it
    assert np.array_equal(transformed(SPECS, slices), first)
    assert not np.array_equal(transformed(SPECS, slices, seed=1), first)
    assert not np.array_equal(transformed(SPECS, slices, epoch=3), first)
    assert not np.array_equal(transformed(SPECS, slices, position=np.arange(1, 41)), first)
    take = np.array([31, 4, 18])
    assert np.array_equal(transformed(SPECS, slices[take], position=take), first[take])


def test_entries_draw_for_themselves(slices):
    """Two of the same kind are not applied to the same samples, and a third changes neither."""
    down = {"name": "VerticalFlip", "p": 0.5}
    both = transformed([FLIP, down], slices)
    across = (transformed([FLIP], slices) != slices).any((1, 2))
    over = (both != transformed([FLIP], slices)).any((1, 2))
    assert 0 < (across & over).sum() < min(across.sum(), over.sum())
    assert np.array_equal(transformed([FLIP, down, {**GAMMA, "p": 0.0}], slices), both)


def reader_of(source, *, rank=0, world_size=1, specs=SPECS, batch_size=4):
    planner = EpochPlanner(source.recordings(), SamplingConfig(slices_per_recording=3), seed=5)
    transform = ImageTransforms(specs, seed=5, slice_shape=source.recipe.slice_shape)
    return BatchReader(
        source,
        planner,
        LoaderConfig(batch_size=batch_size),
        targets=None,
        train=True,
        transform=transform,
        rank=rank,
        world_size=world_size,
    )


@pytest.fixture
def source(tmp_path):
    return write_fake_source(tmp_path / "cells.raw", [3, 1, 8, 2, 13, 1, 5, 4], seed=1)


def by_position(batches):
    return {
        position: slice_MT.clone()
        for batch in batches
        for position, slice_MT in zip(batch.position.tolist(), batch.slices, strict=True)
    }


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[position], other[position]) for position in one)


def test_ranks_workers_and_resuming_change_nothing(source):
    alone = by_position(reader_of(source))
    plain = by_position(reader_of(source, specs=[]))
    assert sum(not torch.equal(alone[place], plain[place]) for place in alone) > len(alone) / 2
    ranks = [by_position(reader_of(source, rank=r, world_size=2, batch_size=2)) for r in (0, 1)]
    assert_same(ranks[0] | ranks[1], alone)
    loader = DataLoader(BatchDataset(reader_of(source)), batch_size=None, num_workers=2)
    assert_same(by_position(loader), alone)
    begun = reader_of(source)
    batches = iter(begun)
    done = by_position([next(batches), next(batches)])
    rest = reader_of(source)
    rest.load_state_dict(begun.state_dict())
    assert_same(done | by_position(rest), alone)


def test_it_can_be_sent_to_another_process(slices):
    sent = pickle.loads(pickle.dumps(ImageTransforms(SPECS, seed=0, slice_shape=SHAPE)))
    found = slices.copy()
    sent(found, epoch=2, position=np.arange(len(slices)))
    assert np.array_equal(found, transformed(SPECS, slices))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"name": "RandomGama"},
            "RandomGama is not a transform of albumentations. Did you mean Ran",
        ),
        ({"name": "OneOf"}, "OneOf is not a transform"),
        ({"name": "RandomGamma", "p": 2}, "RandomGamma: .*less than or equal to 1"),
        ({"name": "RandomGamma", "gama": 2}, r"RandomGamma: Argument\(s\) 'gama' are not valid"),
        ({"name": "Normalize"}, "Normalize leaves float32 values from -"),
        ({"name": "Transpose"}, r"makes \(31, 16, 1\) of a slice of \(16, 31, 1\)"),
        ({"name": "RandomRotate90"}, r"makes \(31, 16, 1\) of a slice"),
        ({"name": "RandomRain"}, "RandomRain does not take one-channel images"),
        ({"name": "MaskDropout"}, "MaskDropout does not take one-channel images"),
        ({"name": "FromFloat"}, "FromFloat leaves uint8 values"),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_what_does_not_fit_a_slice_is_refused_by_name(spec, message):
    with pytest.raises(ConfigError, match=message):
        ImageTransforms([GAMMA, spec], seed=0, slice_shape=SHAPE)


@pytest.mark.parametrize("name", [None, "albumentations.RandomGamma", "os.system", 3, ""])
def test_an_entry_needs_a_plain_name(name):
    with pytest.raises(ConfigError, match=r"augment.images\[1\]: name=.* must be the plain name"):
        AugmentConfig(images=[GAMMA, {"name": name, "p": 1.0}])


def test_the_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "albumentations", None)  # as if it were not installed
    with pytest.raises(ConfigError, match="uv sync --extra albumentations"):
        ImageTransforms([GAMMA], seed=0, slice_shape=SHAPE)


def test_the_library_is_kept_from_the_network_and_not_loaded_unless_it_is_wanted():
    code = (
        "import os, sys, datasets.augment.pipeline\n"
        "from datasets.augment.host_images import ImageTransforms\n"
        "assert 'albumentations' not in sys.modules\n"
        "ImageTransforms([{'name': 'RandomGamma'}], seed=0, slice_shape=(8, 8))\n"
        "print(os.environ['NO_ALBUMENTATIONS_UPDATE'], 'albumentations' in sys.modules)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=environment,
    )
    assert done.stdout.split() == ["1", "True"]


def test_slices_of_the_usual_shape_pass():
    for recipe in (SMALL, Recipe()):
        ImageTransforms(SPECS, seed=0, slice_shape=recipe.slice_shape)
