"""The benchmarks run, and say what they should; how fast anything is, is not tested here."""

import os
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.errors import ConfigError, StoreError
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.paths import ROOT
from tests.sounds import write_source
from tools import benchmark
from tools.benchmarks.harness.process import run_measured, session_bytes, session_cpu_s
from tools.benchmarks.harness.recordings import find_recordings, join_recordings, link_recordings
from tools.benchmarks.harness.synthetic_index import write_index
from tools.cli.tables import Section, Table, write_section

BASE = ROOT / "configs" / "base.yaml"
ON_LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(31)
    return write_source(tmp_path_factory.mktemp("source"), [6.0, 3.0, 8.0, 5.5], rng)


@pytest.fixture(scope="module")
def store(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("built") / "store"
    build_store(SourceConfig(root=str(source)), Recipe(), str(target), BuildConfig(workers=1))
    return target


def numbers(cells: list[str]) -> list[float]:
    """Cells as numbers; those that say nothing, `-`, are left out."""
    plain = [cell.replace(",", "").removesuffix("%") for cell in cells if cell != "-"]
    return [float(cell) for cell in plain]


def tables_in(text: str) -> list[list[list[str]]]:
    """The cells of the tables of a Markdown text, without their rules."""
    tables = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        lines = [line.strip("|").split("|") for line in block.splitlines()]
        tables.append([[cell.strip() for cell in line] for line in (lines[0], *lines[2:])])
    return tables


@ON_LINUX
@pytest.mark.slow
def test_building_is_measured_in_all_ways(source: Path, tmp_path: Path, capsys) -> None:
    report = tmp_path / "docs" / "benchmarks.md"
    words = [f"benchmark.source_root={source}", "benchmark.runs=1", "benchmark.repeat=2"]
    words += ["--markdown", str(report)]
    assert benchmark.main(["build", "--config", str(BASE), *words]) == 0
    text = report.read_text()
    assert "8 recordings (as they are)" in text
    assert f"python -m tools.benchmark build --config {BASE}" in text
    ways, ratios = tables_in(text)
    assert [row[0] for row in ways[1:]] == [
        "notebook: librosa, .npy",
        "notebook, held to one thread",
        "notebook in a joblib pool of 2",
        "melbank, 1 worker",
        "melbank, 2 workers",
        "decoding alone",
    ]
    assert all(value > 0 for row in ways[1:] for value in numbers(row[1:5]))
    bytes_per_slice = [row[5] for row in ways[1:]]
    assert bytes_per_slice[:3] == ["160,384"] * 3  # float32 [128, 313] and the header of .npy
    assert bytes_per_slice[3] == bytes_per_slice[4]  # equal stores
    assert all(value > 0 for row in ratios[1:] for value in numbers(row[1:]))
    assert "melbank, 1 worker" in capsys.readouterr().out


@ON_LINUX
@pytest.mark.slow
def test_the_memory_of_a_long_recording_and_a_chart(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    long = source / "train_audio" / "spec2" / "XC0002.ogg"
    words = [f"benchmark.source_root={source}", "benchmark.runs=1", "benchmark.label=short ones"]
    words += [f"benchmark.long_recording={long}", "--plot", "--markdown", "benchmarks.md"]
    assert benchmark.main(["build", "--config", str(BASE), *words]) == 0
    text = (tmp_path / "benchmarks.md").read_text()
    assert "<!-- begin build short ones -->" in text
    ways, _, memory = tables_in(text)
    assert [row[0] for row in memory[1:]] == [ways[2][0], ways[4][0], ways[6][0]]
    assert all(numbers(row[8:9])[0] > 10 for row in memory[1:])
    assert (tmp_path / "docs" / "benchmark_build_short_ones.png").stat().st_size > 5000


@pytest.mark.slow
@ON_LINUX
def test_a_way_that_fails_ends_it_with_its_reason(source: Path, tmp_path: Path) -> None:
    whole = source / "train_audio" / "spec0" / "XC0000.ogg"
    cut = tmp_path / "cut.ogg"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    recordings = link_recordings([cut], tmp_path / "source", 1)
    way = ["ours", "1", str(recordings.root), str(tmp_path / "store")]
    with pytest.raises(StoreError, match="1 recordings were not stored whole"):
        run_measured("tools.benchmarks.building.variants", way)


def test_reading_is_measured_against_all_peers(store: Path, tmp_path: Path) -> None:
    report = tmp_path / "benchmarks.md"
    words = [f"store={store}", "benchmark.repeats=2", "benchmark.runs=1"]
    words += ["benchmark.num_slices=8", "--markdown", str(report)]
    assert benchmark.main(["store-read", "--config", str(BASE), *words]) == 0
    (table,) = tables_in(report.read_text())
    titles = [row[0].partition(":")[0] for row in table[1:]]
    assert titles[:3] == ["melbank", "zarr-python, oindex", "zarr-python, row by row"]
    assert sorted(titles[3:]) == [
        ".npy files",
        "h5py, gzip",
        "h5py, lzf",
        "np.memmap, uncompressed",
    ]
    assert all(value > 0 for row in table[1:] for value in numbers(row[1:]))


def test_codecs_are_measured_side_by_side(store: Path, tmp_path: Path) -> None:
    report = tmp_path / "benchmarks.md"
    words = [f"store={store}", "benchmark.num_slices=4", "benchmark.runs=1"]
    assert benchmark.main(["codecs", "--config", str(BASE), *words, "--markdown", str(report)]) == 0
    (table,) = tables_in(report.read_text())
    assert [row[0] for row in table[1:4]] == ["melbank lz4", "melbank zstd", "none, as in tars"]
    size, share, *times = numbers(table[3][1:])
    assert (size, share) == (40_064, 100)
    assert all(one > 0 for one in times)
    assert all(row[-1] == "-" for row in table[4:])


def test_queries_are_measured_at_all_sizes(tmp_path: Path) -> None:
    report = tmp_path / "benchmarks.md"
    words = ["benchmark.num_rows=[3000,20000]", "benchmark.runs=1", "--markdown", str(report)]
    assert benchmark.main(["query", "--config", str(BASE), *words]) == 0
    (table,) = tables_in(report.read_text())
    sizes = ("3,000", "20,000")
    columns = [f"{size} rows, {unit}" for size in sizes for unit in ("ms", "CPU ms")]
    assert table[0] == ["query", *columns]
    assert len(table) == 8
    assert all(value > 0 for row in table[1:] for value in numbers(row[1:]))


def test_the_synthetic_index_is_a_store(tmp_path: Path, store: Path) -> None:
    write_index(str(tmp_path / "index"), 20_000, seed=3)
    with open_store(str(tmp_path / "index")) as made, open_store(str(store)) as real:
        index = made.slice_index()
        assert index.schema == real.slice_index().schema
        assert len(index) == 20_000
        assert index["row"].is_unique().all()
        assert made.recordings()["num_slices"].sum() == 20_000
        shared = set(made.recordings().columns) & set(real.recordings().columns)
        kinds = made.recordings().schema
        assert {name: kinds[name] for name in shared - {"rating"}} == {
            name: real.recordings().schema[name] for name in shared - {"rating"}
        }


def test_joined_recordings_have_the_length_and_are_repeated(source: Path, tmp_path: Path) -> None:
    files = find_recordings(str(source), None)
    joined = join_recordings(files, tmp_path / "joined", 8.0, 2)
    assert len(joined.files) == len(joined.durations_s) == 4
    assert min(joined.durations_s) >= 8
    assert {soundfile.info(file).samplerate for file in joined.files} == {32_000}
    linked = link_recordings(files, tmp_path / "linked", 3)
    assert len(linked.files) == 12
    assert linked.audio_s == pytest.approx(3 * 22.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("build benchmark.runs=0", "benchmark.runs=0 must be at least 1"),
        ("build benchmark.workers=1", "benchmark.workers=1 must be at least 2"),
        ("build benchmark.join_s=-1", "benchmark.join_s=-1 must be positive"),
        ("build benchmark.long_recording=none.ogg", "no such file"),
        ("build benchmark.work_dir=no/such/folder", "there is no such folder"),
        ("build benchmark.source_root=no/such/folder", "there is no such folder"),
        ("build benchmark.rnus=1", "Did you mean benchmark.runs"),
        ("plan benchmark.runs=0", "benchmark.runs=0"),
        ("read benchmark.runs=0", "benchmark.runs=0 must be at least 1"),
        ("read benchmark.least_s=0", "benchmark.least_s=0 must be positive"),
        ("read benchmark.peers=[litdta]", "litdta is none of npy, webdataset"),
        ("read benchmark.tasks=[two]", "two is none of one, all"),
        ("read benchmark.states=[hot]", "hot is none of warm, cold"),
        ("read benchmark.dtypes=[int8]", "int8 is none of uint8"),
        ("read shards=no/such/shards", "is not a finished shard set"),
        ("remote benchmark.timeout_s=0", "benchmark.timeout_s=0 must be positive"),
        ("remote benchmark.peers=[litdta]", "litdta is none of webdataset, mosaicml, litdata"),
        ("remote benchmark.latencies_s=[-1]", "must be at least 0"),
        ("augment benchmark.rounds=0", "benchmark.rounds=0 must be at least 1"),
        ("augment benchmark.p=0", "benchmark.p=0 must be positive"),
        ("step benchmark.steps=0", "steps=0 must be at least 1"),
    ],
)
def test_a_wrong_call_is_refused(call: str, message: str, capsys) -> None:
    assert benchmark.main([*call.split(), "--config", str(BASE)]) in (1, 2)
    assert message in capsys.readouterr().err


def test_the_first_word_names_a_benchmark(capsys) -> None:
    assert benchmark.main([]) == 2
    assert benchmark.main(["bulid"]) == 2
    assert "build, store-read, codecs, query" in capsys.readouterr().err
    assert benchmark.main(["--help"]) == 0
    assert "store-read" in capsys.readouterr().out


def test_a_section_replaces_its_own_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "docs" / "benchmarks.md"
    table = Table(columns=("way", "slices/s"), rows=(("ours", "9"), ("theirs \\1", "1")))
    for name, text in (("one", "first"), ("two", "other"), ("one", "second")):
        section = Section(name=name, title=name, parts=(text, table))
        write_section(file, section, [name, "key=a b"])
    written = file.read_text()
    assert written.index("second") < written.index("other")
    assert "first" not in written
    assert written.count("| theirs \\1 | 1 |") == 2
    assert "python -m tools.benchmark one 'key=a b'" in written
    file.write_text(written.replace("<!-- end one -->", ""))
    with pytest.raises(ConfigError, match="correct it by hand"):
        write_section(file, section, ["one"])


def test_columns_are_aligned() -> None:
    table = Table(columns=("way", "slices/s"), rows=(("ours", "1,234"), ("the others", "5")))
    assert table.text().splitlines() == [
        "way         slices/s",
        "ours           1,234",
        "the others         5",
    ]


@ON_LINUX
def test_time_and_memory_are_those_of_the_whole_session() -> None:
    child = "x = bytearray(80_000_000); i = 0\nwhile i < 3_000_000: i += 1\n"
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])\ninput()"
    process = subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        peak_bytes, ends = 0, time.monotonic() + 60
        while session_cpu_s(process.pid) < 0.1 or peak_bytes < 80e6:
            peak_bytes = max(peak_bytes, session_bytes(process.pid))
            assert time.monotonic() < ends
        assert session_cpu_s(os.getsid(0)) > 0
    finally:
        process.communicate(b"\n")
    assert session_cpu_s(process.pid) == 0


@ON_LINUX
def test_a_peak_is_not_that_of_the_process_that_starts_the_measured_one() -> None:
    module = "tools.benchmarks.harness.process"
    child = f"import os; from {module} import *; print(session_bytes(os.getsid(0), 'VmHWM'))"
    parent = f"""
        import subprocess, sys
        large = b"x" * 300_000_000
        subprocess.run([sys.executable, "-c", {child!r}], check=True, start_new_session=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(parent)]
    assert 0 < int(subprocess.check_output(command, cwd=ROOT, text=True)) < 250e6
