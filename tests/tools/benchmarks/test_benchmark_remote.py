"""Reading from a bucket is measured: what arrives is checked, what fails says why."""

from pathlib import Path

import pytest

from tests.tools.benchmarks.test_benchmark import BASE, ON_LINUX, tables_in
from tools import benchmark
from tools.benchmarks.reading.contenders import Way
from tools.benchmarks.reading.remote_contenders import RANGED
from tools.benchmarks.reading.remote_report import Epoch, RemoteMedians, targets
from tools.testbed.s3_server import S3Server

pytestmark = ON_LINUX
SMALL = ("benchmark.num_recordings=24", "benchmark.slices_per_recording=2")
SMALL += ("benchmark.batch_size=8", "benchmark.runs=1")


def measure(report: Path, *words: str) -> list[list[list[str]]]:
    """The tables of a small run."""
    given = ["remote", "--config", str(BASE), *SMALL, *words, "--markdown", str(report)]
    assert benchmark.main(given) == 0
    return [table for table in tables_in(report.read_text()) if table]


def test_ours_are_measured_over_a_line(s3_server: S3Server, tmp_path: Path) -> None:
    del s3_server  # skips where there is none
    words = ("benchmark.peers=[]", "benchmark.latencies_s=[0.03]")
    (table,) = measure(tmp_path / "remote.md", *words)
    titles = ["melbank, tars, ranged", "melbank, tars, cached", "melbank, store, ranged"]
    assert [row[0] for row in table[1:]] == titles
    for _, first_batch_s, speeds, requests, times in table[1:]:
        assert float(first_batch_s) >= 0.03
        assert len(speeds.split(" / ")) == 3
        assert float(requests.split(" / ")[0]) > 0
        assert float(times.split(" / ")[0]) > 0.5  # a store has its slices compressed
    cached = table[2]
    assert float(cached[3].split(" / ")[-1]) == 0  # all is on the disk by then
    text = (tmp_path / "remote.md").read_text()
    assert "useful bytes in ranged mode" in text
    assert "Not measured" not in text


@pytest.mark.slow
def test_every_peer_delivers_the_same_from_a_bucket(s3_server: S3Server, tmp_path: Path) -> None:
    """Makes the peers' environments where they are not there yet; one that fails is named."""
    del s3_server
    (table,) = measure(tmp_path / "remote.md", "benchmark.latencies_s=[0.0]")
    text = (tmp_path / "remote.md").read_text()
    failed = [line for line in text.splitlines() if line.startswith("Not measured")]
    assert all("cannot be installed" in line for line in failed), failed
    assert len(table) - 1 + len(failed) == 8


def test_targets_are_held_against_the_best_peer() -> None:
    def medians(slices_per_s: float, times: float, first_s: float) -> RemoteMedians:
        epoch = Epoch(slices_per_s=slices_per_s, requests=1.0, bytes_times=times)
        return RemoteMedians(first_batch_s=first_s, epochs=(epoch, epoch))

    def way(title: str, peer: str) -> Way:
        return Way(title=title, module="m", function="f", peer=peer)

    slow, quick = way("slow", "p"), way("quick", "p")
    found = list(
        targets(
            {
                way(RANGED, ""): medians(400, 1.2, 0.5),
                slow: medians(10, 6, 9),
                quick: medians(100, 6, 9),
            }
        )
    )
    assert found[0].startswith("Met: 4.0 times the samples/s of quick")
    assert found[1].startswith("Not met: 1.20 times the useful bytes")
    assert found[2].startswith("Met: the first batch after 0.50 s")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("benchmark.runs=0", "benchmark.runs=0 must be at least 1"),
        ("benchmark.timeout_s=0", "benchmark.timeout_s=0 must be positive"),
        ("benchmark.peers=[litdta]", "litdta is none of webdataset, mosaicml, litdata"),
        ("benchmark.latencies_s=[-1]", "must be at least 0"),
        ("benchmark.work_dir=no/such/folder", "there is no such folder"),
    ],
)
def test_a_wrong_call_is_refused(word: str, message: str, capsys) -> None:
    assert benchmark.main(["remote", "--config", str(BASE), word]) == 2
    assert message in capsys.readouterr().err
