"""The first epochs together, over one line from nginx on this machine, against other loaders."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.shards.shard_set import open_shards
from storage.objects.client import CACHED, RemoteConfig
from storage.read.cache import ShardCache
from storage.read.downloads import ShardDownloads
from storage.read.event_loop import background_loop
from tools.benchmarks.harness.process import Result
from tools.benchmarks.harness.runs import Columns, Medians, medians, table_of
from tools.benchmarks.reading.contenders import RANGED, SHARDS, Way
from tools.benchmarks.reading.contest import Contest, Turn
from tools.benchmarks.reading.plans import ONE
from tools.benchmarks.reading.slices import Material, SlicesConfig
from tools.cli.tables import Table
from tools.testbed.nginx_server import DELAY_S, LINE_BYTES_S, NginxServer, nginx_problem

SHOWN = (1, 2, 5, 20)
ENOUGH_S = 100.0  # no epoch begins later than so
FILL_S = 600.0
HTTP, HTTPS = "http", "https"
CACHED_TARS = Way("melbank, tars, cached", "melbank", "tars_cached", reads=SHARDS)
FULL = Way("melbank, tars, cached, all of them before", "melbank", "tars_cached", reads=SHARDS)
LOCAL = Way("melbank, tars, from this disk", "melbank", "tars", reads=SHARDS)
KEPT = Way("webdataset, pipe:curl, its cache", "webdataset_tars", "piped_and_kept", "webdataset")
TURNS: tuple[Turn, ...] = (
    (Way(RANGED, "melbank", "tars", reads=SHARDS), HTTP),
    (CACHED_TARS, HTTP),
    (FULL, HTTP),
    (LOCAL, HTTP),
    (KEPT, HTTP),
    (Way("MosaicML, by index", "mosaicml", "by_index", "mosaicml"), HTTP),
    (Way("LitData, by index", "litdata_chunks", "by_index", "litdata"), HTTP),
    (Way(RANGED, "melbank", "tars", reads=SHARDS), HTTPS),
    (CACHED_TARS, HTTPS),
    (KEPT, HTTPS),
)
EXPLANATION = (
    "Each run in a process of its own, held to one core, from nothing on, but for the two rows "
    "that say otherwise: opening is in the first epoch, imports are not; nginx has the other core. "
    "The blocks of all answers take turns on the line. `-`: no epoch began later than after "
    f"{ENOUGH_S:g} s. CPU is that of the process, all threads, and of those that it started."
)


@dataclass(frozen=True, slots=True)
class Place:
    """A server, and the folder that a way may use here."""

    server: NginxServer
    www: Path
    local: Path


def epochs_parts(
    config: SlicesConfig, peers: Sequence[str], material: Material, folder: Path
) -> Iterator[Table | str]:
    """Yields the parts of the report; one line where nginx is missing."""
    if problem := nginx_problem():
        yield f"Not measured over epochs: {problem}"
        return
    turns = [turn for turn in TURNS if not turn[0].peer or turn[0].peer in peers]
    ways = tuple(dict.fromkeys(way for way, _ in turns))
    contest = Contest(ways, config, material, folder)
    www = folder / "www"
    www.mkdir(exist_ok=True)
    with NginxServer(www, folder / "nginx") as server:
        place = Place(server, www, folder / "local")
        contest.prepare(lambda way: _serve(contest, way, place))
        contest.measure(turns, lambda turn: _by_epoch(_run(contest, *turn, place)))
    found = {
        (way, scheme): medians(results)
        for scheme in (HTTP, HTTPS)
        for way, results in contest.results(scheme).items()
    }
    yield from _report(contest, found)


def _serve(contest: Contest, way: Way, place: Place) -> None:
    """Lets the server give the copy that a way reads."""
    link = place.www / way.copy
    source = contest.source(way)
    if not link.exists():
        link.symlink_to(source.resolve())


def _run(contest: Contest, way: Way, scheme: str, place: Place) -> Result:
    """Runs the epochs of a way."""
    shutil.rmtree(place.local, ignore_errors=True)
    place.local.mkdir()
    base = place.server.url("line", scheme)
    url = f"{base}/{way.copy}"
    if way == FULL:
        _fill(url, place.local)
    names = sorted(path.name for path in contest.source(way).glob("*.tar"))
    is_by_s3 = way.peer in ("mosaicml", "litdata")
    where = {
        "url": f"s3://line/{way.copy}" if is_by_s3 else url,
        "names": names,
        "urls": [f"{url}/{name}" for name in names],
    }
    target = contest.source(way) if way == LOCAL else place.local
    return contest.run(
        way,
        "epochs",
        target,
        _environment(place.server),
        about={**contest.material.about, "task": ONE, **({} if way == LOCAL else where)},
        plans=list(map(str, contest.material.plans[ONE])),
        least_epochs=1,
        enough_s=ENOUGH_S,
        counts_url="",
    )


def _environment(server: NginxServer) -> dict[str, str]:
    """Variables of the clients: for those of S3 nginx is a server that reads no signatures."""
    endpoint = server.url("").rstrip("/")
    s3 = {"AWS_ENDPOINT_URL": endpoint, "S3_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1"}
    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
    return {**server.environment, **s3, **keys}


def _fill(url: str, folder: Path) -> None:
    """Brings all shards into a cache, also where this process has filled the folder before.

    They are on the disk when it returns: the kernel would write them while the next way reads.
    """
    config = RemoteConfig(mode=CACHED, cache_dir=str(folder))
    source = open_shards(url, config)
    urls = source.extents(source.slice_index()["row"].to_numpy()).objects
    cache = ShardCache(config.cache_folder, limit_bytes=config.cache_bytes)
    downloads, loop = ShardDownloads(cache, config), background_loop()
    loop.submit(downloads.hold(urls)).result(FILL_S)
    loop.submit(downloads.finish()).result(FILL_S)
    os.sync()


def _by_epoch(result: Result) -> Result:
    """Returns a run's numbers: `sum_s N` over the first N epochs, and means of the later half."""
    if not result:
        return {}
    epochs = result["epochs"]
    found, sum_s = {"first_batch_s": result["first_batch_s"]}, 0.0
    for number, epoch in enumerate(epochs, start=1):
        sum_s += epoch["wall_s"]
        found[f"sum_s {number}"] = sum_s
    later = epochs[len(epochs) // 2 :]
    num_slices = sum(epoch["num_slices"] for epoch in later)
    found["later_slices_per_s"] = num_slices / sum(epoch["wall_s"] for epoch in later)
    found["later_cpu_us"] = 1e6 * sum(epoch["cpu_s"] for epoch in later) / num_slices
    return found


def _report(contest: Contest, found: Mapping[Turn, Medians]) -> Iterator[Table | str]:
    """Yields the table, and in how far the aims are reached."""
    yield (
        f"The first epochs together, of one random slice of each of "
        f"{contest.material.num_recordings:,} recordings, from nginx on this machine over a line "
        f"of {LINE_BYTES_S / 1e6:g} MB/s with a delay of {DELAY_S * 1000:g} ms:"
    )
    shown = " / ".join(map(str, SHOWN))
    columns: Columns = {
        "first batch, s": lambda one: f"{one['first_batch_s']:.2f}",
        f"epochs {shown} together, s": lambda one: " / ".join(
            f"{one[f'sum_s {n}']:.1f}" if f"sum_s {n}" in one else "-" for n in SHOWN
        ),
        "later half, slices/s": lambda one: f"{one['later_slices_per_s']:,.0f}",
        "its CPU per slice, us": lambda one: f"{one['later_cpu_us']:.0f}",
    }
    rows = {
        f"{way.title}, {scheme}" if scheme == HTTPS else way.title: one
        for (way, scheme), one in found.items()
    }
    yield table_of("way", columns, rows)
    yield from _ratios(found)
    for way, reason in contest.failures.items():
        yield f"Not measured over epochs: {way.title}: {reason}"
    yield EXPLANATION


def _ratios(found: Mapping[Turn, Medians]) -> Iterator[str]:
    """Yields `cached` in times the quickest peer, ranged reading and this disk."""
    ours: Any = found.get((CACHED_TARS, HTTP))
    if ours is None:
        return
    for number in SHOWN:
        name = f"sum_s {number}"
        peers = {way: one[name] for (way, scheme), one in found.items()
                 if way.peer and scheme == HTTP and name in one}  # fmt: skip
        if peers and name in ours:
            quickest = min(peers, key=peers.__getitem__)
            times = peers[quickest] / ours[name]
            yield f"{number} epochs: {quickest.title} takes {times:.1f} times as long as `cached`."
    full, local = found.get((FULL, HTTP)), found.get((LOCAL, HTTP))
    if full and local:
        times = local["later_slices_per_s"] / full["later_slices_per_s"]
        cpu = full["later_cpu_us"] / local["later_cpu_us"]
        yield (
            f"Once all shards are in the cache an epoch takes {times:.2f} times as long as from "
            f"tars on this disk, and {cpu:.2f} times the CPU."
        )
