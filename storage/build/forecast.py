"""Forecast of a build: pending work, time and size, without writing anything."""

from dataclasses import dataclass

import polars as pl

from storage.build.build import BuildConfig, open_build
from storage.build.plan import expected_slices
from storage.build.reconcile import check_drop
from storage.format.manifest import NAME as MANIFEST
from storage.format.manifest import Manifest
from storage.format.state import pending_recordings, read_state
from storage.format.tables import PLANS, read_tables, table_numbers
from storage.objects.client import DEFAULT, RemoteConfig
from storage.processes import num_cores
from storage.progress import Progress, silent
from storage.recipe import Recipe
from storage.source.table import SourceConfig

# Measured on real recordings, one core, with: python -m tools.benchmark build
ZSTD_SHARE = 0.73
CPU_S_PER_SLICE = 0.0035


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildForecast:
    """Pending work and its cost."""

    url: str
    num_found: int
    num_new: int
    num_changed: int
    num_duplicates: int
    num_unusable: int
    num_dropped: int
    num_slices: int
    audio_s: float
    size_bytes: int
    minutes: float

    def summary(self) -> str:
        """A few lines for the user."""
        return "\n".join(
            [
                f"{self.url}: of {self.num_found:,} recordings {self.num_new:,} would be built, "
                f"{self.num_changed:,} built again, {self.num_duplicates:,} noted as duplicates, "
                f"{self.num_unusable:,} rejected, {self.num_dropped:,} others dropped",
                f"{self.audio_s / 3600:.2f} h of audio, about {self.num_slices:,} slices, "
                f"{self.size_bytes / 1e6:,.0f} MB, {self.minutes:.1f} min; nothing was written",
            ]
        )


def forecast_build(
    source_config: SourceConfig,
    recipe: Recipe,
    url: str,
    config: BuildConfig,
    *,
    limit: int | None = None,
    progress: Progress = silent,
    remote: RemoteConfig = DEFAULT,
) -> BuildForecast:
    """Forecasts `build_store` with the same arguments; raises what it would raise."""
    source, objects, wanted = open_build(source_config, recipe, url, limit, progress, remote)
    if objects.exists(MANIFEST):
        Manifest.read(objects).check_recipe(recipe, url)
    state = read_state(objects)
    pending = pending_recordings(wanted, state, twice=source_config.keep_duplicates)
    earlier = read_tables(objects, PLANS, table_numbers(objects, PLANS))
    counts = expected_slices(pending, recipe, remote, earlier)
    usable = pending.filter(pl.col("reason").is_null() & pl.col("duplicate_of").is_null())
    changed = usable["recording_id"].is_in(state.live_recordings()["recording_id"].implode())
    num_slices = int(counts.sum())
    workers = config.workers or num_cores()
    return BuildForecast(
        url=url,
        num_found=len(wanted),
        num_new=int((~changed).sum()),
        num_changed=int(changed.sum()),
        num_duplicates=int(pending["duplicate_of"].is_not_null().sum()),
        num_unusable=int(pending["reason"].is_not_null().sum()),
        num_dropped=check_drop(state, source, config.max_drop_share),
        num_slices=num_slices,
        audio_s=float(usable["header_s"].sum()),
        size_bytes=round(num_slices * recipe.slice_bytes * ZSTD_SHARE),
        minutes=num_slices * CPU_S_PER_SLICE / workers / 60,
    )
