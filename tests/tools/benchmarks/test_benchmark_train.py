"""tools.benchmark train: the plain loop by hand, and the table of both ways."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from storage.errors import ConfigError
from tests.learnable import write_learnable_source
from tests.training.short_training import config_in, short_trainer
from tools import benchmark
from tools.benchmarks import train
from tools.benchmarks.harness import plain_loop
from tools.benchmarks.harness.plain_loop import (
    PlainRecipe,
    Slices,
    _masked,
    _mixed,
    train_and_predict,
)
from tools.benchmarks.train import Run, Sections, TrainBenchmarkConfig, run_benchmark
from training.model.metrics import METRICS

TINY = PlainRecipe(backbone="test_resnet", view=(1, 1), epochs=2, batch_size=4)


@pytest.fixture(scope="module")
def slices() -> Slices:
    """12 recordings of 1 to 3 slices, two classes that differ in their bands."""
    generator = np.random.default_rng(0)
    recording_no = np.repeat(np.arange(12), generator.integers(1, 4, 12))
    label = recording_no % 2
    cells = generator.integers(0, 100, (len(label), 8, 16), np.uint8)
    cells[label == 1, :4] += 150
    return Slices(torch.from_numpy(cells), torch.eye(2)[label], recording_no)


def test_mixup_adds_images_and_targets_by_one_weight(slices):
    images, targets = _mixed(slices, np.arange(6), TINY, np.random.default_rng(3))
    generator = np.random.default_rng(3)
    weight = generator.beta(0.4, 0.4, (6, 1, 1, 1))
    other = generator.permutation(6)
    for place in range(6):
        share, with_it = float(weight[place].item()), int(other[place])
        one, two = (slices.cells[number].numpy() / 255 for number in (place, with_it))
        np.testing.assert_allclose(images[place, 0], share * one + (1 - share) * two, atol=1e-6)
        expected = share * slices.targets[place] + (1 - share) * slices.targets[with_it]
        torch.testing.assert_close(targets[place], expected)


def test_masks_are_one_stretch_of_each_axis():
    recipe = PlainRecipe(mask_fraction=0.5)
    masked = _masked(torch.ones(40, 1, 8, 16), recipe, np.random.default_rng(0))
    for image in masked[:, 0]:
        bands, frames = ((image == 0).all(axis) for axis in (1, 0))
        assert bands.sum() <= 4
        assert frames.sum() <= 8
        assert torch.equal(image == 0, bands[:, None] | frames[None])
    assert (masked == 0).any()


def test_equal_seeds_predict_the_same(slices):
    one, again, other = (train_and_predict(slices, slices, TINY, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_allclose(one.sum(1), 1, rtol=1e-5)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def sections(tmp_path, **chosen) -> Sections:
    """One fold, one epoch of either way."""
    training = config_in(tmp_path, trainer=short_trainer(epochs=1), train_folds=[1])
    values = {one.name: getattr(training, one.name) for one in fields(training)}
    config = TrainBenchmarkConfig(root=str(tmp_path), epochs=1, batch_size=8, view=[1, 1], **chosen)
    return Sections(**values, benchmark=config)


@pytest.fixture
def source(tmp_path, monkeypatch):
    source = write_learnable_source(tmp_path / "cells.raw", 24)
    monkeypatch.setattr(train, "open_training", lambda _: source)
    return source


def test_the_plain_loop_is_scored_on_the_held_out_recordings(source, tmp_path, monkeypatch):
    def perfect(learn, held_out, recipe, *, seed):
        assert not np.isin(held_out.recording_no, learn.recording_no).any()
        held.update(held_out.recording_no.tolist())
        assert len(held_out.cells) == len(held_out.recording_no)
        return held_out.targets.numpy()

    held: set[int] = set()
    monkeypatch.setattr(plain_loop, "train_and_predict", perfect)
    section = run_benchmark(sections(tmp_path, ways=["plain"]), None)
    (row,) = section.parts[1].rows
    assert row[:5] == ("plain loop", "0", "0.0000", "1.0000", "1.0000")
    in_fold = (source.table["fold"] == 1).arg_true().to_list()
    assert held == set(in_fold)


def test_several_seeds_have_a_line_of_medians(source, tmp_path, monkeypatch, capsys):
    values = iter([0.5, 0.1, 0.7, 0.3, 0.6, 0.8])

    def run(_, config):
        return Run(dict.fromkeys(METRICS, next(values)), float(config.seed))

    for way in ("_plain", "_melbank"):
        monkeypatch.setattr(train, way, run)
    section = run_benchmark(sections(tmp_path, seeds=[4, 5, 6]), None)
    rows = section.parts[1].rows
    assert [row[:3] for row in rows] == [
        *(("plain loop", *pair) for pair in (("4", "0.5000"), ("5", "0.7000"), ("6", "0.6000"))),
        ("plain loop", "median", "0.6000"),
        *(("melbank", *pair) for pair in (("4", "0.1000"), ("5", "0.3000"), ("6", "0.8000"))),
        ("melbank", "median", "0.3000"),
    ]
    assert rows[3][-1] == "5.0"
    assert "melbank, seed 5: KL 0.3000" in capsys.readouterr().out


@pytest.mark.slow
def test_both_ways_train_on_the_same_folds(source, tmp_path):
    rows = run_benchmark(sections(tmp_path), None).parts[1].rows
    assert [row[0] for row in rows] == ["plain loop", "melbank"]
    assert (tmp_path / "preds" / "exp_001" / "scores.json").is_file()


def test_wrong_settings_are_refused_and_the_command_is_known():
    for wrong in ({"ways": []}, {"ways": ["other"]}, {"seeds": []}, {"view": [1]}, {"epochs": 0}):
        with pytest.raises(ConfigError, match="benchmark"):
            TrainBenchmarkConfig(**wrong)
    assert "train" in benchmark.BENCHMARKS
