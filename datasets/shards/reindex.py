"""Builds the side index of a folder of tars from the tars alone.

    report = index_shards("data/shards", Recipe(), IndexConfig())

Tars of melbank contain recipe, rows and labels; of a recording in several, the last tar counts. In
tars of other programs, such as `webdataset.ShardWriter`, every sample is a slice; those of one
recording are grouped, recordings in order of first appearance, and rows count on. The tars are
only read. `shards.json` comes last, as the commit.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import polars as pl

from datasets.shards.format import (
    HELD_SCHEMA,
    LABEL_HASH,
    MANIFEST,
    PAX_CHECK,
    PAX_RECIPE,
    PAX_STORE_ID,
    PLACE_SCHEMA,
    SLICE_COLUMNS,
    TARS,
    ShardManifest,
    header_check,
)
from datasets.shards.grouping import check_labels, collect_foreign, collect_written, with_labels
from datasets.shards.scan import ScanJob, ScannedTar, scan_tar
from datasets.shards.state import commit
from storage.checksums import digest
from storage.errors import ConfigError, DamageError, StoreError
from storage.objects.client import DEFAULT, RemoteConfig
from storage.objects.copy_mark import check_not_half_copied
from storage.objects.lock import builder_lock
from storage.objects.open import open_objects
from storage.objects.protocol import Objects
from storage.options import check_at_least, option
from storage.processes import Work, map_jobs, num_cores
from storage.progress import Progress, silent
from storage.recipe import FOREIGN, Recipe
from storage.untrusted import parse_json

WORK = Work(run=scan_tar, module="datasets.shards.scan", option="index_shards.workers")
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexConfig:
    """Config of indexing tars."""

    member: str | None = option(None, "ending of the arrays, such as mel.npy; null: the only one")
    recording_pattern: str | None = option(
        None, "regex on a sample's key: its first group, or the match, is the recording_id"
    )
    recordings: str | None = option(
        None, "csv or Parquet file of the recordings and labels, instead of those in the tars"
    )
    workers: int | None = option(None, "processes; default: cores")

    def __post_init__(self) -> None:
        check_at_least(self, "index_shards", 1, "workers")
        try:
            re.compile(self.recording_pattern or "")
        except re.error as error:
            raise ConfigError(
                f"index_shards.recording_pattern={self.recording_pattern!r} is no regex: {error}"
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexReport:
    """Result of indexing: contents of the tars; `notes` are remarks for the user."""

    url: str
    num_shards: int
    num_recordings: int
    num_slices: int
    size_bytes: int
    kind: str
    notes: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """Formats a few lines for the user."""
        head = (
            f"{self.url}: {self.num_slices:,} slices of {self.num_recordings:,} recordings in "
            f"{self.num_shards:,} shards, {self.size_bytes / 1e6:,.1f} MB, {self.kind}"
        )
        return "\n".join([head, *self.notes])


def index_shards(
    url: str,
    recipe: Recipe,
    config: IndexConfig,
    progress: Progress = silent,
    remote: RemoteConfig = DEFAULT,
) -> IndexReport:
    """Writes shards.parquet, recordings.parquet and shards.json next to the tars of a folder.

    `recipe` is for tars of other programs. Raises StoreError and DamageError, naming the file, on
    unusable tars, and ConfigError where the options do not match them.
    """
    objects = open_objects(url, remote=remote)
    check_not_half_copied(objects)
    names = _list_tars(objects)
    with builder_lock(objects):
        tars = _scan(objects, names, config.member, config.workers or num_cores(), progress)
        by_melbank = _check_alike(objects, tars)
        samples = _samples(tars)
        if by_melbank:
            recipe, store_id = _recipe_of_tar(objects, tars[0])
            _check_checksums(objects, samples)
            found = collect_written(samples)
        else:
            recipe, store_id = _foreign_recipe(recipe, tars[0]), _foreign_id(tars)
            found = collect_foreign(samples, config.recording_pattern)
        if config.recordings:
            found = with_labels(found, Path(config.recordings))
        else:
            check_labels(found)
        manifest = ShardManifest(
            store_id=store_id, recipe=recipe, files={tar.name: tar.entry for tar in tars}
        )
        index = found.lines.select(*PLACE_SCHEMA, *SLICE_COLUMNS, LABEL_HASH)
        commit(objects, manifest, index.sort("shard", "offset"), found.recordings)
    return IndexReport(
        url=url,
        num_shards=len(tars),
        num_recordings=len(found.recordings),
        num_slices=len(index),
        size_bytes=sum(tar.entry.size_bytes for tar in tars),
        kind="written by melbank" if by_melbank else "made elsewhere",
        notes=[*found.notes, *_notes(tars, len(samples) - len(index))],
    )


def scan_held(
    objects: Objects, manifest: ShardManifest, workers: int, progress: Progress
) -> pl.DataFrame:
    """Rebuilds the lines of a committed set (`HELD_SCHEMA`) from its existing tars.

    For a set whose side index is damaged.
    """
    names = [name for name in manifest.shards if objects.exists(name)]
    if not names:
        return pl.DataFrame(schema=HELD_SCHEMA)
    samples = _samples(_scan(objects, names, None, workers, progress))
    _check_checksums(objects, samples)
    return samples.select(*HELD_SCHEMA).unique("row", keep="last", maintain_order=True)


def _list_tars(objects: Objects) -> list[str]:
    names = objects.entries()
    for name in names:
        if name.lower().endswith(_COMPRESSED):
            raise StoreError(
                f"{objects.describe(name)} is compressed, so that no slice can be read on its own: "
                "decompress it, or remove it"
            )
    tars = [name for name in names if name.endswith(".tar")]
    if not tars:
        raise ConfigError(f"shards={objects.url} holds no .tar files: give the folder of the tars")
    return tars


def _scan(
    objects: Objects, names: list[str], member: str | None, workers: int, progress: Progress
) -> list[ScannedTar]:
    jobs = {
        name: partial(
            ScanJob,
            url=objects.url,
            remote=objects.remote_config,
            name=name,
            member=member and member.lower(),
        )
        for name in names
    }
    total = sum(objects.sizes(names).values())
    with progress("reading tars", total, "B") as step:
        found = dict(map_jobs(WORK, jobs, workers, step))
    return [found[name] for name in names]


def _check_alike(objects: Objects, tars: list[ScannedTar]) -> bool:
    """True for tars of melbank; raises StoreError where the tars are not of one kind."""
    first = tars[0]
    for tar in tars:
        for kind in ("header", "member", "shape", "dtype"):
            if getattr(tar, kind) != getattr(first, kind):
                raise StoreError(
                    f"{objects.describe(tar.name)} differs from {first.name}: {_kind(tar)} there, "
                    f"{_kind(first)} here. All tars of a set are alike: remove those that differ"
                )
    return PAX_RECIPE in first.header


def _kind(tar: ScannedTar) -> str:
    maker = (
        f"store {tar.header.get(PAX_STORE_ID)}" if PAX_RECIPE in tar.header else "made elsewhere"
    )
    return f"{maker}, {tar.member} {tar.dtype} {list(tar.shape)}"


def _samples(tars: list[ScannedTar]) -> pl.DataFrame:
    return pl.concat(tar.samples.select(pl.lit(tar.name).alias("shard"), pl.all()) for tar in tars)


def _recipe_of_tar(objects: Objects, tar: ScannedTar) -> tuple[Recipe, str]:
    """Reads recipe and store_id of a tar; raises DamageError where its slices differ."""
    try:
        recipe = Recipe.parse(parse_json(tar.header[PAX_RECIPE].encode()))
        store_id = tar.header[PAX_STORE_ID]
        if header_check(tar.header[PAX_RECIPE], store_id) != tar.header[PAX_CHECK]:
            raise ValueError("its checksum differs")
    except (ValueError, KeyError, TypeError) as error:
        where = objects.describe(tar.name)
        raise DamageError(f"{where}: its header is damaged ({error!r})") from error
    if (tar.shape, tar.dtype) != (recipe.slice_shape, recipe.encoding):
        raise DamageError(
            f"{objects.describe(tar.name)} has slices {tar.dtype} {list(tar.shape)} where its "
            f"recipe says {recipe.encoding} {list(recipe.slice_shape)}: rewrite the shards"
        )
    return recipe, store_id


def _check_checksums(objects: Objects, samples: pl.DataFrame) -> None:
    """Raises DamageError where cells differ from the checksum in their .json member."""
    bad = samples.filter(pl.col("crc32c").ne_missing(pl.col("said_crc32c")))
    if len(bad):
        shard, key, row = bad.select("shard", "key", "row").row(0)
        raise DamageError(
            f"{objects.describe(shard)}: {len(bad):,} slices of the set differ from their "
            f"checksums, the first is {key}, row {row}. Delete that tar and run "
            f"tools.write_shards, which writes it again; without {MANIFEST}, give write_shards a "
            "new folder"
        )


def _foreign_recipe(recipe: Recipe, tar: ScannedTar) -> Recipe:
    """Adapts a recipe to the mel bands of the slices; raises ConfigError on other frames."""
    shape = tuple(size for size in tar.shape if size > 1) if len(tar.shape) > 2 else tar.shape
    if len(shape) != 2:
        raise ConfigError(
            f"the slices have the shape {list(tar.shape)}; they must be [mel bands, frames]"
        )
    values = {**recipe.to_dict(), "origin": FOREIGN, "n_mels": shape[0], "encoding": tar.dtype}
    foreign = Recipe(**values)
    if foreign.slice_shape != shape:
        raise ConfigError(
            f"the slices have {shape[1]} frames; recipe.slice_s={recipe.slice_s:g}, "
            f"sample_rate_hz={recipe.sample_rate_hz} and hop={recipe.hop} give "
            f"{foreign.num_frames}: give the numbers that they were made with, such as "
            f"recipe.slice_s={(shape[1] - 1) * recipe.hop / recipe.sample_rate_hz:g}"
        )
    return foreign


def _foreign_id(tars: list[ScannedTar]) -> str:
    """Returns an id in place of the store's: a hash of the bytes of all tars."""
    return TARS + digest("".join(tar.entry.sha256 for tar in tars).encode())[:16]


def _notes(tars: list[ScannedTar], num_dead: int) -> list[str]:
    notes = []
    if num_dead:
        notes.append(f"{num_dead:,} slices in the tars are left out: replaced, or not wanted")
    if ignored := sum((tar.ignored for tar in tars), Counter()):
        words = ", ".join(f"{count:,} {ending}" for ending, count in sorted(ignored.items()))
        notes.append(f"other members, ignored: {words}")
    low, high = min(tar.range[0] for tar in tars), max(tar.range[1] for tar in tars)
    if low < 0 or 1 < high < float("inf"):
        notes.append(
            f"values go from {low:g} to {high:g}; augmentation expects [0, 1], as (dB + 80) / 80"
        )
    return notes
