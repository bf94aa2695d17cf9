"""Measure reading from an object store, against other loaders.

    python -m tools.benchmark remote --markdown docs/object-storage.md
    python -m tools.benchmark remote benchmark.source_root=data benchmark.runs=3
    python -m tools.benchmark remote benchmark.peers=[] benchmark.latencies_s=[0.1]
    python -m tools.benchmark remote benchmark.latencies_s=[]    # what is read from nginx alone

One random slice of each recording, in batches of 64, up to six epochs, from nothing on: opening and
the first batch count, caches begin empty. Slices are made, from real ones where
benchmark.source_root is given, and put into a bucket of a real S3 server on this machine. Clients
reach it through a proxy that adds latency to each request, carries benchmark.link_mb_s, and counts.
It gives the objects' bytes itself: the server, made for tests, would be the slowest part of all.
Each way in a process of its own, on one core. Then, from nginx with a delay of 30 ms (`apt-get
install nginx-light libnginx-mod-http-lua`; left out where it is missing): ranged reading by its
CPU time, against the bare clients, and the first 1, 2, 5 and 20 epochs together. Half an hour and
2 GB of disk; peers are installed on first use.
"""

import mmap
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from storage.errors import StoreError
from storage.options import check_at_least, check_choice, option
from tools.benchmarks.harness.process import Result, check_measurable
from tools.benchmarks.harness.runs import MB, Columns, Medians, medians, table_of, work_folder
from tools.benchmarks.reading.contenders import RANGED, REMOTE_WAYS, Way
from tools.benchmarks.reading.contest import Contest, Turn
from tools.benchmarks.reading.epochs import epochs_parts
from tools.benchmarks.reading.plans import ONE
from tools.benchmarks.reading.ranged import ranged_parts
from tools.benchmarks.reading.slices import SlicesConfig, made_material
from tools.cli.command import Arguments, Command
from tools.cli.tables import MARKDOWN, Section, Table
from tools.testbed.fault_proxy import FaultProxy, Faults
from tools.testbed.s3_server import Access, S3Server, presigned, request

REMOTE_PEERS = ("webdataset", "mosaicml", "litdata")
BUCKET = "benchmark"
ENOUGH_S = 15.0  # no epoch after the second begins later than so
PRESIGNED_S = 86_400
SHOWN_EPOCHS = (1, 2, 6)
TIMES_PEER, USEFUL_TIMES, FIRST_BATCH_S, TARGET_LATENCY_S = 3.0, 1.15, 2.0, 0.03
EXPLANATION = (
    "Each run in a process of its own, held to one core, from nothing on: no local copies, opening "
    "and its requests in the first epoch and in the time to the first batch; imports are not. Each "
    "epoch draws other slices and finds what those before have left; `-` where it would have "
    "begun after more than 15 s. Every way reads its own copy of the same slices, in its usual "
    "shard size; what arrived was compared with what was asked for, and the proxy counted requests "
    "and the bytes of their answers, shown as times those of the slices delivered (in a store they "
    "are compressed). A way that cannot pick slices reads all of them; only the wanted ones are "
    "counted."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteBenchmarkConfig(SlicesConfig):
    """Slices to read, the network, and repetitions."""

    latencies_s: list[float] = field(
        default_factory=lambda: [0.0, 0.03],
        metadata={"help": "added to each request, s; one table each; []: from nginx alone"},
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


def run_benchmark(config: Sections, _: Arguments) -> Section:
    """Uploads, then measures all ways in turn."""
    check_measurable()
    chosen = config.benchmark
    with work_folder(chosen.work_dir) as work:
        material = made_material(chosen, "uint8", work)
        ways = tuple(way for way in REMOTE_WAYS if not way.peer or way.peer in chosen.peers)
        contest = Contest(ways, chosen, material, work)
        if chosen.latencies_s:
            _measure(contest, chosen, work)
        ranged = tuple(ranged_parts(material, work, chosen.runs))
        together = tuple(epochs_parts(chosen, chosen.peers, material, work))
    parts = (*_parts(contest, chosen), *ranged, *together)
    return Section(name="remote", title="Measured: over a line", parts=parts)


def _measure(contest: Contest, config: RemoteBenchmarkConfig, folder: Path) -> None:
    """Measures all contenders in turn at each latency."""
    with open_bucket(contest, folder) as bucket:

        def run(turn: Turn) -> Result:
            way, latency_s = turn
            link_bytes_s = config.link_mb_s * MB
            bucket.proxy.faults = Faults(latency_s=latency_s, link_bytes_s=link_bytes_s)
            return _by_epoch(bucket.run(way), contest.material.slice_bytes)

        contest.prepare(bucket.add)
        contest.measure([(way, s) for s in config.latencies_s for way in contest.ways], run)


@dataclass(slots=True)
class Bucket:
    """A real S3 server on loopback, and a proxy that is the network.

    `local` is the folder that clients may use, `files` has the names of each copy in the bucket.
    """

    server: S3Server
    proxy: FaultProxy
    contest: Contest
    local: Path
    files: dict[str, list[str]] = field(default_factory=dict)

    def add(self, way: Way) -> None:
        """Puts the copy that a contender reads into the bucket; StoreError where it fails."""
        if way.copy not in self.files:
            folder = self.contest.source(way)
            files = [
                path
                for path in sorted(folder.rglob("*"))
                if path.is_file() and not path.name.startswith(".")  # no lock or leftover
            ]
            for file in files:
                self._put(file, f"/{BUCKET}/{way.copy}/{file.relative_to(folder).as_posix()}")
            self.files[way.copy] = [file.name for file in files]

    def _put(self, file: Path, path: str) -> None:
        """Puts a file, and has the proxy give it from the disk's page cache."""
        data = file.read_bytes()
        if request(self.server.access, "PUT", path, body=data).status != 200:
            raise StoreError(f"{path} was not taken by the S3 server")
        headers = request(self.server.access, "HEAD", path).headers
        if data:
            with file.open("rb") as opened:
                mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            self.proxy.keep(path, headers, memoryview(mapped))

    def run(self, way: Way) -> Result:
        """Runs the epochs of a contender, its local folder empty before."""
        shutil.rmtree(self.local, ignore_errors=True)
        self.local.mkdir()
        self.proxy.reset_counts()
        access, material = Access(endpoint=self.proxy.endpoint), self.contest.material
        names = [name for name in self.files[way.copy] if name.endswith(".tar")]
        about = {
            **material.about,
            "task": ONE,
            "url": f"s3://{BUCKET}/{way.copy}",
            "names": names,
            "urls": [
                presigned(access, "GET", f"/{BUCKET}/{way.copy}/{name}", expires_s=PRESIGNED_S)
                for name in names
            ],
        }
        environment = self.server.environment(self.proxy.endpoint)
        return self.contest.run(
            way,
            "epochs",
            self.local,
            {**environment, "S3_ENDPOINT_URL": self.proxy.endpoint},  # MosaicML's variable
            about=about,
            plans=list(map(str, material.plans[ONE][: SHOWN_EPOCHS[-1]])),
            least_epochs=2,
            enough_s=ENOUGH_S,
            counts_url=self.proxy.counts_url,
        )


@contextmanager
def open_bucket(contest: Contest, folder: Path) -> Iterator[Bucket]:
    """Starts the server and the proxy; ends them."""
    with S3Server(folder / "s3") as server:
        server.make_bucket(BUCKET)
        with FaultProxy(server.access.endpoint, Faults(), seed=0) as proxy:
            yield Bucket(server, proxy, contest, folder / "local")


def _by_epoch(result: Result, slice_bytes: int) -> Result:
    """Returns a run's numbers, each epoch with its own counts: they were taken from the start on.

    `slices_per_s`, `requests` per slice and `bytes_times` those of the slices have the number of
    the epoch after their names.
    """
    found, requests, sent_bytes = {"first_batch_s": result["first_batch_s"]}, 0, 0
    for number, epoch in enumerate(result["epochs"], start=1):
        counts, num_slices = epoch["counts"], epoch["num_slices"]
        before = requests, sent_bytes
        requests, sent_bytes = (sum(counts[name].values()) for name in ("requests", "sent_bytes"))
        found[f"slices_per_s {number}"] = num_slices / epoch["wall_s"]
        found[f"requests {number}"] = (requests - before[0]) / num_slices
        found[f"bytes_times {number}"] = (sent_bytes - before[1]) / (num_slices * slice_bytes)
    return found


def _parts(contest: Contest, config: RemoteBenchmarkConfig) -> Iterator[Table | str]:
    """Yields the parts of the report."""
    material = contest.material
    line = f"{config.link_mb_s:g} MB/s" if config.link_mb_s else "whatever this machine does"
    yield (
        f"One random slice of each of {material.num_recordings:,} recordings, of "
        f"{material.num_slices:,} slices of {material.slice_bytes:,} bytes; batches of "
        f"{config.batch_size}; medians of {config.runs} runs. The line carries {line}."
    )
    columns: Columns = {
        "first batch, s": lambda one: f"{one['first_batch_s']:.2f}",
        "samples/s": lambda one: _by_epochs(one, "slices_per_s", ",.0f"),
        "requests per slice": lambda one: _by_epochs(one, "requests", ".2f"),
        "bytes, times useful": lambda one: _by_epochs(one, "bytes_times", ".2f"),
    }
    shown = ", ".join(f"{epoch}." for epoch in SHOWN_EPOCHS)
    for latency_s in config.latencies_s:
        found = {way: medians(results) for way, results in contest.results(latency_s).items()}
        yield f"{latency_s * 1000:g} ms added to each request:"
        yield table_of(f"epochs {shown}", columns, {way.title: one for way, one in found.items()})
        if latency_s == TARGET_LATENCY_S:
            yield targets(found)
    for way, reason in contest.failures.items():
        yield f"Not measured: {way.title}: {reason}"
    yield EXPLANATION


def _by_epochs(found: Medians, name: str, style: str) -> str:
    """Returns a number of the epochs that are shown, as far as they were measured."""
    names = [f"{name} {epoch}" for epoch in SHOWN_EPOCHS]
    return " / ".join(format(found[name], style) if name in found else "-" for name in names)


def targets(found: dict[Way, Medians]) -> Table:
    """Returns targets and results: the best of ours against the quickest peer."""
    speeds = {way: one["slices_per_s 1"] for way, one in found.items()}
    ours = {way.title: one for way, one in found.items() if not way.peer}
    peers = [way for way in found if way.peer]
    rows = []
    if ours and peers:
        quickest = max(peers, key=speeds.__getitem__)
        times = max(speed for way, speed in speeds.items() if not way.peer) / speeds[quickest]
        title = f"samples/s in the first epoch, times those of {quickest.title}"
        rows.append((title, f">= {TIMES_PEER:g}", f"{times:.1f}"))
    if RANGED in ours:
        title = "bytes in ranged mode, times the useful ones, opening too"
        rows.append((title, f"<= {USEFUL_TIMES:g}", f"{ours[RANGED]['bytes_times 1']:.2f}"))
    if ours:
        first_s = max(one["first_batch_s"] for one in ours.values())
        rows.append(("first batch after s, at most", f"<= {FIRST_BATCH_S:g}", f"{first_s:.2f}"))
    return Table(columns=("target", "aim", "measured"), rows=tuple(rows))
