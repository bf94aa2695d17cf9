"""Plans and levels of a store, and of a mix, whose tables are mapped: those of one in memory."""

from dataclasses import replace

import numpy as np
import pytest

from datasets.levels import Levels
from datasets.sampling.candidates import slice_columns
from datasets.sampling.config import SamplingConfig
from datasets.sampling.epoch_plan import EpochPlan, EpochPlanner
from datasets.slice_source import SliceSource
from datasets.sources.mix import MixedSource, SourceMix
from storage.build.build import BuildConfig, build_store
from storage.objects.client import DEFAULT
from storage.read.shared import store_tables
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.shared_tables import open_plain
from tests.small_store import RECIPE
from tests.sounds import write_source

CONFIGS = (
    SamplingConfig(balance="sqrt"),
    SamplingConfig(slice_choice="all", order="block", block_rows=4),
    SamplingConfig(where="NOT silent AND max_db > -60 AND rating >= 0.5", slices_per_recording=3),
    SamplingConfig(where="max_db >= avg(max_db)"),
    SamplingConfig(slice_choice="best_of", best_of=2, best_of_by="active_share"),
    SamplingConfig(slice_choice="energy"),
)


def plan_of(source: SliceSource, config: SamplingConfig) -> EpochPlan:
    recordings = source.recordings()
    index = source.slice_index(slice_columns(config, recordings))
    return EpochPlanner(recordings, config, seed=3, slice_index=index)(1)


def mix_of(source: SliceSource) -> SourceMix:
    parts = [MixedSource(name="one", source=source)]
    parts.append(MixedSource(name="two", source=source, shared_ids="rename", where="rating > 0"))
    return SourceMix(parts)


@pytest.mark.slow
def test_plans_and_levels_are_the_same_with_mapped_tables(tmp_path, monkeypatch):
    source = write_source(tmp_path / "source", (3, 8, 5, 6, 4, 9), np.random.default_rng(2))
    url = str(tmp_path / "store")
    build_store(SourceConfig(root=str(source)), RECIPE, url, BuildConfig(workers=1))
    plain = open_plain(url)
    monkeypatch.setattr(store_tables, "SHARED_FROM", 1)
    shared = open_store(url, replace(DEFAULT, cache_dir=str(tmp_path / "cache")))
    assert shared._mapped is not None
    for one, other in ((shared, plain), (mix_of(shared), mix_of(plain))):
        rows = other.slice_index()["row"].to_numpy()
        assert np.array_equal(Levels(one).of(rows), Levels(other).of(rows))
        for config in CONFIGS:
            found, wanted = plan_of(one, config), plan_of(other, config)
            assert found.digest == wanted.digest
            assert np.array_equal(found.rows, wanted.rows)
            assert found.recordings.equals(wanted.recordings)
