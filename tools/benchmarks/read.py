"""Measure reading slices as a training does, against other loaders and formats.

    python -m tools.benchmark read benchmark.source_root=data --plot --markdown docs/benchmarks.md
    python -m tools.benchmark read store=data/store shards=data/shards
    python -m tools.benchmark read benchmark.peers=[litdata,huggingface] benchmark.states=[warm]

Two tasks: one random slice of each recording, and every slice once, shuffled; in batches of 64,
as torch tensors. Each way reads its own copy of the same slices, each run in a process of its own,
on one core; each peer lives in an environment of its own, made on first use (some GB without uv).
What arrives is compared with what was asked for. Without store= and shards= slices are made, from
real ones where benchmark.source_root is given. An hour for all; copies take 13 times the slices.
"""

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from storage.encoding import ENCODINGS
from storage.errors import StoreError
from storage.options import check_choice, check_positive, option
from tools.benchmarks.harness.page_cache import evict, warm
from tools.benchmarks.harness.process import check_measurable
from tools.benchmarks.harness.work_folder import work_folder
from tools.benchmarks.reading.contenders import (
    CELLS,
    COPY,
    SHARDS,
    STORE,
    WAYS,
    Way,
    our_python,
    run_way,
    spec_of,
)
from tools.benchmarks.reading.environments import PEERS, python_of
from tools.benchmarks.reading.plans import ALL, ONE, TASKS
from tools.benchmarks.reading.report import COLD, WARM, Copy, Measurements, sections_parts
from tools.benchmarks.reading.results import Result, Results, Turn
from tools.benchmarks.reading.slices import (
    Material,
    SlicesConfig,
    given_material,
    made_material,
)
from tools.cli.command import Arguments, Command
from tools.cli.tables import MARKDOWN, PLOT, Section, Table, publish

NPY = "npy"
FLOAT32_SHARE = 4  # as many bytes in a quarter of the recordings


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBenchmarkConfig(SlicesConfig):
    """Slices to read, contenders, and repetitions."""

    num_recordings: int = option(3072, "recordings; a quarter of them in float32")
    slices_per_recording: int = option(8, "slices of a recording, on average")
    dtypes: list[str] = field(
        default_factory=lambda: ["uint8", "float32"],
        metadata={"help": f"cells: {', '.join(ENCODINGS)}; those of a given store are its own"},
    )
    tasks: list[str] = field(
        default_factory=lambda: [ONE, ALL],
        metadata={"help": "one: a random slice per recording; all: every slice once"},
    )
    states: list[str] = field(
        default_factory=lambda: [WARM, COLD],
        metadata={"help": "warm: files in the page cache; cold: none is"},
    )
    peers: list[str] = field(
        default_factory=lambda: [NPY, *PEERS], metadata={"help": "the others to be measured"}
    )
    runs: int = option(3, "runs of each way, in turn; the tables have medians")
    least_s: float = option(1.0, "a warm run takes whole epochs until so much time has passed, s")
    timeout_s: float = option(900.0, "longer than this no run may take, s")

    def __post_init__(self) -> None:
        SlicesConfig.__post_init__(self)
        check_positive(self, "benchmark", "least_s")
        check_choice(self, "benchmark", "dtypes", ENCODINGS)
        check_choice(self, "benchmark", "tasks", TASKS)
        check_choice(self, "benchmark", "states", (WARM, COLD))
        check_choice(self, "benchmark", "peers", (NPY, *PEERS))


@dataclass(frozen=True, kw_only=True)
class Sections:
    """Config sections of this command."""

    store: str | None = option(None, "folder of a store; null: none, or one made for it")
    shards: str | None = option(None, "folder of tar shards, of the same slices")
    benchmark: ReadBenchmarkConfig = field(default_factory=ReadBenchmarkConfig)


COMMAND = Command(doc=__doc__, sections=Sections, flags=(MARKDOWN, PLOT))


def main(config: Sections, arguments: Arguments) -> None:
    """Measures all ways, prints the tables, writes what was asked for."""
    check_measurable()
    section = run_benchmark(config, plot=arguments.plot)
    publish(section, "read", arguments)


def run_benchmark(config: Sections, *, plot: bool) -> Section:
    """All ways on all slices, as a section of the report."""
    parts: list[Table | str] = []
    given = config.store is not None or config.shards is not None
    dtypes = [""] if given else config.benchmark.dtypes
    with work_folder(config.benchmark.work_dir) as work:
        for dtype in dtypes:
            folder = work / (dtype or "given")
            folder.mkdir()
            material = _material(config, dtype, folder)
            measurements = _Run(config.benchmark, material, folder).measure()
            parts += sections_parts(measurements, plot=plot)
            shutil.rmtree(folder)
    return Section(name="read", title="Reading: slices into training", parts=tuple(parts))


class _Run:
    """All ways on the slices of one cell type."""

    def __init__(self, config: ReadBenchmarkConfig, material: Material, folder: Path) -> None:
        self._config = config
        self._material = material
        self._folder = folder
        ways = tuple(way for way in WAYS if not way.peer or way.peer in config.peers)
        self._results = Results(ways=ways)
        self._copies: dict[str, Copy] = {}
        self._stayed: list[float] = []
        self._pythons: dict[str, Path] = {}

    def measure(self) -> Measurements:
        """Copies, then measures in turn, so that a slower moment slows all contenders."""
        config, ways, failures = self._config, self._results.ways, self._results.failures
        self._leave_out_what_is_not_given()
        for way in ways:
            if way.reads == COPY and way.module not in self._copies and way not in failures:
                with self._results.failing(*(one for one in ways if one.module == way.module)):
                    self._write_copy(way)
        expected = {task: self._expect(task) for task in config.tasks}
        turns = [
            (way, (task, state))
            for state in config.states
            for task in config.tasks
            for way in ways
            if task in way.tasks
        ]
        self._results.measure(config.runs * turns, lambda turn: self._read(turn, expected))
        return Measurements(
            material=self._material,
            results=self._results,
            copies=self._copies,
            stayed=max(self._stayed, default=0.0),
            tasks=tuple(config.tasks),
            states=tuple(config.states),
            runs=config.runs,
        )

    def _leave_out_what_is_not_given(self) -> None:
        for way in self._results.ways:
            missing = (way.reads == STORE and self._material.store is None) or (
                way.reads == SHARDS and self._material.shards is None
            )
            if missing:
                self._results.failures[way] = f"{way.reads}= was not given"

    def _write_copy(self, way: Way) -> None:
        """Writes the copy for the contenders of one module."""
        target = self._folder / way.module
        packages = []
        if way.peer in PEERS:
            self._pythons[way.peer] = python_of(PEERS[way.peer], self._config.env_dir)
            packages = [PEERS[way.peer].package]
        spec = spec_of(
            way, "write", cells=str(self._material.cells), target=str(target), packages=packages
        )
        answer = run_way(self._python(way), spec, self._config.timeout_s)
        self._copies[way.module] = Copy(
            versions=answer["versions"],
            size_bytes=sum(file.stat().st_size for file in target.rglob("*") if file.is_file()),
        )

    def _expect(self, task: str) -> dict[str, Any]:
        spec = spec_of(
            WAYS[0],
            "expect",
            cells=str(self._material.cells),
            plans=[str(file) for file in self._material.plans[task]],
        )
        return run_way(our_python(), spec, self._config.timeout_s)

    def _read(self, turn: Turn, expected: dict[str, dict[str, Any]]) -> Result:
        """Runs one contender; checks what it delivered when it is the first time."""
        way, (task, state) = turn
        is_first = not self._results.found.get(turn)
        target = self._target(way)
        if state == WARM:
            warm(target)
        else:
            self._stayed.append(evict(target))
        spec = spec_of(
            way,
            "read",
            target=str(target),
            about={**self._material.about, "task": task},
            plans=[str(file) for file in self._material.plans[task]],
            rows=str(self._material.rows) if way.module == "melbank" else "",
            cold=state == COLD,
            least_s=self._config.least_s,
            check=is_first,
        )
        result = run_way(self._python(way), spec, self._config.timeout_s)
        wanted = expected[task]["everything" if task in way.streams else "planned"]
        if is_first and result["delivered"] != wanted:
            raise StoreError(
                f"{result['delivered'][0]} slices came where {wanted[0]} were asked for, "
                "or others than those"
            )
        return result

    def _target(self, way: Way) -> Path:
        given = {
            CELLS: self._material.cells,
            STORE: self._material.store,
            SHARDS: self._material.shards,
        }
        return given.get(way.reads) or self._folder / way.module

    def _python(self, way: Way) -> Path:
        return self._pythons.get(way.peer, our_python())


def _material(config: Sections, dtype: str, folder: Path) -> Material:
    """The given slices, or made ones of a cell type."""
    chosen = config.benchmark
    if not dtype:
        store = None if config.store is None else Path(config.store)
        shards = None if config.shards is None else Path(config.shards)
        return given_material(store, shards, chosen, folder)
    if dtype == "float32":
        chosen = replace(chosen, num_recordings=max(1, chosen.num_recordings // FLOAT32_SHARE))
    return made_material(chosen, dtype, folder)
