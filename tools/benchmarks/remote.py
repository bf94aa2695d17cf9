"""Measure reading from an object store, against other loaders.

    python -m tools.benchmark remote --markdown docs/object-storage.md
    python -m tools.benchmark remote benchmark.source_root=data benchmark.runs=3
    python -m tools.benchmark remote benchmark.peers=[] benchmark.latencies_s=[0.1]

One random slice of each recording, in batches of 64, up to six epochs, from nothing on: opening and
the first batch count, caches begin empty. Slices are made, from real ones where
benchmark.source_root is given, and put into a bucket of a real S3 server on this machine. Clients
reach it through a proxy that adds latency to each request, carries benchmark.link_mb_s, and counts.
It gives the objects' bytes itself: the server, made for tests, would be the slowest part of all.
Each way in a process of its own, on one core. Eight minutes and 2 GB of disk; peers are installed
on first use.
"""

from dataclasses import dataclass, field
from pathlib import Path

from storage.options import check_at_least, check_choice, option
from tools.benchmarks.harness.process import check_measurable
from tools.benchmarks.harness.work_folder import work_folder
from tools.benchmarks.reading.remote_contenders import REMOTE_PEERS, REMOTE_WAYS, Bucket
from tools.benchmarks.reading.remote_report import RemoteMeasurements, remote_parts
from tools.benchmarks.reading.results import Result, Results, Turn
from tools.benchmarks.reading.slices import Material, SlicesConfig, made_material
from tools.cli.command import Arguments, Command
from tools.cli.progress_bars import bar
from tools.cli.tables import MARKDOWN, Section, publish
from tools.testbed.fault_proxy import Faults

MB = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteBenchmarkConfig(SlicesConfig):
    """Slices to read, the network, and repetitions."""

    latencies_s: list[float] = field(
        default_factory=lambda: [0.0, 0.03],
        metadata={"help": "added to each request, s; one table each"},
    )
    link_mb_s: float = option(125.0, "what the line carries, MB/s; 0: whatever it can")
    peers: list[str] = field(
        default_factory=lambda: [*REMOTE_PEERS], metadata={"help": "the others to be measured"}
    )

    def __post_init__(self) -> None:
        SlicesConfig.__post_init__(self)
        check_at_least(self, "benchmark", 0, "link_mb_s", "latencies_s")
        check_choice(self, "benchmark", "peers", REMOTE_PEERS)


@dataclass(frozen=True, kw_only=True)
class Sections:
    """Config sections of this command."""

    benchmark: RemoteBenchmarkConfig = field(default_factory=RemoteBenchmarkConfig)


COMMAND = Command(doc=__doc__, sections=Sections, flags=(MARKDOWN,))


def main(config: Sections, arguments: Arguments) -> None:
    """Measures all ways, prints the tables, writes what was asked for."""
    check_measurable()
    section = run_benchmark(config.benchmark)
    publish(section, "remote", arguments)


def run_benchmark(config: RemoteBenchmarkConfig) -> Section:
    """All ways, as a section of the report."""
    with work_folder(config.work_dir) as work:
        material = made_material(config, "uint8", work)
        measurements = measure(config, material, work)
    return Section(
        name="remote", title="Measured: over a line", parts=tuple(remote_parts(measurements))
    )


def measure(config: RemoteBenchmarkConfig, material: Material, work: Path) -> RemoteMeasurements:
    """Uploads, then measures contenders in turn, so that a slower moment slows all of them."""
    ways = tuple(way for way in REMOTE_WAYS if not way.peer or way.peer in config.peers)
    results = Results(ways=ways)
    with Bucket.opened(work, timeout_s=config.timeout_s, env_dir=config.env_dir) as bucket:

        def run(turn: Turn) -> Result:
            way, latency_s = turn
            faults = Faults(latency_s=latency_s, link_bytes_s=config.link_mb_s * MB)
            bucket.proxy.faults = faults
            return bucket.run(way, material)

        with bar("uploading", len(ways), "copies") as step:
            for way in ways:
                with results.failing(way):
                    bucket.add(way, material)
                step(1)
        turns = [(way, latency_s) for latency_s in config.latencies_s for way in ways]
        results.measure(config.runs * turns, run)
    return RemoteMeasurements(
        material=material,
        results=results,
        latencies_s=tuple(config.latencies_s),
        link_mb_s=config.link_mb_s,
        runs=config.runs,
    )
