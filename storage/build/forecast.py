"""Forecast of a build: pending work, time and size, without writing anything."""

import math

import polars as pl

from storage.build.plan import expected_slices, part_slices
from storage.build.rounds import Build
from storage.format.chunk_codecs import CODECS
from storage.format.manifest import NAME as MANIFEST
from storage.format.manifest import Manifest
from storage.format.tables import PLANS, read_tables, table_numbers
from storage.processes import num_cores
from storage.share import Share

# Measured on real recordings, one core, with: python -m tools.benchmark build
CPU_S_PER_SLICE = 0.0035


def forecast_build(build: Build, share: Share | None = None) -> str:
    """A few lines for the user: what a build that was opened would do; raises what it would.

    With `share`, also the time that so many builders take together.
    """
    objects, recipe = build.objects, build.recipe
    num_dropped = build.check_store() if objects.exists(MANIFEST) else 0
    pending = build.pending()
    plans = read_tables(objects, PLANS, table_numbers(objects, PLANS))
    num_slices = int(expected_slices(pending, recipe, objects.remote_config, plans).sum())
    usable = pending.filter(pl.col("reason").is_null() & pl.col("duplicate_of").is_null())
    changed = usable.join(build.state.live_recordings(), on="recording_id", how="semi")
    size_mb = num_slices * recipe.slice_bytes * CODECS[build.codec].share / 1e6
    time = _minutes(num_slices * CPU_S_PER_SLICE / (build.config.workers or num_cores()))
    notes = "".join(f"\nnote: {sentence}" for sentence in build.source.notes)
    if share is not None:
        notes = f"\n{_forecast_shares(build, num_slices, share.count)}{notes}"
    return (
        f"{objects.url}: of {len(build.wanted):,} recordings {len(usable) - len(changed):,} would "
        f"be built, {len(changed):,} built again, "
        f"{pending['duplicate_of'].is_not_null().sum():,} noted as duplicates, "
        f"{pending['reason'].is_not_null().sum():,} rejected, {num_dropped:,} others dropped\n"
        f"{usable['header_s'].sum() / 3600:.2f} h of audio, about {num_slices:,} slices, "
        f"{size_mb:,.0f} MB, {time}; nothing was written{notes}"
    )


def _forecast_shares(build: Build, num_slices: int, num_builders: int) -> str:
    """Time of builders that share the parts; a part is the work of one process."""
    objects, recordings = build.objects, build.source.recordings
    if objects.exists(MANIFEST):
        target = Manifest.read(objects).part_slices
    else:
        target = part_slices(math.ceil(num_slices * len(recordings) / max(1, len(build.wanted))))
    num_parts = math.ceil(num_slices / target)
    workers = build.config.workers or num_cores()
    parts_each = math.ceil(num_parts / num_builders)
    part_s = min(target, num_slices) * CPU_S_PER_SLICE
    time = _minutes(math.ceil(parts_each / workers) * part_s)
    return (
        f"by {num_builders:,} builders (build.part=1/{num_builders} ... {num_builders}/"
        f"{num_builders}) of {workers:,} processes: {time}, each with at most {parts_each:,} of "
        f"{num_parts:,} parts; more than {num_parts:,} processes in all find nothing to do"
    )


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else "under a minute"
