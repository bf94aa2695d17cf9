"""Notebooks show what stores, shard sets, readers, planners and batches hold."""

import numpy as np
import pytest

from datasets.loading.config import LoaderConfig
from datasets.loading.reader import BatchReader
from datasets.sampling.epoch_plan import EpochPlanner, SamplingConfig
from datasets.shards.shard_set import open_shards
from datasets.shards.writer import ShardConfig, write_shards
from storage.store import open_store
from tests.small_store import build_small_store


def test_all_show_what_they_hold(tmp_path) -> None:
    folder = build_small_store(tmp_path, [3, 8, 5, 6])
    with open_store(str(folder)) as store:
        n, shape = len(store.slice_index()), "64 x "
        assert len(store) == n
        assert repr(store).startswith(f"Store({folder}: {n} slices of 4 recordings, {shape}")
        assert np.array_equal(store[0], store.read([0])[0])
        assert np.array_equal(store[-1], store[n - 1])
        assert np.array_equal(store[1:3], store.read([1, 2]))
        with pytest.raises(IndexError):
            store[n]
        assert len(list(store)) == n
        write_shards(store, str(tmp_path / "shards"), ShardConfig(workers=1))
        shards = open_shards(str(tmp_path / "shards"))
        assert f"{n} slices of 4 recordings in 1 shards, {shape}" in repr(shards)
        planner = EpochPlanner(store.recordings(), SamplingConfig(), seed=7)
        assert repr(planner).startswith("EpochPlanner(4 samples of 4 recordings; slice_choice=")
        config = LoaderConfig(batch_size=2, prefetch_batches=0)
        reader = BatchReader(store, planner, config, targets=None, train=True)
        assert "2 batches of 2, rank 0 of 1; epoch 0, batch 0)" in repr(reader)
        batch = next(iter(reader))
        assert repr(batch).startswith("Batch(slices=2x64x")
        assert "rows=2 int64" in repr(batch)
        assert "epoch=0 int64" in repr(batch)
        reader.close()
