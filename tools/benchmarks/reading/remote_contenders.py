"""Contenders of `remote`: the copy of each in a bucket, and one run from an empty cache on."""

import mmap
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from storage.errors import StoreError
from tools.benchmarks.reading.contenders import (
    COPY,
    SHARDS,
    STORE,
    Way,
    our_python,
    run_way,
    spec_of,
)
from tools.benchmarks.reading.environments import PEERS, python_of
from tools.benchmarks.reading.plans import ONE
from tools.benchmarks.reading.slices import Material
from tools.testbed.fault_proxy import FaultProxy, Faults
from tools.testbed.s3_server import Access, S3Server, presigned, request

BUCKET = "benchmark"
ENOUGH_S = 15.0  # no epoch after the second begins later than so
PRESIGNED_S = 86_400

RANGED = "melbank, tars, ranged"

REMOTE_PEERS = {
    "webdataset": replace(PEERS["webdataset"], name="webdataset-s3fs", more=("s3fs>=2025",)),
    "mosaicml": PEERS["mosaicml"],
    "litdata": PEERS["litdata"],
}

REMOTE_WAYS = (
    Way(RANGED, "melbank", "remote_ranged", reads=SHARDS),
    Way("melbank, tars, cached", "melbank", "remote_cached", reads=SHARDS),
    Way("melbank, store, ranged", "melbank", "remote_store", reads=STORE),
    Way("webdataset, pipe:curl", "webdataset_tars", "piped", "webdataset"),
    Way("webdataset, pipe:curl, its cache", "webdataset_tars", "piped_and_kept", "webdataset"),
    Way("webdataset, s3fs", "webdataset_tars", "opened", "webdataset"),
    Way("MosaicML, by index", "mosaicml", "remote", "mosaicml"),
    Way("LitData, by index", "litdata_chunks", "remote", "litdata"),
)


@dataclass(slots=True, kw_only=True)
class Bucket:
    """A real S3 server on loopback with the copies of all ways, and a proxy that is the network.

    `folders` has each copy on this disk, `pythons` each peer's interpreter.
    """

    server: S3Server
    proxy: FaultProxy
    folder: Path
    timeout_s: float
    env_dir: str
    folders: dict[str, Path] = field(default_factory=dict)
    pythons: dict[str, Path] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, *, timeout_s: float, env_dir: str) -> Iterator[Self]:
        """Starts both; ends them."""
        with S3Server(folder / "s3") as server:
            server.make_bucket(BUCKET)
            with FaultProxy(server.access.endpoint, Faults(), seed=0) as proxy:
                yield cls(
                    server=server, proxy=proxy, folder=folder, timeout_s=timeout_s, env_dir=env_dir
                )

    def add(self, way: Way, material: Material) -> None:
        """Puts the copy that a way reads into the bucket; StoreError where there can be none."""
        if way.peer and way.peer not in self.pythons:
            self.pythons[way.peer] = python_of(REMOTE_PEERS[way.peer], self.env_dir)
        if key_of(way) in self.folders:
            return
        given = {SHARDS: material.shards, STORE: material.store}.get(way.reads)
        folder = given or self.folder / way.module
        if given is None:
            spec = spec_of(way, "write", cells=str(material.cells), target=str(folder), packages=[])
            run_way(self.pythons[way.peer], spec, self.timeout_s)
        self._upload(key_of(way), folder)
        self.folders[key_of(way)] = folder

    def _upload(self, name: str, folder: Path) -> None:
        """Puts a folder's files, and has the proxy give them from the disk's page cache."""
        for file in files_of(folder):
            path = f"/{BUCKET}/{name}/{file.relative_to(folder).as_posix()}"
            data = file.read_bytes()
            if request(self.server.access, "PUT", path, body=data).status != 200:
                raise StoreError(f"{path} was not taken by the S3 server")
            headers = request(self.server.access, "HEAD", path).headers
            if data:
                with file.open("rb") as opened:
                    mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
                self.proxy.keep(path, headers, memoryview(mapped))

    def run(self, way: Way, material: Material) -> dict[str, Any]:
        """The epochs of one way, its local folder empty before; StoreError where it fails."""
        local = self.folder / "local"
        shutil.rmtree(local, ignore_errors=True)
        local.mkdir()
        self.proxy.reset_counts()
        access = Access(endpoint=self.proxy.endpoint)
        names = [file.name for file in files_of(self.folders[key_of(way)]) if file.suffix == ".tar"]
        about = {
            **material.about,
            "task": ONE,
            "url": f"s3://{BUCKET}/{key_of(way)}",
            "names": names,
            "urls": [
                presigned(access, "GET", f"/{BUCKET}/{key_of(way)}/{name}", expires_s=PRESIGNED_S)
                for name in names
            ],
        }
        spec = spec_of(
            way,
            "epochs",
            target=str(local),
            about=about,
            cells=str(material.cells),
            rows=str(material.rows) if way.module == "melbank" else "",
            plans=[str(file) for file in material.plans[ONE]],
            enough_s=ENOUGH_S,
            counts_url=self.proxy.counts_url,
        )
        python = self.pythons.get(way.peer, our_python())
        return run_way(python, spec, self.timeout_s, self._environment())

    def _environment(self) -> Mapping[str, str]:
        """Environment that leads clients through the proxy; MosaicML uses another variable."""
        found = self.server.environment(self.proxy.endpoint)
        return {**found, "S3_ENDPOINT_URL": self.proxy.endpoint}


def files_of(folder: Path) -> list[Path]:
    """The files below a folder that are no lock or leftover."""
    return sorted(
        path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")
    )


def key_of(way: Way) -> str:
    """The folder in the bucket that a way reads: its module's own, or ours."""
    return way.module if way.reads == COPY else way.reads
