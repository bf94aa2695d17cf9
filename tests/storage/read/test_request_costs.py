"""Costs of reading from a bucket, requests and bytes, are those of docs/object-storage.md."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.sampling.epoch_plan import EpochPlanner, SamplingConfig, plan_all
from datasets.shards.shard_set import open_shards
from datasets.shards.writer import ShardConfig, write_shards
from datasets.slice_source import SliceSource
from storage.objects.client import RemoteConfig
from storage.recipe import Recipe
from tests.fakes import write_fake_source
from tests.s3_server import S3
from tools.testbed.fault_proxy import FaultProxy

NUM_RECORDINGS, SLICES_EACH = 32, 13
SLICE_BYTES = 128 * 313


@pytest.fixture
def shards(s3: S3, proxy: FaultProxy, tmp_path: Path) -> SliceSource:
    """Shards in a bucket, read by ranges through a proxy that counts."""
    path = tmp_path / "cells.raw"
    fake = write_fake_source(path, [SLICES_EACH] * NUM_RECORDINGS, seed=1, recipe=Recipe())
    write_shards(fake, s3.url("shards"), ShardConfig(shard_size_bytes=6_000_000, workers=1))
    return open_shards(s3.url("shards"), RemoteConfig(mode="ranged"))


def one_each(recordings: pl.DataFrame) -> Callable[[int], Any]:
    """A random slice of each recording."""
    return EpochPlanner(recordings, SamplingConfig(slice_choice="random"), seed=3)


def in_order(recordings: pl.DataFrame) -> Callable[[int], Any]:
    """Every slice, as validation reads."""
    return lambda _: plan_all(recordings)


@pytest.mark.parametrize(
    ("planner", "most_requests", "most_bytes"),
    [(one_each, 1.3, 1.3), (in_order, 0.08, 1.2)],  # a slow machine asks again
    ids=["one of each", "in order"],
)
def test_a_slice_costs_so_many_requests_and_bytes(
    planner: Any, most_requests: float, most_bytes: float, shards: SliceSource, proxy: FaultProxy
) -> None:
    proxy.reset_counts()
    plan = planner(shards.recordings())
    reader = BatchReader(shards, plan, LoaderConfig(batch_size=32), targets=None, train=False)
    rows = np.concatenate([batch.rows.numpy() for batch in reader])
    counts = proxy.reset_counts()
    assert len(rows) == len(set(rows.tolist())) >= NUM_RECORDINGS
    assert 0 < counts.requests["GET"] <= most_requests * len(rows)
    assert 1 <= counts.sent_bytes["GET"] / (len(rows) * SLICE_BYTES) <= most_bytes
