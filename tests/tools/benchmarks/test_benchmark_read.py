"""Reading is measured: every way delivers what was asked for, and what fails says why."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from storage.errors import ConfigError, StoreError
from tests.tools.benchmarks.test_benchmark import BASE, ON_LINUX, numbers, tables_in
from tools import benchmark
from tools.benchmarks.harness.page_cache import evict, resident_pages, warm
from tools.benchmarks.reading.contenders import FLOOR, OURS, WAYS, Way, our_python, run_way
from tools.benchmarks.reading.environments import Peer, python_of
from tools.benchmarks.reading.plans import ALL, ONE
from tools.benchmarks.reading.report import Medians, targets_parts
from tools.benchmarks.reading.slices import Material, SlicesConfig, given_material, made_material
from tools.benchmarks.ways import floors, hdf5, melbank, npy_files, webdataset_tars, zarr_python
from tools.benchmarks.ways.run_way import delivered, fingerprint, fingerprint_all

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


def epoch_of(way: Way, material: Material, task: str, copy: Path) -> list[Any]:
    """The fingerprint of what a way delivers in the first epoch of a task."""
    module = MODULES[way.module]
    target = {"cells": material.cells, "store": material.store, "shards": material.shards}.get(
        way.reads, copy
    )
    if target is copy:
        module.write(np.load(material.cells, mmap_mode="r"), copy)
    about = {**material.about, "task": task}
    epoch = getattr(module, way.function)(target, about)
    rows = str(material.rows) if module is melbank else ""
    batches = epoch(np.load(material.plans[task][0]), 0)
    return delivered(batches, {"about": about, "rows": rows})


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves them open
@pytest.mark.parametrize("task", [ONE, ALL])
@pytest.mark.parametrize("way", WAYS_HERE, ids=lambda way: way.title)
def test_a_way_delivers_what_is_planned(way, task: str, material: Material, tmp_path: Path) -> None:
    if task not in way.tasks:
        pytest.skip("not a task of this way")
    cells, wanted = np.load(material.cells), np.load(material.plans[task][0])
    expected = fingerprint_all(cells) if task in way.streams else fingerprint(cells, wanted)
    assert epoch_of(way, material, task, tmp_path / "copy") == expected


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


def test_other_slices_have_another_fingerprint() -> None:
    cells = np.random.default_rng(5).integers(0, 256, (6, 4, 5), np.uint8)
    known = fingerprint(cells, np.array([4, 1, 3]))
    assert known == fingerprint(cells, np.array([1, 3, 4]))
    assert known != fingerprint(cells, np.array([1, 3]))
    assert known != fingerprint(cells, np.array([1, 3, 5]))
    assert known != fingerprint(cells, np.array([1, 3, 3]))
    other = cells.copy()
    other[3, 0, 0] ^= 1
    assert known != fingerprint(other, np.array([4, 1, 3]))
    asked = {"about": {"shape": [4, 5], "dtype": "float32"}, "rows": ""}
    with pytest.raises(ValueError, match=r"batches are torch.uint8 \[2, 4, 5\]"):
        delivered(iter([(torch.from_numpy(cells[:2]), np.arange(2))]), asked)


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
    module, plan = tmp_path / "way.py", tmp_path / "plan.npy"
    module.write_text(code)
    np.save(plan, np.arange(3))
    asked = {"job": "read", "module": str(module), "function": "f", "project": "", "cold": True}
    asked |= {"plans": [str(plan)], "target": str(tmp_path), "about": {}}
    with pytest.raises(StoreError, match=reason):
        run_way(our_python(), asked, timeout_s)


def test_an_environment_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    peer = Peer(name="none", package="/no/such/package", versions="")
    with pytest.raises(StoreError, match="/no/such/package cannot be installed: "):
        python_of(peer, str(tmp_path))
    assert not list(tmp_path.glob("*/ready.json"))


def test_a_ready_environment_is_taken_as_it_is(tmp_path: Path) -> None:
    peer = Peer(name="ready", package="/no/such/package", versions="")
    with pytest.raises(StoreError):
        python_of(peer, str(tmp_path))
    (folder,) = (path for path in tmp_path.iterdir() if path.name.startswith("ready-"))
    (folder / "ready.json").write_text(json.dumps({"requirements": peer.requirements}))
    assert python_of(peer, str(tmp_path)) == folder / "bin" / "python"


def test_files_go_into_the_page_cache_and_out_again(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "file"
    file.parent.mkdir()
    file.write_bytes(bytes(1_000_001))
    (tmp_path / "empty").touch()
    warm(tmp_path)
    with file.open("rb") as opened:
        assert resident_pages(opened.fileno()).sum() == 245
        stayed = evict(tmp_path)
        assert resident_pages(opened.fileno()).mean() == stayed  # 0, but on a disk in memory


def test_targets_are_held_against_the_nearest_peer() -> None:
    peers = {"quick": 30e-6, "slow": 90e-6, "Hugging Face, map": 21e-6}
    medians = {OURS: 10e-6, FLOOR: 4e-6} | peers
    found = {
        Way(title=title, module="m", function="f", peer="p" if title in peers else ""): Medians(
            wall_s=cpu_s, cpu_s=cpu_s, asked_bytes=1, disk_bytes=0, above_torch_bytes=99e6
        )
        for title, cpu_s in medians.items()
    }
    table = targets_parts(found)[1]
    assert [row[1:] for row in table.rows] == [
        (">= 3.5", "3.00 (quick)"),
        (">= 1.2", "2.10 (Hugging Face, map)"),
        (">= 50%", "40%"),
        ("<= 150", "99"),
    ]


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


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("benchmark.runs=0", "benchmark.runs=0 must be at least 1"),
        ("benchmark.least_s=0", "benchmark.least_s=0 must be positive"),
        ("benchmark.peers=[litdta]", "litdta is none of npy, webdataset"),
        ("benchmark.tasks=[two]", "two is none of one, all"),
        ("benchmark.states=[hot]", "hot is none of warm, cold"),
        ("benchmark.dtypes=[int8]", "int8 is none of uint8"),
        ("benchmark.work_dir=no/such/folder", "there is no such folder"),
        ("shards=no/such/shards", "is not a finished shard set"),
        ("benchmark.num_recording=1", "Did you mean num_recordings"),
    ],
)
def test_a_wrong_call_is_refused(word: str, message: str, capsys) -> None:
    assert benchmark.main(["read", "--config", str(BASE), word]) in (1, 2)
    assert message in capsys.readouterr().err
