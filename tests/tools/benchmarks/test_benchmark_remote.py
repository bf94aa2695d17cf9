"""Reading from a bucket is measured: what arrives is checked, what fails says why."""

from pathlib import Path

import pytest

from tests.tools.benchmarks.test_benchmark import BASE, ON_LINUX, tables_in
from tools import benchmark
from tools.benchmarks.reading.contenders import RANGED, Way
from tools.benchmarks.reading.epochs import HTTPS, TURNS
from tools.benchmarks.reading.ranged import LOCAL, WAYS
from tools.benchmarks.remote import targets
from tools.testbed.nginx_server import nginx_problem
from tools.testbed.s3_server import S3Server

pytestmark = ON_LINUX
SMALL = ("benchmark.num_recordings=24", "benchmark.slices_per_recording=2")
SMALL += ("benchmark.batch_size=8", "benchmark.runs=1")


def measure(report: Path, *words: str) -> list[list[list[str]]]:
    """The tables of a small run."""
    given = ["remote", "--config", str(BASE), *SMALL, *words, "--markdown", str(report)]
    assert benchmark.main(given) == 0
    return tables_in(report.read_text())


@pytest.mark.slow
def test_ours_are_measured_over_a_line(s3_server: S3Server, tmp_path: Path) -> None:
    del s3_server  # skips where there is none
    words = ("benchmark.peers=[]", "benchmark.latencies_s=[0.03]")
    table, targets_table, *_ = measure(tmp_path / "remote.md", *words)
    titles = ["melbank, tars, ranged", "melbank, tars, cached", "melbank, store, ranged"]
    assert [row[0] for row in table[1:]] == titles
    for _, first_batch_s, speeds, requests, times in table[1:]:
        assert float(first_batch_s) >= 0.03
        assert len(speeds.split(" / ")) == 3
        assert float(requests.split(" / ")[0]) > 0
        assert float(times.split(" / ")[0]) > 0.5  # a store has its slices compressed
    cached = table[2]
    assert float(cached[3].split(" / ")[-1]) == 0  # all is on the disk by then
    assert len(targets_table) == 3
    assert "Not measured: " not in (tmp_path / "remote.md").read_text()


@pytest.mark.slow
def test_every_peer_delivers_the_same_from_a_bucket(s3_server: S3Server, tmp_path: Path) -> None:
    """Makes the peers' environments where they are not there yet; one that fails is named."""
    del s3_server
    table, *_ = measure(tmp_path / "remote.md", "benchmark.latencies_s=[0.0]")
    text = (tmp_path / "remote.md").read_text()
    failed = [line for line in text.splitlines() if line.startswith("Not measured: ")]
    assert all("cannot be installed" in line for line in failed), failed
    assert len(table) - 1 + len(failed) == 8


@pytest.mark.slow
@pytest.mark.skipif(bool(nginx_problem()), reason=nginx_problem())
def test_ranged_reading_is_measured_against_bare_clients(tmp_path: Path) -> None:
    words = ("benchmark.latencies_s=[]", "benchmark.num_recordings=70", "benchmark.peers=[]")
    table, together = measure(tmp_path / "remote.md", *words)
    assert [row[0] for row in table[1::3]] == [f"{title}, no delay" for title in WAYS] + [LOCAL]
    assert all(float(cpu_us) > 0 for _, cpu_us, _ in table[1:])
    titles = [way.title + (", https" if scheme == HTTPS else "") for way, scheme in TURNS
              if not way.peer]  # fmt: skip
    assert sorted(row[0] for row in together[1:]) == sorted(titles)
    for _, _, sums, slices_per_s, _ in together[1:]:
        ends_s = [float(end_s) for end_s in sums.split(" / ")]
        assert len(ends_s) == 4
        assert ends_s == sorted(ends_s)
        assert slices_per_s != "0"
    assert "Once all shards are in the cache" in (tmp_path / "remote.md").read_text()


def test_a_missing_nginx_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    assert nginx_problem().endswith("apt-get install nginx-light libnginx-mod-http-lua")


def test_targets_are_held_against_the_best_peer() -> None:
    def medians(slices_per_s: float, times: float, first_s: float) -> dict[str, float]:
        first = {"slices_per_s 1": slices_per_s, "bytes_times 1": times}
        return {**first, "first_batch_s": first_s}

    ways = {
        Way(RANGED, "m", "f"): medians(400, 1.2, 0.5),
        Way("slow", "m", "f", peer="p"): medians(10, 6, 9),
        Way("quick", "m", "f", peer="p"): medians(100, 6, 9),
    }
    rows = targets(ways).rows
    assert rows[0] == ("samples/s in the first epoch, times those of quick", ">= 3", "4.0")
    assert [row[1:] for row in rows[1:]] == [("<= 1.15", "1.20"), ("<= 2", "0.50")]
