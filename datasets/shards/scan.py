"""Scans a tar sequentially, once: samples, their offsets and checksums, and completeness.

Nothing in a tar is trusted: no pickle is loaded, no member is extracted to disk, and members that
readers of byte ranges would misread are refused by name. Samples are grouped as in webdataset:
adjacent members whose names are equal up to the first dot of the last component.
"""

import hashlib
import io
import math
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import IO, Any

import numpy as np
import polars as pl

from datasets.shards.format import (
    LABEL_HASH,
    MEMBERS,
    PAX_RECIPE,
    FileEntry,
    label_hash,
    sample_key,
)
from datasets.shards.members import ABOUT_SCHEMA, read_about
from storage.checksums import crc32c
from storage.encoding import ENCODINGS
from storage.errors import DamageError, StoreError
from storage.objects.client import DEFAULT, RemoteConfig
from storage.objects.open import open_objects
from storage.processes import OnProgress
from storage.source.listing import shown_name
from storage.untrusted import read_npy_header

DTYPES = {np.dtype(name).str: name for name in ENCODINGS}
SAMPLE_SCHEMA: dict[str, Any] = {
    "key": pl.String,
    "offset": pl.Int64,
    "length": pl.Int64,
    "crc32c": pl.UInt32,
    **ABOUT_SCHEMA,
    LABEL_HASH: pl.UInt64,
}
_BUFFER_BYTES = 1 << 20
_END_BYTES = 1024  # two blocks of zeros end a tar
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_NAME = re.compile(r"^((?:.*/)?[^./]+)\.([^/]+)$", re.DOTALL)  # key, ending
_META = re.compile(r"__[^/]*__(/|$)")  # members that webdataset ignores


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanJob:
    """Job to scan a tar; `member`: ending of the .npy members, None where there is only one."""

    url: str
    name: str
    remote: RemoteConfig = DEFAULT
    member: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScannedTar:
    """Contents of a tar: `samples` has `SAMPLE_SCHEMA`, in the order of the tar.

    `header`: global pax header. `range`: least and greatest value of float cells. `ignored`: counts
    of members with other endings.
    """

    name: str
    entry: FileEntry
    header: dict[str, str]
    member: str
    shape: tuple[int, ...]
    dtype: str
    range: tuple[float, float]
    samples: pl.DataFrame
    ignored: Counter[str]


def scan_tar(job: ScanJob, on_bytes: OnProgress) -> ScannedTar:
    """Reads a tar; raises DamageError or StoreError, naming file and member, on a bad one."""
    objects = open_objects(job.url, remote=job.remote)
    where = objects.describe(job.name)
    if not objects.exists(job.name):
        raise StoreError(f"{where} is not a file: remove it, or replace it by the tar")
    try:
        with objects.as_file(job.name) as path, path.open("rb", buffering=0) as file:
            _check_plain(where, file.read(8))
            file.seek(0)
            return _scan(where, _Sequential(file, on_bytes), job)
    except tarfile.TarError as error:
        raise DamageError(
            f"{where} is truncated, empty or no tar ({error}): get it again, or remove it"
        ) from error
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{where} cannot be read ({error.strerror}): check its rights") from error


class _Sequential:
    """Sequential reader of a file; hashes it and locates its last non-zero byte."""

    def __init__(self, file: IO[bytes], on_bytes: OnProgress) -> None:
        self._file = file
        self._on_bytes = on_bytes
        self._hasher = hashlib.sha256()
        self.size_bytes = 0
        self.filled_bytes = 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._hasher.update(data)
        filled = len(data) if data[-1:] != b"\0" else len(data.rstrip(b"\0"))
        if filled:
            self.filled_bytes = self.size_bytes + filled
        self.size_bytes += len(data)
        self._on_bytes(len(data))
        return data

    def entry(self, num_slices: int) -> FileEntry:
        """Reads to the end and returns the entry of the file."""
        while self.read(_BUFFER_BYTES):
            pass
        digest = self._hasher.hexdigest()
        return FileEntry(size_bytes=self.size_bytes, sha256=digest, num_slices=num_slices)


def _scan(where: str, stream: _Sequential, job: ScanJob) -> ScannedTar:
    with tarfile.open(fileobj=stream, mode="r|", bufsize=_BUFFER_BYTES) as tar:  # type: ignore[call-overload]  # read is all that it calls
        header = dict(tar.pax_headers)
        samples = _Samples(where=where, member=job.member, by_melbank=PAX_RECIPE in header)
        for info in _members(tar, where):
            samples.add(tar, info)
        end = tar.offset
    samples.finish()
    entry = stream.entry(len(samples.lines))
    if stream.filled_bytes > end or stream.size_bytes < end + _END_BYTES:
        raise DamageError(
            f"{where} is not a complete tar: at byte {end:,} of {stream.size_bytes:,} it should "
            "end, or another member begin. It is truncated or damaged, or data follow its end: "
            "get it again"
        )
    if not samples.lines:
        raise StoreError(f"{where} holds no samples: remove it, or get it again")
    return ScannedTar(
        name=job.name,
        entry=entry,
        header=header,
        member=samples.member or "",
        shape=samples.shape,
        dtype=samples.dtype,
        range=samples.range,
        samples=pl.DataFrame(samples.lines, schema=SAMPLE_SCHEMA, orient="row"),
        ignored=samples.ignored,
    )


def _members(tar: tarfile.TarFile, where: str) -> Iterator[tarfile.TarInfo]:
    """Yields the regular members; raises StoreError on paths out of the tar, links and devices."""
    while (info := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # else it keeps all of them in memory
        if not info.name.isprintable() and shown_name(info.name) != info.name:
            raise StoreError(
                f"{where}: the name of the member {shown_name(info.name)} is not UTF-8: rewrite it"
            )
        path = PurePosixPath(info.name)
        if path.is_absolute() or ".." in path.parts:
            raise StoreError(f"{where}: the member {info.name} leads out of the tar: rewrite it")
        if info.isdir() or _META.match(info.name):
            continue
        if not info.isreg() or info.issparse():
            raise StoreError(
                f"{where}: the member {info.name} is a link, a device or sparse, not a plain file: "
                "rewrite the tar with the files themselves"
            )
        yield info


@dataclass(slots=True, kw_only=True)
class _Samples:
    """Collects the samples of one tar, member by member."""

    where: str
    member: str | None
    by_melbank: bool
    shape: tuple[int, ...] = ()
    dtype: str = ""
    range: tuple[float, float] = (math.inf, -math.inf)
    lines: list[tuple[Any, ...]] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    _header: bytes = b""
    _key: str | None = None
    _keys: set[str] = field(default_factory=set)
    _arrays: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    _texts: dict[str, bytes] = field(default_factory=dict)
    _endings: set[str] = field(default_factory=set)

    def add(self, tar: tarfile.TarFile, info: tarfile.TarInfo) -> None:
        """Adds a member; finishes the sample before it where the key changes."""
        name = _NAME.match(info.name)
        if name is None:
            self._ignore(info.name, "without an ending")
            return
        key, ending = name[1], name[2].lower()
        if key != self._key:
            self.finish()
            if key in self._keys:
                raise StoreError(
                    f"{self.where}: the key {key} comes twice, the second time with the member "
                    f"{info.name}: keys must differ, and members of one must be adjacent"
                )
            self._key = key
            self._keys.add(key)
        if ending in self._endings:
            raise StoreError(f"{self.where}: there are two members {info.name}: keys must differ")
        self._endings.add(ending)
        is_array = ending == self.member if self.member else ending.split(".")[-1] == "npy"
        if is_array:
            self._arrays[ending] = self._read_array(tar, info)
        elif ending in ("json", "cls", "txt") and not (self.by_melbank and ending != "json"):
            self._texts[ending] = _read(tar, info)
        else:
            self._ignore(info.name, f".{ending}")

    def finish(self) -> None:
        """Finishes the current sample."""
        if self._key is None:
            return
        where = f"{self.where}, sample {self._key}"
        if self.member is None and len(self._arrays) > 1:
            names = ", ".join(sorted(self._arrays))
            raise StoreError(f"{where} has several arrays: say which by member= one of {names}")
        if not self._arrays or (self.by_melbank and self._endings != set(MEMBERS)):
            wanted = " and ".join(MEMBERS) if self.by_melbank else self.member or "npy"
            raise StoreError(
                f"{where} has the members {', '.join(sorted(self._endings))}, not {wanted}: it is "
                "damaged, or of another kind than the others"
            )
        self.member, array = next(iter(self._arrays.items()))
        about = read_about(self._texts, where, by_melbank=self.by_melbank)
        if self.by_melbank and self._key != sample_key(
            about["recording_id"] or "", about["slice_no"] or 0
        ):
            raise DamageError(f"{where}: its .json member is that of another slice")
        self.lines.append((self._key, *array, *about.values(), label_hash(about)))
        self._key = None
        self._arrays, self._texts, self._endings = {}, {}, set()

    def _ignore(self, name: str, ending: str) -> None:
        if self.by_melbank:
            raise StoreError(f"{self.where}: {name} is no member of a melbank shard: damaged?")
        self.ignored[ending] += 1

    def _read_array(self, tar: tarfile.TarFile, info: tarfile.TarInfo) -> tuple[int, int, int]:
        """Returns offset, length and crc32c of the cells in a .npy member."""
        where = f"{self.where}: {info.name}"
        data = _read(tar, info)
        if not self._header or not data.startswith(self._header):
            self._read_header(data, where)
        start = len(self._header)
        cells = data[start:]
        expected = math.prod(self.shape) * np.dtype(self.dtype).itemsize
        if len(cells) != expected:
            raise DamageError(
                f"{where} has {len(cells):,} bytes of cells, its header promises {expected:,}: it "
                "is truncated or damaged"
            )
        if np.dtype(self.dtype).kind == "f":
            values = np.frombuffer(cells, self.dtype)
            low, high = float(values.min()), float(values.max())
            if not (math.isfinite(low) and math.isfinite(high)):
                raise StoreError(f"{where} has values that are NaN or infinite: rewrite it")
            self.range = min(low, self.range[0]), max(high, self.range[1])
        return info.offset_data + start, len(cells), crc32c(cells)

    def _read_header(self, data: bytes, where: str) -> None:
        """Sets shape and dtype from the first array; raises StoreError where another differs."""
        file = io.BytesIO(data)
        try:
            shape, fortran, dtype = read_npy_header(file)
        except ValueError as error:
            raise DamageError(f"{where} is not a valid .npy array ({error})") from error
        if dtype.hasobject:
            raise StoreError(f"{where} holds pickled Python objects, which are never loaded")
        if dtype.str not in DTYPES:
            names = ", ".join(DTYPES.values())
            raise StoreError(f"{where} holds {dtype.str} ({dtype}), which is none of {names}")
        if len(shape) < 2 or not math.prod(shape):
            raise StoreError(f"{where} has the shape {list(shape)}; a slice is [mel bands, frames]")
        if fortran:
            raise StoreError(f"{where} is in Fortran order: write np.ascontiguousarray of it")
        if self._header and (shape, DTYPES[dtype.str]) != (self.shape, self.dtype):
            raise StoreError(
                f"{where} is {DTYPES[dtype.str]} {list(shape)} where those before it are "
                f"{self.dtype} {list(self.shape)}: all slices of a set are alike"
            )
        self.shape, self.dtype, self._header = shape, DTYPES[dtype.str], data[: file.tell()]


def _read(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(info)
    return b"" if file is None else file.read()


def _check_plain(where: str, head: bytes) -> None:
    for magic, name in _COMPRESSED.items():
        if head.startswith(magic):
            raise StoreError(
                f"{where} is compressed ({name}), so that no slice can be read on its own: "
                "decompress it, and index the plain tar"
            )
