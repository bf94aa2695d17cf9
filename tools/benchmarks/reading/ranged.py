"""Ranged reading over HTTP by its CPU time, against the bare clients, from nginx on loopback."""

from collections.abc import Iterator
from pathlib import Path

from tools.benchmarks.harness.process import Result, run_measured
from tools.benchmarks.harness.runs import Columns, measure_in_turn, medians, table_of
from tools.benchmarks.reading.slices import Material
from tools.cli.tables import Table
from tools.testbed.nginx_server import DELAY_S, NginxServer, nginx_problem

EPOCHS = 8
OURS, BARE = "melbank, tars", "bare: the connections of `remote.direct`, 256"
WAYS = {  # the way of `ranged_run` and what it reads
    OURS: ("ours", "shards"),
    "melbank, store": ("ours", "store"),
    "melbank, tars, `remote.direct=false`": ("ours_by_obstore", "shards"),
    BARE: ("connections_alone", "shards"),
    "bare: `obstore.get_range` in 32 threads": ("obstore_alone", "shards"),
}
PLACES = {  # of nginx, with the scheme where it is not http, and their names
    "now": ", no delay",
    "late": f", {DELAY_S * 1000:g} ms",
    "late https": f", {DELAY_S * 1000:g} ms, https",
}
LOCAL = "melbank, tars, from this disk"


def ranged_parts(material: Material, folder: Path, runs: int) -> Iterator[Table | str]:
    """Yields the parts of the report; one line where nginx is missing."""
    if problem := nginx_problem():
        yield f"Not measured over HTTP: {problem}"
        return
    served = {"store": material.store, "shards": material.shards}
    for name, path in served.items():
        if path is not None and not (folder / "www" / name).exists():
            (folder / "www").mkdir(exist_ok=True)
            (folder / "www" / name).symlink_to(path.resolve())
    with NginxServer(folder / "www", folder / "nginx") as server:

        def run(turn: tuple[str, str]) -> Result:
            title, place = turn
            way, name = WAYS.get(title, ("ours", "shards"))
            url = str(served[name])
            if title != LOCAL:
                place, _, scheme = place.partition(" ")
                url = f"{server.url(place, scheme or 'http')}/{name}"
            return run_measured(
                "tools.benchmarks.reading.ranged_run",
                [way, url, str(EPOCHS)],
                environment=server.environment,
            )

        turns = [(title, place) for title in WAYS for place in PLACES]
        found = measure_in_turn([*turns, (LOCAL, "")], runs, run)
    yield (
        "Ranged reading of one random slice per recording over HTTP, from nginx on this machine, "
        f"{EPOCHS} epochs after a first one: CPU time (user and system, all threads) of the "
        "reading process alone, per slice. The bare clients check and decode nothing."
    )
    columns: Columns = {
        "CPU per slice, us": lambda one: f"{one['cpu_us']:.0f}",
        "slices/s": lambda one: f"{one['slices_per_s']:,.0f}",
    }
    all_medians = {turn: medians(one) for turn, one in found.items()}
    names = {**PLACES, "": ""}
    rows = {f"{title}{names[place]}": one for (title, place), one in all_medians.items()}
    yield table_of("way", columns, rows)
    cpu_us = {turn: one["cpu_us"] for turn, one in all_medians.items()}
    yield "CPU of the tars in times that of the connections alone: " + ", ".join(
        f"{cpu_us[OURS, place] / cpu_us[BARE, place]:.2f}{name}" for place, name in PLACES.items()
    )
