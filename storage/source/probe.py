"""A first look at every file: its content hash and what its header promises.

Reads each file once, in threads; about 1 GB/s from the page cache.
"""

import stat
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import polars as pl

from storage.audio.decode import Decoder, read_header
from storage.checksums import digest_file
from storage.errors import AudioError, ConfigError
from storage.processes import num_cores
from storage.progress import Progress
from storage.source.subset import limited
from storage.source.table import Source

MIN_BYTES_PER_S = 100  # of a header that is believed; even silence in ogg has about as many

SCHEMA = {
    "content_hash": pl.String,
    "size_bytes": pl.Int64,
    "header_s": pl.Float64,
    "problem": pl.String,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Result of probing a file: hash and size null where missing, header_s 0 where unreadable.

    `header_s` bounds what decoding gives, s.
    """

    content_hash: str | None = None
    size_bytes: int | None = None
    header_s: float = 0.0
    problem: str | None = None


Look = Callable[[str], Probe]


def probe_recordings(
    recordings: pl.DataFrame,
    look: Look,
    on_file: Callable[[], None] = lambda: None,
    nearest: Mapping[str, str] = MappingProxyType({}),
) -> pl.DataFrame:
    """Adds content_hash, size_bytes, header_s and problem to the recordings of a source.

    `nearest` has, by filename, a file to name where there is none.
    """

    def probe(row: tuple[str, str, str | None]) -> Probe:
        path, name, reason = row
        result = Probe(problem=reason) if reason else look(path)
        if result.problem and result.content_hash is None and name in nearest:
            problem = f"{result.problem}; the nearest name is {nearest[name]}"
            result = replace(result, problem=problem)
        on_file()
        return result

    rows = recordings.select("path", "filename", "reason").iter_rows()
    with ThreadPoolExecutor(max_workers=min(8, 2 * num_cores())) as threads:
        probes = list(threads.map(probe, rows))
    columns = {name: [getattr(probe, name) for probe in probes] for name in SCHEMA}
    return recordings.with_columns(pl.DataFrame(columns, schema=SCHEMA))


def probe_wanted(source: Source, look: Look, limit: int | None, progress: Progress) -> pl.DataFrame:
    """The recordings to build, probed; `limit` takes that many, spread over the classes."""
    wanted = source.recordings[limited(source.recordings, limit)]
    with progress("looking at files", len(wanted), "file") as step:
        return probe_recordings(wanted, look, lambda: step(1), source.nearest)


def check_any_found(wanted: pl.DataFrame) -> None:
    """Raises ConfigError where not one file of a probed source can be read."""
    named = wanted.filter(pl.col("reason").is_null())
    if len(named) and named["content_hash"].null_count() == len(named):
        raise ConfigError(
            f"none of {len(named):,} recordings can be read, the first is {named['path'][0]} "
            f"({named['problem'][0]}): "
            "check source.root, and source.audio_dir, the folder in it that the csv's files are in"
        )


def probe_file(path: Path) -> Probe:
    """Hashes one file and reads its header."""
    try:
        found = path.stat()
        if stat.S_ISFIFO(found.st_mode):  # opened, it would wait for a writer
            return Probe(problem="it is not a regular file")
        size = found.st_size
        content_hash = digest_file(path)
    except FileNotFoundError:
        return Probe(problem=f"there is no such file: {path.name}")
    except OSError as error:
        return Probe(problem=f"it cannot be read: {error.strerror}")
    try:
        header_s = _length_s(path, size)
    except (AudioError, OSError) as error:
        return Probe(content_hash=content_hash, size_bytes=size, problem=str(error))
    return Probe(content_hash=content_hash, size_bytes=size, header_s=header_s)


def _length_s(path: Path, size_bytes: int) -> float:
    """Duration from the header, s; from decoding where it gives none or an impossible one."""
    header = read_header(path)
    if 0 < header.duration_s <= size_bytes / MIN_BYTES_PER_S:
        return header.duration_s
    decoder = Decoder(path, header.sample_rate_hz)
    for _ in decoder:
        pass
    return decoder.duration_s
