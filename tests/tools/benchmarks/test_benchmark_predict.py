"""Predicting is measured: speeds by backbone and runtime, and a real run of the smallest."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.sounds import write_source
from tests.tools.benchmarks.test_benchmark import ON_LINUX, tables_in
from tools import benchmark
from tools.benchmarks.harness.runs import Medians
from tools.benchmarks.predict import (
    LONG,
    ONNX,
    PEER,
    SHORT,
    TORCH,
    WAYS,
    PredictBenchmarkConfig,
    Turn,
    make_inputs,
    speeds,
    starts,
)

pytestmark = ON_LINUX
SECONDS = {"whole": 10.0, "model": 8.0, "decode": 4.0, "script": 25.0, PEER: 100.0}


@pytest.fixture
def results() -> dict[Turn, Medians]:
    return {
        (length, "net", runtime, way): {
            "work_s": SECONDS[way] / (2 if runtime == ONNX else 1),
            "whole_s": SECONDS[way] + 5,
        }
        for length in (LONG, SHORT)
        for runtime in (TORCH, ONNX)
        for way in WAYS[length, runtime]
    }


def test_speeds_are_times_real_time(results: dict[Turn, Medians]) -> None:
    assert speeds(results, audio_s=400).rows == (
        ("net, torch", "40", "50", "100", "16", "4", "80%"),
        ("net, onnxruntime", "80", "100", "100", "16", "4", "80%"),
    )


def test_starts_are_seconds_and_dashes_stand_for_what_was_not_measured(
    results: dict[Turn, Medians],
) -> None:
    results[SHORT, "net", TORCH, PEER] = {}
    assert starts(results, {LONG: "1.0 h", SHORT: "3.0 min"}).rows == (
        ("1.0 h, net, torch", "15.0", "30.0", "105.0"),
        ("1.0 h, net, onnxruntime", "15.0", "30.0", "105.0"),
        ("3.0 min, net, torch", "15.0", "30.0", "-"),
        ("3.0 min, net, onnxruntime", "15.0", "30.0", "-"),
    )


def test_inputs_have_the_lengths_that_are_asked_for(tmp_path: Path) -> None:
    write_source(tmp_path / "source", [6.0, 6.0], np.random.default_rng(1))
    config = PredictBenchmarkConfig(
        source_root=str(tmp_path / "source"), join_s=None, least_h=30 / 3600, short_min=0.1
    )
    inputs = make_inputs(config, tmp_path)
    assert (inputs[LONG].audio_s, len(inputs[LONG].files)) == (36, 6)  # two, three times each
    assert (inputs[SHORT].audio_s, len(inputs[SHORT].files)) == (6, 1)


@pytest.mark.slow
def test_a_small_run_is_measured(tmp_path: Path) -> None:
    write_source(tmp_path / "source", [6.0, 9.0], np.random.default_rng(1))
    words = [f"benchmark.source_root={tmp_path / 'source'}", "benchmark.runs=1"]
    words += ["benchmark.backbones=[test_resnet]", "benchmark.join_s=10", "benchmark.least_h=0.01"]
    words += ["benchmark.peer=false", "benchmark.short_min=0.1"]
    report = tmp_path / "report.md"
    assert benchmark.main(["predict", *words, "--markdown", str(report)]) == 0
    stages, whole = tables_in(report.read_text())[-2:]
    ways = ["torch", "onnxruntime", *(["openvino"] if find_spec("openvino") else [])]
    assert [line[0] for line in stages[1:]] == [f"test_resnet, {way}" for way in ways]
    assert len(whole) == 1 + 2 * len(ways)
