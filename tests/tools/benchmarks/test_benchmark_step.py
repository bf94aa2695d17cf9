"""tools.benchmark augment and step: what they measure, and the trace of a GPU."""

import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from datasets.augment.level import GainConfig
from datasets.augment.pipeline import AUGMENTATIONS, AugmentConfig
from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from tests.paths import ROOT
from tests.sounds import write_source
from tools import benchmark
from tools.benchmarks.harness.train_step import open_bench
from tools.benchmarks.step import (
    KEPT,
    READ,
    Sections,
    StepBenchmarkConfig,
    gpu_samples,
    mean_text,
    measure,
    write_trace,
)
from tools.cli.config import load_config

DEMO = ["--config", str(ROOT / "configs" / "demo.yaml")]
SMALL = ["folds.num_folds=2", "train_folds=[0]", "model.views=[[4,4]]", "trainer.threads=1"]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("step")
    source = write_source(folder / "source", [4, 5, 6] * 6, np.random.default_rng(2))
    recipe = Recipe(sample_rate_hz=8000, fmax_hz=4000, slice_s=3.0, n_mels=64)
    store = str(folder / "store")
    build_store(SourceConfig(root=str(source)), recipe, store, BuildConfig(workers=1))
    return [f"store={store}", *SMALL]


@pytest.mark.slow
def test_every_augmentation_and_whole_configs_are_set_off_against_none(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found.md"
    call = ["augment", *DEMO, *words, "benchmark.rounds=2", "--markdown", str(file)]
    assert benchmark.main(call) == 0
    told = capsys.readouterr().out
    for name in ("none", *AUGMENTATIONS, "all of the config", "all of configs/base.yaml"):
        assert re.search(rf"^{name} +\d+\.\d\d +\d+\.\d\d +[+-]\d+\.\d% ", told, re.MULTILINE)
    assert "<!-- begin augment -->" in file.read_text()


def test_steps_on_read_batches_are_set_off_against_a_kept_one(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found.md"
    few = ["benchmark.stretches=2", "benchmark.steps=3", "benchmark.warm_up=1"]
    assert benchmark.main(["step", *DEMO, *words, *few, "--plot", "--markdown", str(file)]) == 0
    told = capsys.readouterr().out
    assert re.search(rf"^{KEPT} +\d+\.\d\d +\d+\.\d\d ", told, re.MULTILINE)
    assert re.search(rf"^{READ} +\d+\.\d\d +\d+\.\d\d +[+-]\d", told, re.MULTILINE)
    assert "<!-- begin step -->" in file.read_text()


def test_a_step_trains_and_reading_counts_for_the_reader_alone(words: list[str]) -> None:
    config = load_config(Sections, DEMO[1], words)
    with open_bench(config) as bench:
        reader = bench.data.train_reader(accumulation=1)
        (batch,) = reader.read_batches(range(1), ahead=False)
        gain = AugmentConfig(gain=GainConfig(p=1.0))
        before = bench.model.views[0].head.weight.detach().clone()
        bench.stepper(gain)(batch)
        assert not torch.equal(bench.model.views[0].head.weight, before)
        few = StepBenchmarkConfig(stretches=1, steps=2, warm_up=0)
        found = measure(bench, few)
    ((kept,), (read,)) = found[KEPT], found[READ]
    assert kept["ended"] <= read["began"]
    assert kept["wall_s"] == pytest.approx((kept["ended"] - kept["began"]) / 2)


def test_the_trace_is_what_nvidia_smi_says_meanwhile(tmp_path: Path, monkeypatch) -> None:
    """Here a script of its name, that says 80 and 90 in turn."""
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\nwhile true; do echo 80; echo 90; sleep 0.01; done\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    began = time.perf_counter()
    with gpu_samples(torch.device("cuda")) as samples:
        while len(samples) < 20:
            time.sleep(0.01)
    ended = time.perf_counter()
    assert {busy for _, busy in samples} == {80, 90}
    assert mean_text(samples, [(began, ended)]) in ("84%", "85%", "86%")
    assert mean_text(samples, [(ended, ended + 1)]) == "-"
    middle = (began + ended) / 2
    write_trace(tmp_path / "t.png", samples, {KEPT: [(began, middle)], READ: [(middle, ended)]})
    assert imread(tmp_path / "t.png").std() > 0.05
