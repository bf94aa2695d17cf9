"""Holds everything in a store against everything else, and says what does not fit.

Checked: `melbank.json`, `zarr.json` and every table against the catalogue (sha256); the catalogue
against its self-checksum; rows against recordings; every inner chunk against its crc32c; every live
slice against the crc32c in the index (which finds swapped files); sizes, missing files, values
that are not finite. What is merely left over is noted, not called damage.
"""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from storage.checksums import crc32c, ends_with_crc32c
from storage.errors import DamageError, NoStoreError, StoreError
from storage.format.catalog import LISTING, Catalog
from storage.format.catalog import NAME as CATALOG
from storage.format.chunk_codecs import decode_chunk
from storage.format.classes import NAME as CLASSES
from storage.format.manifest import NAME as MANIFEST
from storage.format.manifest import Manifest, read_manifest
from storage.format.tables import (
    INDEX,
    PLANS,
    RECORDINGS,
    REJECTS,
    TABLES,
    numbers_in,
    read_table,
    table_name,
    table_numbers,
)
from storage.format.zarr_metadata import array_metadata, num_shards_of
from storage.format.zarr_shards import (
    ARRAY,
    ARRAY_METADATA,
    INDEX_BYTES,
    SLICES_PER_ZARR_SHARD,
    decode_index,
    shard_name,
)
from storage.objects.client import DEFAULT, RemoteConfig
from storage.objects.copy_mark import check_not_half_copied
from storage.objects.local import TEMPORARY
from storage.objects.lock import builder_lock
from storage.objects.open import open_objects
from storage.objects.protocol import Objects
from storage.processes import num_cores
from storage.progress import Progress, silent

_SHARD_NAME = re.compile(rf"^{re.escape(ARRAY)}/c/(\d+)/0/0$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that does not fit; `part` where it belongs to one, damage unless a mere note."""

    object: str
    problem: str
    part: int | None = None
    damage: bool = True


@dataclass(slots=True, kw_only=True)
class VerifyReport:
    """Summary of a check: what was examined, and what was found."""

    url: str
    findings: list[Finding] = field(default_factory=list)
    num_parts: int = 0
    num_recordings: int = 0
    num_slices: int = 0
    num_zarr_shards: int = 0

    @property
    def damage(self) -> list[Finding]:
        """The findings that are damage."""
        return [finding for finding in self.findings if finding.damage]

    def summary(self) -> str:
        """Counts, then each finding on a line."""
        head = (
            f"{self.url}: {self.num_parts:,} parts, {self.num_recordings:,} recordings, "
            f"{self.num_slices:,} slices in {self.num_zarr_shards:,} zarr shards checked: "
            f"{len(self.damage):,} damaged, {len(self.findings) - len(self.damage):,} notes"
        )
        lines = [
            f"  {'DAMAGE' if finding.damage else 'note'} {finding.object}: {finding.problem}"
            for finding in self.findings
        ]
        return "\n".join([head, *lines[:100], *(["  ..."] if len(lines) > 100 else [])])


def verify_store(
    url: str, progress: Progress = silent, remote: RemoteConfig = DEFAULT
) -> VerifyReport:
    """Checks a whole store; raises StoreError where there is none."""
    objects = open_objects(url, LISTING, remote=remote)
    if not objects.exists(MANIFEST) and not objects.exists(ARRAY_METADATA):
        raise NoStoreError(f"{url} is not a melbank store: it has neither {MANIFEST} nor {ARRAY}")
    report = VerifyReport(url=url)
    catalog = _read_catalog(objects, report)
    report.findings += _check_heads(objects, catalog)
    sound = {}
    for part in _all_parts(objects, catalog):
        tables, findings = _read_part(objects, catalog, part)
        report.findings += findings
        report.num_parts += 1
        if tables:
            sound[part] = tables
            report.findings += _check_rows(part, tables)
            report.num_recordings += len(tables[RECORDINGS])
            report.num_slices += len(tables[INDEX])
    manifest = read_manifest(objects)
    report.findings += _check_shards(objects, manifest, sound, report, progress)
    report.findings += _check_overlaps(sound)
    report.findings += _notes(objects, sound)
    return report


def _read_catalog(objects: Objects, report: VerifyReport) -> Catalog | None:
    try:
        if not objects.exists(CATALOG):
            raise DamageError(f"{CATALOG} is missing")
        return Catalog.read(objects)
    except DamageError as error:
        report.findings.append(Finding(object=CATALOG, problem=str(error)))
        return None


def _check_heads(objects: Objects, catalog: Catalog | None) -> Iterator[Finding]:
    listed = [CLASSES] if catalog and catalog.knows(CLASSES) else []
    for name in (MANIFEST, ARRAY_METADATA, *listed):
        if problem := _object_problem(objects, catalog, name):
            yield Finding(object=name, problem=problem)
    try:
        manifest = Manifest.read(objects)
        shards = num_shards_of(objects.get(ARRAY_METADATA))
        if objects.get(ARRAY_METADATA) != array_metadata(manifest, shards):
            yield Finding(object=ARRAY_METADATA, problem=f"it does not belong to {MANIFEST}")
    except StoreError as error:
        yield Finding(object=MANIFEST, problem=str(error))


def _object_problem(objects: Objects, catalog: Catalog | None, name: str) -> str:
    if not objects.exists(name):
        return "it is missing"
    if catalog and not catalog.knows(name):
        return "the catalogue does not list it"
    if catalog and not catalog.matches(name, objects.get(name)):
        return "its bytes are not those that were written (sha256)"
    return ""


def _all_parts(objects: Objects, catalog: Catalog | None) -> list[int]:
    """The parts that are committed, or that the catalogue says should be."""
    listed = numbers_in(catalog.entries if catalog else (), INDEX)
    return sorted({*listed, *table_numbers(objects, INDEX)})


def _read_part(
    objects: Objects, catalog: Catalog | None, part: int
) -> tuple[dict[str, pl.DataFrame] | None, list[Finding]]:
    """The three tables of a part, or None with the findings that say why not."""
    tables, findings = {}, []
    for table in TABLES:
        name = table_name(table, part)
        problem = _object_problem(objects, catalog, name)
        if not problem:
            try:
                tables[table] = read_table(objects, table, part)
            except StoreError as error:
                problem = str(error)
        if problem:
            findings.append(Finding(object=name, problem=problem, part=part))
    return (None if findings else tables), findings


def _check_rows(part: int, tables: dict[str, pl.DataFrame]) -> Iterator[Finding]:
    """Each recording has its slices, in order and without gaps; no slice is without one."""
    slices = tables[INDEX].group_by("recording_id")
    found = slices.agg(
        have=pl.len(),
        first=pl.col("row").min(),
        runs=(pl.col("row") - pl.col("slice_no")).n_unique(),
        distinct=pl.col("slice_no").n_unique(),
    )
    told = tables[RECORDINGS].filter(pl.col("num_slices") > 0)
    both = told.join(found, on="recording_id", how="full", coalesce=True)
    is_right = (
        (pl.col("have") == pl.col("num_slices"))
        & (pl.col("first") == pl.col("first_row"))
        & (pl.col("runs") == 1)
        & (pl.col("distinct") == pl.col("have"))
    )
    for recording_id in both.filter(~is_right.fill_null(False))["recording_id"].head(5):
        yield Finding(
            object=table_name(INDEX, part),
            problem=f"its rows of {recording_id} are not those of {table_name(RECORDINGS, part)}",
            part=part,
        )


def _check_shards(
    objects: Objects,
    manifest: Manifest,
    sound: dict[int, dict[str, pl.DataFrame]],
    report: VerifyReport,
    progress: Progress,
) -> list[Finding]:
    """Every zarr shard with live rows, in threads: decoding leaves Python's lock."""
    work = []
    for part, tables in sound.items():
        index = tables[INDEX].select("row", "crc32c")
        shard = (pl.col("row") // SLICES_PER_ZARR_SHARD).alias("shard")
        for (number,), rows in index.group_by(shard, maintain_order=True):
            work.append((part, int(str(number)), rows))
    report.num_zarr_shards = len(work)
    findings: list[Finding] = []
    with (
        progress("checking", len(work), "zarr shard") as step,
        ThreadPoolExecutor(num_cores()) as threads,
    ):
        for found in threads.map(lambda job: _check_shard(objects, manifest, *job), work):
            findings += found
            step(1)
    return findings


def _check_shard(
    objects: Objects, manifest: Manifest, part: int, number: int, rows: pl.DataFrame
) -> list[Finding]:
    name = shard_name(number)
    try:
        data = objects.get(name)
        pairs = decode_index(data[-INDEX_BYTES:], name)
    except StoreError as error:
        return [Finding(object=name, problem=str(error), part=part)]
    problems = []
    if int(pairs[:, 1].sum()) + INDEX_BYTES != len(data):
        problems.append(f"it has {len(data):,} bytes, its index accounts for others")
    live = dict(rows.select(pl.col("row") % SLICES_PER_ZARR_SHARD, "crc32c").iter_rows())
    bad = []
    cells = np.empty(manifest.recipe.slice_shape, manifest.recipe.dtype)
    codec = manifest.codec
    for place, (offset, length) in enumerate(pairs.tolist()):
        if problem := _chunk_problem(data[offset : offset + length], codec, live.get(place), cells):
            bad.append((place, problem))
    if bad:
        place, problem = bad[0]
        row = number * SLICES_PER_ZARR_SHARD + place
        problems.append(f"{len(bad)} of its chunks are bad, the first is row {row}: {problem}")
    return [Finding(object=name, problem=problem, part=part) for problem in problems]


def _chunk_problem(packed: bytes, codec: str, crc: int | None, cells: np.ndarray) -> str:
    """Describes what is wrong with one inner chunk; `crc` is that of its live slice, if any."""
    if not ends_with_crc32c(packed):
        return "its checksum differs"
    if crc is None:
        return ""
    try:
        decode_chunk(packed, codec, cells.reshape(-1).view(np.uint8))
    except (DamageError, RuntimeError, ValueError) as error:
        return f"it cannot be decoded: {error}"
    if crc32c(cells) != crc:
        return "it holds another slice than the index says"
    if cells.dtype.kind == "f" and not np.isfinite(cells).all():
        return "it has values that are not finite"
    return ""


def _check_overlaps(sound: dict[int, dict[str, pl.DataFrame]]) -> Iterator[Finding]:
    """No row and no recording in two parts."""
    for key, table in (("row", INDEX), ("recording_id", RECORDINGS)) if sound else ():
        parts = [tables[table].select(key, part=pl.lit(part)) for part, tables in sound.items()]
        twice = pl.concat(parts).filter(pl.col(key).is_duplicated()).sort(key, "part")
        if len(twice):
            yield Finding(
                object=table_name(table, twice["part"][1]),
                problem=f"{key} {twice[key][0]} is in part {twice['part'][0]} too: a replacement "
                "was interrupted, build again",
                part=int(twice["part"][1]),
                damage=key == "row",
            )


def _notes(objects: Objects, sound: dict[int, dict[str, pl.DataFrame]]) -> Iterator[Finding]:
    """Lists leftovers that do no harm."""
    for number in table_numbers(objects, PLANS):
        yield Finding(
            object=table_name(PLANS, number),
            problem="a build was interrupted: run it again and it goes on",
            damage=False,
        )
    committed = set(table_numbers(objects, INDEX))
    for table in (RECORDINGS, REJECTS):
        for part in set(table_numbers(objects, table)) - committed:
            name = table_name(table, part)
            yield Finding(object=name, problem="left by an interrupted build", damage=False)
    live = {number for tables in sound.values() for number in live_shards(tables[INDEX])}
    idle = [number for number in shard_numbers(objects) if number not in live]
    if idle and len(sound) == len(committed):
        yield Finding(
            object=ARRAY,
            problem=f"{len(idle)} zarr shards hold no live slice: tools.compact frees their space",
            damage=False,
        )
    if left := objects.list(TEMPORARY):
        yield Finding(object=TEMPORARY, problem=f"{len(left)} temporary files", damage=False)


def shard_numbers(objects: Objects) -> list[int]:
    """The zarr shards that there are."""
    matches = (_SHARD_NAME.match(name) for name in objects.walk(f"{ARRAY}/c"))
    return sorted(int(match[1]) for match in matches if match)


def live_shards(index: pl.DataFrame) -> list[int]:
    """The zarr shards that rows of an index are in, in order."""
    numbers: list[int] = (index["row"] // SLICES_PER_ZARR_SHARD).unique().sort().to_list()
    return numbers


@contextmanager
def maintained(url: str, then: str, remote: RemoteConfig) -> Iterator[Objects]:
    """The objects of a finished store that nobody else builds meanwhile, see `check_built`."""
    objects = open_objects(url, remote=remote)
    check_not_half_copied(objects)
    with builder_lock(objects):
        check_built(objects, then)
        objects.clear_temporary()
        yield objects


def check_built(objects: Objects, then: str) -> None:
    """Raises StoreError while a build of a store is unfinished; `then` is what has to wait."""
    if table_numbers(objects, PLANS):
        raise StoreError(
            f"a build of {objects.url} is unfinished: end it, by tools.build_store, then {then}"
        )
