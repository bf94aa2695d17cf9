"""Bucket of a real S3 server with the copies that contenders read, behind a slow network."""

import mmap
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import StoreError
from tools.benchmarks.harness.process import Result
from tools.benchmarks.reading.contenders import Way
from tools.benchmarks.reading.contest import Contest
from tools.benchmarks.reading.plans import ONE
from tools.testbed.fault_proxy import FaultProxy, Faults
from tools.testbed.s3_requests import presigned, request
from tools.testbed.s3_server import S3Server, access_at

BUCKET = "benchmark"
ENOUGH_S = 15.0  # no epoch after the second begins later than so
PRESIGNED_S = 86_400


class Bucket:
    """A real S3 server on loopback, and a proxy that is the network."""

    def __init__(self, server: S3Server, proxy: FaultProxy, contest: Contest, local: Path) -> None:
        self.proxy = proxy
        self._server = server
        self._contest = contest
        self._local = local
        self._files: dict[str, list[str]] = {}  # of each copy that is in the bucket

    def add(self, way: Way) -> None:
        """Puts the copy that a contender reads into the bucket; StoreError where it fails."""
        if way.copy not in self._files:
            folder = self._contest.source(way)
            files = [
                path
                for path in sorted(folder.rglob("*"))
                if path.is_file() and not path.name.startswith(".")  # no lock or leftover
            ]
            for file in files:
                self._put(file, f"/{BUCKET}/{way.copy}/{file.relative_to(folder).as_posix()}")
            self._files[way.copy] = [file.name for file in files]

    def _put(self, file: Path, path: str) -> None:
        """Puts a file, and has the proxy give it from the disk's page cache."""
        data = file.read_bytes()
        if request(self._server.access, "PUT", path, body=data).status != 200:
            raise StoreError(f"{path} was not taken by the S3 server")
        headers = request(self._server.access, "HEAD", path).headers
        if data:
            with file.open("rb") as opened:
                mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            self.proxy.keep(path, headers, memoryview(mapped))

    def run(self, way: Way) -> Result:
        """Runs the epochs of a contender, its local folder empty before."""
        shutil.rmtree(self._local, ignore_errors=True)
        self._local.mkdir()
        self.proxy.reset_counts()
        access, material = access_at(self.proxy.endpoint), self._contest.material
        names = [name for name in self._files[way.copy] if name.endswith(".tar")]
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
        environment = self._server.environment(self.proxy.endpoint)
        return self._contest.run(
            way,
            "epochs",
            self._local,
            {**environment, "S3_ENDPOINT_URL": self.proxy.endpoint},  # MosaicML's variable
            about=about,
            plans=list(map(str, material.plans[ONE])),
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
