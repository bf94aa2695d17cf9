"""Reading is measured: every way delivers what was asked for, and what fails says why."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from storage.errors import ConfigError, StoreError
from tests.tools.benchmarks.test_benchmark import BASE, ON_LINUX, numbers, tables_in
from tools import benchmark
from tools.benchmarks.read import targets_parts
from tools.benchmarks.reading.contenders import COPY, FLOOR, OURS, WAYS, Way
from tools.benchmarks.reading.contest import run_way
from tools.benchmarks.reading.plans import ALL, ONE
from tools.benchmarks.reading.slices import Material, SlicesConfig, given_material, made_material
from tools.benchmarks.ways import floors, hdf5, melbank, npy_files, webdataset_tars, zarr_python
from tools.benchmarks.ways.run_way import check, load_plans
from tools.testbed.environments import python_with

pytestmark = ON_LINUX
# Those whose libraries are here anyway; the slow test below measures the others too.
MODULES = {
    module.__name__.rpartition(".")[2]: module
    for module in (floors, hdf5, melbank, npy_files, webdataset_tars, zarr_python)
}
WAYS_HERE = [way for way in WAYS if way.module in MODULES]
SMALL = SlicesConfig(num_recordings=21, slices_per_recording=2, batch_size=8, seed=3)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return made_material(SMALL, "uint8", tmp_path_factory.mktemp("made"))


def spec_of(material: Material, task: str, **more: str) -> dict[str, Any]:
    """The part of a task for `run_way` that says what is to come."""
    plans = [str(file) for file in material.plans[task]]
    about = {**material.about, "task": task}
    return {"cells": str(material.cells), "rows": "", "plans": plans, "about": about, **more}


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves them open
@pytest.mark.parametrize("task", [ONE, ALL])
@pytest.mark.parametrize("way", WAYS_HERE, ids=lambda way: way.title)
def test_a_way_delivers_what_is_planned(way, task: str, material: Material, tmp_path: Path) -> None:
    if task not in way.tasks:
        pytest.skip("not a task of this way")
    module, source = MODULES[way.module], getattr(material, way.reads, tmp_path / "copy")
    if way.reads == COPY:
        module.write(np.load(material.cells, mmap_mode="r"), source)
    rows = str(material.rows) if module is melbank else ""
    spec = spec_of(material, task, rows=rows)
    plan = load_plans(spec)[0]
    batches = getattr(module, way.function)(source, spec["about"])(plan, 0)
    check(batches, None if task in way.streams else np.concatenate(plan), spec)


def test_a_plan_has_one_slice_of_each_recording_or_every_slice(material: Material) -> None:
    assert material.num_recordings == 21
    assert material.num_slices == len(np.load(material.rows)) == len(np.load(material.cells))
    one, everything = (np.load(material.plans[task][0]) for task in (ONE, ALL))
    assert len(one) == 16  # 21 cut to whole batches
    assert len(everything) == material.num_slices // 8 * 8
    assert len(set(everything.tolist())) == len(everything)
    assert not np.array_equal(one, np.load(material.plans[ONE][1]))


def test_given_slices_are_those_of_the_store_and_of_its_tars(
    material: Material, tmp_path: Path
) -> None:
    (tmp_path / "fewer").mkdir()
    fewer = replace(SMALL, num_recordings=16)
    given = given_material(None, material.shards, fewer, tmp_path / "fewer")
    assert given.num_recordings == 16
    rows, all_rows = np.load(given.rows), np.load(material.rows)
    places = np.searchsorted(all_rows, rows)
    assert np.array_equal(np.load(given.cells), np.load(material.cells)[places])
    with pytest.raises(ConfigError, match="fewer than a batch of 8"):
        given_material(material.store, None, replace(SMALL, num_recordings=7), tmp_path)


def test_other_slices_than_those_asked_for_are_found_out(material: Material) -> None:
    cells, spec = np.load(material.cells), spec_of(material, ONE)
    wanted = np.array([4, 1, 3])
    check([(torch.from_numpy(cells[[1, 3, 4]]), np.array([1, 3, 4]))], wanted, spec)
    for others in ([1, 3], [1, 3, 5], [1, 3, 3]):
        with pytest.raises(ValueError, match="not those asked for"):
            check([(torch.from_numpy(cells[others]), np.array(others))], wanted, spec)
    other = cells[wanted]
    other[2, 0, 0] ^= 1
    with pytest.raises(ValueError, match="differ from those written"):
        check([(torch.from_numpy(other), wanted)], wanted, spec)
    with pytest.raises(ValueError, match=r"batches are torch.float32 \[3, 128, 313\]"):
        check([(torch.from_numpy(other).float(), wanted)], wanted, spec)


@pytest.mark.parametrize(
    ("code", "timeout_s", "reason"),
    [
        ("import datasets", 60, "No module named 'datasets'"),  # the checkout is not on the path
        ("import os; os.kill(os.getpid(), 9)", 60, "exit code -9"),
        ("import time; time.sleep(60)", 1.5, "it took longer than 1.5 s"),
    ],
)
def test_a_way_that_fails_says_why(
    code: str, timeout_s: float, reason: str, tmp_path: Path
) -> None:
    module = tmp_path / "way.py"
    module.write_text(code)
    asked = {"job": "read", "module": str(module), "function": "f", "project": ""}
    asked |= {"plans": [], "target": str(tmp_path), "about": {"batch_size": 1}}
    with pytest.raises(StoreError, match=reason):
        run_way(Path(sys.executable), asked, timeout_s)


def test_an_environment_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    folder = tmp_path / "none"
    with pytest.raises(StoreError, match="/no/such/package cannot be installed: "):
        python_with(["/no/such/package"], folder)
    assert not (folder / "ready.json").exists()


def test_a_ready_environment_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "ready.json").write_text(json.dumps({"requirements": ["/no/such/package"]}))
    assert python_with(["/no/such/package"], tmp_path) == tmp_path / "bin" / "python"


def test_targets_are_held_against_the_nearest_peer() -> None:
    peers = {"quick": 30e-6, "slow": 90e-6, "Hugging Face, map": 21e-6}
    medians = {OURS: 10e-6, FLOOR: 4e-6} | peers
    found = {
        Way(title, "m", "f", peer="p" if title in peers else ""): {
            "cpu_s": cpu_s,
            "above_torch_bytes": 99e6,
        }
        for title, cpu_s in medians.items()
    }
    table = targets_parts(found)[1]
    assert [row[1:] for row in table.rows] == [
        (">= 3.5", "3.00 (quick)"),
        (">= 1.2", "2.10 (Hugging Face, map)"),
        (">= 50%", "40%"),
        ("<= 150", "99"),
    ]


@pytest.mark.slow
def test_reading_is_measured_and_drawn(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [f"shards={material.shards}", "benchmark.peers=[npy]", "benchmark.runs=1"]
    words += ["benchmark.batch_size=8", "benchmark.least_s=0.01", "benchmark.tasks=[one]"]
    words += ["benchmark.states=[warm]", "--plot", "--markdown", "benchmarks.md"]
    assert benchmark.main(["read", "--config", str(BASE), *words]) == 0
    copies, speeds, targets = tables_in((tmp_path / "benchmarks.md").read_text())
    assert [row[0] for row in copies[1:]] == ["npy_files"]
    by_title = {row[0].partition(":")[0]: row[1:] for row in speeds[1:]}
    assert by_title["melbank, store"] == ["-"] * 8
    for title in ("melbank, tars", "floor", ".npy files"):
        assert all(value >= 0 for value in numbers(by_title[title]))
    assert by_title["melbank, tars"][3] == "1.00"
    assert len(targets) == 4
    assert (tmp_path / "docs" / "benchmark_read_uint8.png").stat().st_size > 5000


@pytest.mark.slow
def test_every_peer_delivers_the_same(tmp_path: Path) -> None:
    """Makes the peers' environments where they are not there yet; one that fails is a row."""
    report = tmp_path / "benchmarks.md"
    words = ["benchmark.num_recordings=256", "benchmark.slices_per_recording=3"]
    words += [
        "benchmark.runs=1",
        "benchmark.dtypes=[uint8]",
        "benchmark.states=[cold]",
        "--markdown",
        str(report),
    ]
    assert benchmark.main(["read", "--config", str(BASE), *words]) == 0
    rows = [row for table in tables_in(report.read_text()) for row in table[1:]]
    failed = [row[0] for row in rows if len(row) == 9 and row[1] == "-"]
    assert all("cannot be installed" in title for title in failed), failed
    measured = {row[0] for row in rows if len(row) == 9 and row[1] != "-"}
    assert len(measured) >= 7
