"""storage.read.downloads: a cache that cannot be used keeps nobody from reading."""

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from storage.checksums import crc32c
from storage.objects.client import CACHED, RemoteConfig
from storage.read.cache import ShardCache
from storage.read.extents import Extents
from storage.read.slice_reader import SliceReader
from tests.paths import ROOT
from tests.static_server import StaticServer

NUM, SLICE = 20, 1000  # slices, bytes
DATA = np.random.default_rng(5).bytes(NUM * SLICE)


def extents(url: str) -> Extents:
    """All slices of an object that holds `DATA`."""
    begin = np.arange(NUM) * SLICE
    cells = np.frombuffer(DATA, np.uint8).reshape(NUM, SLICE)
    return Extents(
        objects=(url,),
        object_no=np.zeros(NUM, np.int32),
        offset=begin,
        length=np.full(NUM, SLICE),
        crc32c=np.array([crc32c(each) for each in cells], np.uint32),
        codecs=("raw",),
        remote=True,
    )


def check_reads(reader: SliceReader, url: str) -> None:
    out = np.empty((NUM, SLICE), np.uint8)
    assert reader.try_read(extents(url), out) == []
    assert out.tobytes() == DATA


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StaticServer]:
    folder = tmp_path_factory.mktemp("www")
    (folder / "a.raw").write_bytes(DATA)
    with StaticServer(folder) as server:
        yield server


def test_a_folder_that_the_system_refuses_is_said_once(
    server: StaticServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Here by a name that is too long, for those who may do everything, too."""
    config = RemoteConfig(mode=CACHED, cache_dir=str(tmp_path / ("long" * 100)))
    with SliceReader(config) as reader, caplog.at_level(logging.WARNING):
        for _ in range(3):
            check_reads(reader, f"{server.endpoint}/a.raw")
    assert len(caplog.messages) == 1
    assert "takes no more shards (File name too long)" in caplog.text


class NoHead(BaseHTTPRequestHandler):
    """Answers ranges of `DATA`, and refuses to say anything else about it."""

    protocol_version = "HTTP/1.1"
    asked: list[str]

    def do_HEAD(self) -> None:
        self.asked.append("HEAD")
        self.send_response(405)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        begin, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        body = DATA[begin : last + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Range", f"bytes {begin}-{last}/{len(DATA)}")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.mark.parametrize("is_empty", [True, False])
def test_a_server_that_does_not_tell_versions_is_read_by_ranges(
    tmp_path: Path, is_empty: bool
) -> None:
    if not is_empty:
        (tmp_path / f"{'0' * 32}.shard").write_bytes(b"of another set")
    asked: list[str] = []
    handler = type("Handler", (NoHead,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with SliceReader(RemoteConfig(mode=CACHED, cache_dir=str(tmp_path))) as reader:
                for _ in range(3):
                    check_reads(reader, f"http://127.0.0.1:{server.server_port}/a.raw")
        finally:
            server.shutdown()
            thread.join()
    assert len(asked) <= 1  # not again for each batch


def test_a_claim_that_fails_leaves_the_part_to_others(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, limit_bytes=10)
    stays = tmp_path / f"{'0' * 32}.shard"
    stays.mkdir()  # what cannot be deleted to make room
    with pytest.raises(OSError, match=r"directory|permitted"):
        cache.claim("1" * 32, 5)
    stays.rmdir()
    claim = cache.claim("1" * 32, 5)
    assert claim is not None
    claim.close()


LEAVES = """
import sys
from tests.storage.read.test_downloads import check_reads, CACHED, RemoteConfig, SliceReader
reader = SliceReader(RemoteConfig(mode=CACHED, cache_dir=sys.argv[2]))
check_reads(reader, sys.argv[1])
"""


@pytest.mark.slow  # many processes
def test_a_program_may_end_while_shards_are_on_their_way(tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "a.raw").write_bytes(DATA + bytes(200_000_000))
    with StaticServer(tmp_path / "www") as server:
        for number in range(10):
            words = [f"{server.endpoint}/a.raw", str(tmp_path / f"cache-{number}")]
            done = subprocess.run(
                [sys.executable, "-c", LEAVES, *words],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
            )
            assert "Traceback" not in done.stderr, done.stderr
