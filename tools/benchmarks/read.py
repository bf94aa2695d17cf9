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

import math
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

from storage.encoding import ENCODINGS
from storage.options import check_choice, check_positive, option
from tools.benchmarks.harness.chart import write_bars
from tools.benchmarks.harness.page_cache import evict, warm
from tools.benchmarks.harness.process import Result, check_measurable
from tools.benchmarks.harness.runs import MB, Columns, Medians, medians, table_of, work_folder
from tools.benchmarks.reading.contenders import ARROW, COPY, FLOOR, OURS, PEERS, WAYS, Way
from tools.benchmarks.reading.contest import Contest, Turn
from tools.benchmarks.reading.plans import ALL, ONE, TASKS
from tools.benchmarks.reading.slices import Material, SlicesConfig, given_material, made_material
from tools.cli.command import Arguments, Command
from tools.cli.tables import MARKDOWN, PLOT, Section, Table

NPY = "npy"
FLOAT32_SHARE = 4  # as many bytes in a quarter of the recordings
WARM, COLD = "warm", "cold"
TIMES_PEER, TIMES_ARROW, FLOOR_SHARE, MEMORY_MB = 3.5, 1.2, 0.5, 150

EXPLANATION = (
    "Each run in a process of its own, held to one core and one thread, no worker processes; ways "
    "in turn, medians. CPU time is that of all threads of the process, of the reading alone: "
    "opening is not in it, drawing the epoch is for melbank, the others are given theirs. Batches "
    "are torch tensors in the cell type as stored. melbank's rows without a remark verify a crc32c "
    "of every slice; zarr-python verifies that of its compressed chunks, nobody else anything. A "
    "way that cannot pick slices reads all of them and drops those that are not wanted; only the "
    "wanted ones are counted. Floors fill one kept buffer. Asked: bytes that system calls returned "
    "(mapped files need none). Memory: the peak above a process that has imported torch, pages of "
    "mapped files included. A store keeps its slices compressed, so there is no raw one to measure."
)


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


def run_benchmark(config: Sections, arguments: Arguments) -> Section:
    """Measures all ways on all slices."""
    check_measurable()
    parts: list[Table | str] = []
    given = config.store is not None or config.shards is not None
    with work_folder(config.benchmark.work_dir) as work:
        for dtype in [""] if given else config.benchmark.dtypes:
            folder = work / (dtype or "given")
            folder.mkdir()
            material = _material(config, dtype, folder)
            parts += _measured_parts(config.benchmark, material, folder, plot=arguments.plot)
            shutil.rmtree(folder)
    return Section(name="read", title="Reading: slices into training", parts=tuple(parts))


def _material(config: Sections, dtype: str, folder: Path) -> Material:
    """Returns the given slices, or made ones of a cell type."""
    chosen = config.benchmark
    if not dtype:
        store = None if config.store is None else Path(config.store)
        shards = None if config.shards is None else Path(config.shards)
        return given_material(store, shards, chosen, folder)
    if dtype == "float32":
        chosen = replace(chosen, num_recordings=max(1, chosen.num_recordings // FLOAT32_SHARE))
    return made_material(chosen, dtype, folder)


def _measured_parts(
    config: ReadBenchmarkConfig, material: Material, folder: Path, *, plot: bool
) -> list[Table | str]:
    """Measures all ways on the slices of one cell type; returns the report's parts on it."""
    ways = tuple(way for way in WAYS if not way.peer or way.peer in config.peers)
    contest = Contest(ways, config, material, folder)
    stayed = _measure(contest, config)
    dtype, shape = material.about["dtype"], material.about["shape"]
    parts: list[Table | str] = [
        f"{dtype}: {material.num_slices:,} slices [{shape[0]}, {shape[1]}] of "
        f"{material.num_recordings:,} recordings, "
        f"{material.num_slices * material.slice_bytes / MB:,.0f} MB; {config.runs} runs. "
        + EXPLANATION,
        _copies_table(contest),
    ]
    for state in config.states:
        for task in config.tasks:
            title = f"{dtype}, {TASKS[task]}, {state}"
            if state == COLD:
                title += f" (at most {stayed:.1%} of a way's pages were still there)"
            parts += [f"**{title}**", _speeds_table(contest, task, state)]
    if dtype == "uint8" and ONE in config.tasks and WARM in config.states:
        parts += targets_parts(_medians(contest, ONE, WARM))
    if plot and WARM in config.states:
        parts.append(_chart(contest, dtype, config.tasks))
    return parts


def _measure(contest: Contest, config: ReadBenchmarkConfig) -> float:
    """Copies, then measures; returns the largest share of a way's pages that a cold cache held."""
    stayed, checked = [0.0], set()

    def read(turn: Turn) -> Result:
        way, (task, state) = turn
        source = contest.source(way)
        if state == WARM:
            warm(source)
        else:
            stayed.append(evict(source))
        result = contest.run(
            way,
            "read",
            source,
            about={**contest.material.about, "task": task},
            plans=list(map(str, contest.material.plans[task])),
            cold=state == COLD,
            least_s=config.least_s,
            check=turn not in checked,
            streams=task in way.streams,
        )
        checked.add(turn)
        return result

    contest.prepare(contest.source)
    turns = [
        (way, (task, state))
        for state in config.states
        for task in config.tasks
        for way in contest.ways
        if task in way.tasks
    ]
    contest.measure(turns, read)
    return max(stayed)


def _medians(contest: Contest, task: str, state: str) -> dict[Way, Medians]:
    """Returns the medians per slice of each way that was measured; of memory the most."""
    found = contest.results((task, state))
    return {way: medians(results, ("above_torch_bytes",)) for way, results in found.items()}


def _copies_table(contest: Contest) -> Table:
    """Returns the disk space of each peer's copy."""
    rows = []
    plain_bytes = contest.material.num_slices * contest.material.slice_bytes
    for way in {way.copy: way for way in contest.ways if way.reads == COPY}.values():
        if way.copy in contest.versions:
            versions = [f"{name} {found}" for name, found in contest.versions[way.copy].items()]
            files = [file for file in contest.source(way).rglob("*") if file.is_file()]
            size = sum(file.stat().st_size for file in files)
            cells = (f"{size / MB:,.0f}", f"{size / plain_bytes:.2f}")
            rows.append((way.copy, ", ".join(versions) or "-", *cells))
    return Table(columns=("copy", "written by", "MB", "times the cells"), rows=tuple(rows))


def _speeds_table(contest: Contest, task: str, state: str) -> Table:
    """Returns a row per way; failures say why."""
    found = _medians(contest, task, state)
    by_title = {way.title: one for way, one in found.items()}
    nothing = {"cpu_s": math.nan}
    ours_s = by_title.get(OURS, nothing)["cpu_s"]
    floor_s = by_title.get(FLOOR, nothing)["cpu_s"]
    columns: Columns = {
        "slices/s": lambda one: f"{1 / one['wall_s']:,.0f}",
        "slices per CPU s": lambda one: f"{1 / one['cpu_s']:,.0f}",
        "CPU us/slice": lambda one: f"{one['cpu_s'] * 1e6:,.1f}",
        "times melbank's CPU": lambda one: f"{one['cpu_s'] / ours_s:.2f}".replace("nan", "-"),
        "of the pread floor": lambda one: f"{floor_s / one['cpu_s']:.0%}".replace("nan%", "-"),
        "asked kB/slice": lambda one: f"{one['asked_bytes'] / 1e3:,.1f}",
        "from disk kB/slice": lambda one: f"{one['disk_bytes'] / 1e3:,.1f}",
        "peak MB above torch": lambda one: f"{one['above_torch_bytes'] / MB:,.0f}",
    }
    rows = {
        f"{way.title}: {contest.failures[way]}" if way in contest.failures else way.title: (
            found.get(way)
        )
        for way in contest.ways
        if task in way.tasks
    }
    return table_of("way", columns, rows)


def targets_parts(found: dict[Way, Medians]) -> list[Table | str]:
    """Returns targets and results: uint8, warm, one slice of each recording."""
    cpu_s = {way.title: one["cpu_s"] for way, one in found.items()}
    if OURS not in cpu_s:
        return []
    peers = {way.title for way in found if way.peer}
    arrow = {title for title in peers if title.startswith(ARROW)}
    rows = []
    for name, titles, least in (
        ("any peer but Hugging Face's arrow", peers - arrow, TIMES_PEER),
        ("Hugging Face's arrow", arrow, TIMES_ARROW),
    ):
        if titles:
            nearest = min(titles, key=cpu_s.__getitem__)
            times = f"{cpu_s[nearest] / cpu_s[OURS]:.2f} ({nearest})"
            rows.append((f"CPU of {name}, times ours", f">= {least}", times))
    if FLOOR in cpu_s:
        share = f"{cpu_s[FLOOR] / cpu_s[OURS]:.0%}"
        rows.append(("of the pread floor", f">= {FLOOR_SHARE:.0%}", share))
    (memory_mb,) = (
        one["above_torch_bytes"] / MB for way, one in found.items() if way.title == OURS
    )
    rows.append(("peak MB above torch", f"<= {MEMORY_MB}", f"{memory_mb:,.0f}"))
    table = Table(columns=("target, with checksums", "aim", "measured"), rows=tuple(rows))
    return ["Targets, for uint8, warm, one slice of each recording:", table]


def _chart(contest: Contest, dtype: str, tasks: list[str]) -> str:
    """Draws CPU per slice, warm; returns the Markdown that shows it."""
    found = {task: _medians(contest, task, WARM) for task in tasks}
    ways = [way for way in contest.ways if any(way in one for one in found.values())]
    panels = {
        f"CPU us per slice: {TASKS[task]}": [
            one[way]["cpu_s"] * 1e6 if way in one else math.nan for way in ways
        ]
        for task, one in found.items()
    }
    titles = [way.title for way in ways]
    caption = f"{dtype}, CPU time per slice"
    return write_bars(f"read {dtype}", caption, titles, panels, logarithmic=True)
