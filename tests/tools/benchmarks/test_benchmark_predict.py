"""Predicting is measured: speeds by backbone and runtime, and a real run of the smallest."""

from pathlib import Path

import numpy as np
import pytest

from tests.sounds import write_source
from tests.tools.benchmarks.test_benchmark import ON_LINUX, tables_in
from tools import benchmark
from tools.benchmarks.predict import ONNX, TORCH, WAYS, speeds

pytestmark = ON_LINUX


def test_speeds_are_times_real_time() -> None:
    seconds = {"whole": 10.0, "model": 8.0, "decode": 4.0, "script": 25.0}
    results = {
        ("net", runtime, way): {"work_s": seconds[way] / (2 if runtime == ONNX else 1)}
        for runtime in (TORCH, ONNX)
        for way in WAYS[runtime]
    }
    table = speeds(results, audio_s=400)
    assert table.rows == (
        ("net, torch", "40", "50", "100", "16", "80%", "2.5"),
        ("net, onnxruntime", "80", "100", "100", "16", "80%", "5.0"),
    )


@pytest.mark.slow
def test_a_small_run_is_measured(tmp_path: Path) -> None:
    write_source(tmp_path / "source", [6.0, 9.0], np.random.default_rng(1))
    words = [f"benchmark.source_root={tmp_path / 'source'}", "benchmark.runs=1"]
    words += ["benchmark.backbones=[test_resnet]", "benchmark.join_s=10"]
    report = tmp_path / "report.md"
    assert benchmark.main(["predict", *words, "--markdown", str(report)]) == 0
    table = tables_in(report.read_text())[-1]
    assert [line[0] for line in table[1:]] == ["test_resnet, torch", "test_resnet, onnxruntime"]
