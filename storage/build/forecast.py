"""Forecast of a build: pending work, time and size, without writing anything."""

import polars as pl

from storage.build.build import Build
from storage.build.plan import expected_slices
from storage.format.chunk_codecs import CODECS
from storage.format.manifest import NAME as MANIFEST
from storage.format.tables import PLANS, read_tables, table_numbers
from storage.processes import num_cores

# Measured on real recordings, one core, with: python -m tools.benchmark build
CPU_S_PER_SLICE = 0.0035


def forecast_build(build: Build) -> str:
    """A few lines for the user: what a build that was opened would do; raises what it would."""
    objects, recipe = build.objects, build.recipe
    num_dropped = build.check_store() if objects.exists(MANIFEST) else 0
    pending = build.pending()
    plans = read_tables(objects, PLANS, table_numbers(objects, PLANS))
    num_slices = int(expected_slices(pending, recipe, objects.remote_config, plans).sum())
    usable = pending.filter(pl.col("reason").is_null() & pl.col("duplicate_of").is_null())
    changed = usable.join(build.state.live_recordings(), on="recording_id", how="semi")
    share = CODECS[build.codec].share
    size_mb = num_slices * recipe.slice_bytes * share / 1e6
    minutes = num_slices * CPU_S_PER_SLICE / (build.config.workers or num_cores()) / 60
    notes = "".join(f"\nnote: {sentence}" for sentence in build.source.notes)
    time = f"{minutes:.1f} min" if minutes >= 1 else "under a minute"
    return (
        f"{objects.url}: of {len(build.wanted):,} recordings {len(usable) - len(changed):,} would "
        f"be built, {len(changed):,} built again, "
        f"{pending['duplicate_of'].is_not_null().sum():,} noted as duplicates, "
        f"{pending['reason'].is_not_null().sum():,} rejected, {num_dropped:,} others dropped\n"
        f"{usable['header_s'].sum() / 3600:.2f} h of audio, about {num_slices:,} slices, "
        f"{size_mb:,.0f} MB, {time}; nothing was written{notes}"
    )
