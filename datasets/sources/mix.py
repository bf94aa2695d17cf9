"""Several stores and shard sets as one source: focal recordings, soundscapes, a labelled pool.

    mix = open_sources({"focal": SourceSpec(store="data/store"),
                        "pool": SourceSpec(shards="data/pool", weight=0.3, train_only=True)})

The rows of the k-th source begin at k * 2**40, so all that follows (plan, reader, resume,
folds) works as with one. `recordings()` has a column `source` with the name; a csv column of that
name becomes `csv_source`. All sources must be made by one recipe; their containers may differ.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

import numpy as np
import polars as pl

from datasets.sampling.top_targets import DRAW_RULES, EQUAL
from datasets.shards.shard_set import open_shards
from datasets.slice_source import (
    ID_IN_SOURCE,
    SOURCE,
    SOURCE_ROWS,
    SliceSource,
    find_recordings,
    pieces,
    row_bounds,
    rows_in_source,
    select_recordings,
    source_classes,
)
from storage.errors import ConfigError, StoreError
from storage.objects.client import DEFAULT, RemoteConfig
from storage.options import check_choice, option
from storage.read.cache_policy import ShardUse
from storage.read.extents import Extents
from storage.recipe import Recipe
from storage.store import open_store

REFUSE, DROP, RENAME, NEGATIVE = "refuse", "drop", "rename", "negative"
SHARED_IDS = (REFUSE, DROP, RENAME)
MISSING_TARGETS = (REFUSE, DROP)
SEGMENTS_MISSING = (DROP, NEGATIVE)
_PIECE = 2**20  # slices that are looked up at once


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """Config of one source of a training."""

    store: str = option("", "folder of a store")
    shards: str = option("", "folder of tar shards; a source has either of the two")
    weight: float | None = option(
        None, "its share of the samples is weight / sum of weights; left out by all: as they are"
    )
    train_only: bool = option(False, "never held out: not in folds, validation and scores")
    where: str | None = option(None, "SQL condition on its recordings; the others do not exist")
    shared_ids: str = option(
        REFUSE, "recordings whose id an earlier source has: refuse, drop, rename (NAME/id)"
    )
    targets: str = option("", "Parquet of soft targets to learn instead of the labels")
    missing_targets: str = option(
        REFUSE, "slices that the file lacks: refuse, or drop from training"
    )
    draw: str = option(
        "equal", "weight of its recordings in draws: equal; by targets: max_sum or slice_max"
    )
    segments: str = option(
        "", "labels of segments to learn: csv of filename, start, end, labels; or Raven tables"
    )
    segments_missing: str = option(
        DROP, "slices of its recordings that no segment covers: drop, or negative (no label)"
    )
    no_call: bool = option(False, "nothing calls in it: learned as the class labels.no_call")
    reviews: list[str] = field(
        default_factory=list,
        metadata={"help": "verdicts that correct its labels: folders of reviews, or files of them"},
    )

    def __post_init__(self) -> None:
        if bool(self.store) == bool(self.shards):
            raise ConfigError("a source needs either store= or shards=, as in sources.focal.store=")
        if self.weight is not None and not 0 <= self.weight < float("inf"):
            raise ConfigError(f"the weight of a source must be at least 0, not {self.weight}")
        given = [name for name in ("no_call", "targets", "segments") if getattr(self, name)]
        if len(given) > 1:
            raise ConfigError(
                f"a source has one of no_call=true, targets= and segments=; {given[0]} and "
                f"{given[1]} are given: not both"
            )
        check_choice(self, "", "shared_ids", SHARED_IDS)
        check_choice(self, "", "missing_targets", MISSING_TARGETS)
        check_choice(self, "", "draw", DRAW_RULES)
        check_choice(self, "", "segments_missing", SEGMENTS_MISSING)

    @property
    def is_held_out(self) -> bool:
        """False for a source that is learned from only; labels of segments are not scored."""
        return not (self.train_only or self.segments)

    @property
    def is_guest(self) -> bool:
        """True where the labels of its recordings make no class."""
        return self.train_only or bool(self.targets) or bool(self.segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedSource:
    """One source of a mix; the options as in `SourceSpec`."""

    name: str
    source: SliceSource
    where: str | None = None
    shared_ids: str = REFUSE


class SourceMix:
    """Several sources as one; a `SliceSource`. Immutable, safe to use from threads."""

    def __init__(self, parts: Sequence[MixedSource]) -> None:
        if not parts:
            raise ConfigError("a mix needs at least one source")
        first = parts[0]
        for part in parts[1:]:
            if part.source.recipe != first.source.recipe:
                difference = first.source.recipe.difference(part.source.recipe)
                raise ConfigError(
                    f"sources {first.name} and {part.name} have different recipes: "
                    f"{difference} ({first.name} is here, {part.name} there): build both by one "
                    "recipe"
                )
        self._parts = tuple(parts)
        self.recipe: Recipe = first.source.recipe
        self.remote: RemoteConfig = first.source.remote
        self.url = ", ".join(f"{part.name}={part.source.url}" for part in parts)
        identity = "\n".join(f"{part.name}={part.source.store_id}" for part in parts)
        self.store_id = hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()

    @property
    def classes(self) -> tuple[str, ...]:
        """Returns the classes of the sources' taxonomies, each once."""
        names = (name for part in self._parts for name in source_classes(part.source))
        return tuple(dict.fromkeys(names))

    def recordings(self) -> pl.DataFrame:
        """Returns the recordings of all sources by `first_row`, with the column `source`."""
        return self._recordings

    def slice_index(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Returns the slices of all recordings, sorted by row; computed at each call."""
        wanted = None if columns is None else [*dict.fromkeys(["row", *columns])]
        frames = []
        for number, part in enumerate(self._parts):
            index = part.source.slice_index(wanted)
            if number:
                index = index.with_columns(pl.col("row") + number * SOURCE_ROWS)
            frames.append(
                self._of_recordings(index, with_ids=wanted is None or "recording_id" in wanted)
            )
        return pl.concat(frames, how="diagonal_relaxed")

    def _of_recordings(self, index: pl.DataFrame, *, with_ids: bool) -> pl.DataFrame:
        """Returns the slices of recordings of the mix, with the ids that these have in it."""
        rows = index["row"].to_numpy()
        bounds = row_bounds(self._recordings)
        inside = np.empty(len(rows), bool)
        for piece in pieces(len(rows), _PIECE):
            inside[piece] = find_recordings(rows[piece], *bounds)[1]
        if not inside.all():  # a copy
            index = index.filter(inside)
        if not with_ids:
            return index
        line = find_recordings(index["row"].to_numpy(), *bounds)[0]
        return index.with_columns(self._recordings["recording_id"].gather(line))

    def extents(self, rows: np.ndarray) -> Extents:
        """Returns the extents of int64 rows [n], in that order; StoreError on an unknown row."""
        number = rows // SOURCE_ROWS
        unknown = rows[(number < 0) | (number >= len(self._parts))]
        if len(unknown):
            raise StoreError(f"{self.url}: there is no source of row {unknown[0]}")
        found = [
            self._parts[source_no].source.extents(rows_in_source(rows[number == source_no]))
            for source_no in np.unique(number).tolist() or [0]
        ]
        starts = np.cumsum([0, *(len(part.objects) for part in found)]).astype(np.int32)
        by_source = Extents(
            objects=tuple(chain.from_iterable(part.objects for part in found)),
            object_no=np.concatenate([part.object_no + starts[i] for i, part in enumerate(found)]),
            offset=np.concatenate([part.offset for part in found]),
            length=np.concatenate([part.length for part in found]),
            crc32c=np.concatenate([part.crc32c for part in found]),
            codecs=tuple(chain.from_iterable(part.codecs for part in found)),
            remote=any(part.remote for part in found),
        )
        return by_source[np.argsort(np.argsort(number, kind="stable"))]

    def shard_use(self, rows: np.ndarray) -> ShardUse:
        """Counts bytes of int64 rows [n], and of the shards in object stores that hold them."""
        number = rows // SOURCE_ROWS
        uses = [
            part.source.shard_use(rows_in_source(rows[number == source_no]))
            for source_no, part in enumerate(self._parts)
        ]
        return sum(uses, start=ShardUse())

    @cached_property
    def _recordings(self) -> pl.DataFrame:
        frames: list[pl.DataFrame] = []
        known = pl.Series("recording_id", [], dtype=pl.String)
        for number, part in enumerate(self._parts):
            frame = _without_shared_ids(_matching_recordings(part), known, part)
            known = pl.concat([known, frame["recording_id"]])
            first_row = pl.col("first_row") + number * SOURCE_ROWS
            frames.append(frame.with_columns(first_row, pl.lit(part.name).alias(SOURCE)))
        return pl.concat(frames, how="diagonal_relaxed")


def open_source(*, store: str, shards: str, remote: RemoteConfig = DEFAULT) -> SliceSource:
    """Opens the shard set where `shards` names one, else the store."""
    return open_shards(shards, remote) if shards else open_store(store, remote)


def open_sources(specs: Mapping[str, SourceSpec], remote: RemoteConfig = DEFAULT) -> SourceMix:
    """Opens the sources of a config, in its order; raises ConfigError where recipes differ."""
    return SourceMix(
        [
            MixedSource(
                name=name,
                source=open_source(store=spec.store, shards=spec.shards, remote=remote),
                where=spec.where,
                shared_ids=spec.shared_ids,
            )
            for name, spec in specs.items()
        ]
    )


def source_weights(specs: Mapping[str, SourceSpec]) -> dict[str, float]:
    """Returns the weight of each source, 1 by default; empty where none has one."""
    if all(spec.weight is None for spec in specs.values()):
        return {}
    weights = {name: 1.0 if spec.weight is None else spec.weight for name, spec in specs.items()}
    if not sum(weights.values()) > 0:
        raise ConfigError("all sources have weight 0: at least one must be drawn from")
    return weights


def source_draws(specs: Mapping[str, SourceSpec]) -> dict[str, str]:
    """Returns the rule by which each source is drawn from, of those that do not draw equally."""
    return {name: spec.draw for name, spec in specs.items() if spec.draw != EQUAL}


def _matching_recordings(part: MixedSource) -> pl.DataFrame:
    """Returns the recordings of one source that fulfil its condition."""
    recordings = part.source.recordings()
    if part.where is not None:
        recordings = select_recordings(recordings, where=part.where)
    ours = (SOURCE, ID_IN_SOURCE)  # of stores that were built before these were reserved
    return recordings.rename({name: f"csv_{name}" for name in ours}, strict=False)


def _without_shared_ids(
    recordings: pl.DataFrame, known: pl.Series, part: MixedSource
) -> pl.DataFrame:
    """Drops, renames or refuses recordings whose ids an earlier source has."""
    shared = recordings["recording_id"].is_in(known.implode())
    if not shared.any():
        return recordings
    if part.shared_ids == DROP:
        return recordings.filter(~shared)
    if part.shared_ids == RENAME:
        renamed = pl.concat_str(pl.lit(f"{part.name}/"), "recording_id")
        return recordings.with_columns(
            pl.when(pl.lit(shared)).then("recording_id").alias(ID_IN_SOURCE),
            pl.when(pl.lit(shared)).then(renamed).otherwise("recording_id").alias("recording_id"),
        )
    first = recordings["recording_id"].filter(shared)[0]
    raise ConfigError(
        f"{shared.sum()} of {len(recordings)} recordings of source {part.name} have the id of one "
        f"of an earlier source, such as {first}: set sources.{part.name}.shared_ids=drop where "
        "they are the same recordings, rename where they differ"
    )
