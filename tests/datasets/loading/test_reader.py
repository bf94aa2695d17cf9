"""Batches are what the plan says, whole, in order, on any number of ranks."""

import gc
import os
import threading

import numpy as np
import pytest
import torch

from datasets.labels import Labels
from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.sampling.epoch_plan import EpochPlanner, SamplingConfig, plan_all
from storage.errors import ConfigError
from storage.recipe import Recipe
from tests.fakes import write_fake_source
from tests.shard_sets import LENGTHS


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_fake_source(tmp_path_factory.mktemp("reader") / "cells.raw", LENGTHS, seed=1)


def train_reader(source, *, seed=5, sampling=None, ranks=(0, 1, 1), **config):
    sampling = sampling or SamplingConfig(slices_per_recording=3, balance="sqrt")
    rank, world_size, accumulation = ranks
    return BatchReader(
        source,
        EpochPlanner(source.recordings(), sampling, seed=seed),
        LoaderConfig(**{"batch_size": 8, **config}),
        targets=Labels.of(source.recordings()).targets(source.recordings(), 0.5),
        train=True,
        rank=rank,
        world_size=world_size,
        accumulation=accumulation,
    )


def eval_reader(source, *, rank=0, world_size=1, targets=None, **config):
    plan = plan_all(source.recordings())
    return BatchReader(
        source,
        lambda _: plan,
        LoaderConfig(**{"batch_size": 8, **config}),
        targets=targets,
        train=False,
        rank=rank,
        world_size=world_size,
    )


def rows_of(batches):
    return [batch.rows.tolist() for batch in batches]


def open_files():
    return len(os.listdir("/dev/fd"))


def prefetch_threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.mark.parametrize("prefetch_batches", [0, 1, 4])
def test_batches_are_the_plan_carried_out(source, prefetch_batches):
    reader = train_reader(source, prefetch_batches=prefetch_batches)
    plan = EpochPlanner(
        source.recordings(), SamplingConfig(slices_per_recording=3, balance="sqrt"), seed=5
    )(2)
    targets = Labels.of(source.recordings()).targets(source.recordings(), 0.5)
    reader.set_epoch(2)
    batches = list(reader)
    assert len(batches) == len(reader) == 36 // 8
    for number, batch in enumerate(batches):
        places = np.arange(8 * number, 8 * number + 8)
        assert batch.position.tolist() == places.tolist()
        assert batch.rows.tolist() == plan.rows[places].tolist()
        assert batch.recording_no.tolist() == plan.planned_no[places].tolist()
        assert batch.slices.dtype == torch.uint8
        assert np.array_equal(batch.slices.numpy(), source.read(plan.rows[places]))
        assert np.array_equal(batch.targets.numpy(), targets[plan.planned_no[places]])
        assert batch.epoch.item() == 2


@pytest.mark.parametrize("encoding", ["uint8", "float16", "float32"])
def test_cells_come_in_the_dtype_of_the_source(tmp_path, encoding):
    recipe = Recipe(
        sample_rate_hz=1000, n_fft=64, hop=32, n_mels=4, fmax_hz=500, slice_s=0.2, encoding=encoding
    )
    source = write_fake_source(tmp_path / "cells.raw", [2, 3], seed=1, recipe=recipe)
    (batch,) = eval_reader(source)
    assert batch.slices.dtype == getattr(torch, encoding)
    assert np.array_equal(batch.slices.numpy(), source.cells)


def test_evaluation_gives_every_slice_in_order_with_targets(source):
    targets = Labels.of(source.recordings()).targets(source.recordings(), 0.0)
    reader = eval_reader(source, targets=targets)
    batches = list(reader)
    assert len(batches) == len(reader) == -(-sum(LENGTHS) // 8)
    assert np.concatenate(rows_of(batches)).tolist() == plan_all(source.table).rows.tolist()
    assert torch.cat([batch.targets for batch in batches]).sum() == sum(LENGTHS)


def test_without_labels_there_are_no_targets(source):
    assert next(iter(eval_reader(source))).targets is None


def test_a_filtered_plan_still_finds_the_right_targets(source):
    """recording_no and targets go by the source's recordings, whatever the plan was made from."""
    table = source.recordings()
    planner = EpochPlanner(table[[1, 4, 9, 10]], SamplingConfig(slices_per_recording=4), seed=1)
    targets = np.arange(len(table), dtype=np.float32)[:, None]
    reader = BatchReader(source, planner, LoaderConfig(batch_size=4), targets=targets, train=True)
    for batch in reader:
        assert set(batch.recording_no.tolist()) <= {1, 4, 9, 10}
        assert batch.targets[:, 0].tolist() == batch.recording_no.tolist()
        first_row = table["first_row"].to_numpy()[batch.recording_no]
        assert (batch.rows.numpy() >= first_row).all()


def test_a_batch_stays_what_it_is_for_as_long_as_it_is_kept(source):
    reader = train_reader(source, batch_size=2)
    kept = [(batch, batch.slices.clone()) for batch in reader]
    assert all(torch.equal(batch.slices, copy) for batch, copy in kept)


def test_buffers_are_used_again_once_let_go(source):
    reader = train_reader(source, batch_size=1, prefetch_batches=2)
    places = {batch.slices.data_ptr() for batch in reader}
    assert len(reader) == 36
    assert len(places) <= 5


def test_each_epoch_differs_and_a_second_reader_agrees(source):
    one, other = train_reader(source), train_reader(source, prefetch_batches=0)
    epochs = []
    for epoch in range(3):
        one.set_epoch(epoch)
        other.set_epoch(epoch)
        epochs.append(rows_of(one))
        assert rows_of(other) == epochs[-1]
        assert rows_of(one) == epochs[-1]  # a finished epoch may be read again
    assert epochs[0] != epochs[1] != epochs[2]


def test_wrap_fills_the_last_step_with_the_first_samples(source):
    batches = list(train_reader(source, remainder="wrap"))
    assert len(batches) == 5
    assert batches[4].rows.tolist()[4:] == batches[0].rows.tolist()[:4]
    assert batches[4].position.tolist() == list(range(32, 40))


def test_the_state_counts_what_was_handed_out_not_what_was_read_ahead(source):
    reader = train_reader(source, batch_size=2, prefetch_batches=8)
    batches = iter(reader)
    assert reader.state_dict()["delivered"] == 0
    next(batches)
    next(batches)
    assert reader.state_dict()["delivered"] == 4
    batches.close()
    assert reader.state_dict()["delivered"] == 4
    list(reader)
    assert reader.state_dict()["delivered"] == 36


def test_a_finished_epoch_resumes_as_finished(source):
    reader = train_reader(source)
    list(reader)
    resumed = train_reader(source)
    resumed.load_state_dict(reader.state_dict())
    assert list(resumed) == []
    assert len(list(resumed)) == 4  # and once more from its beginning
    resumed.load_state_dict(reader.state_dict())
    resumed.set_epoch(1)
    assert len(list(resumed)) == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 6}, "seed: 5 then, 6 now"),
        ({"batch_size": 4}, "effective_batch: 8 then, 4 now"),
        ({"sampling": SamplingConfig(slices_per_recording=3)}, "balance: sqrt then, none now"),
    ],
    ids=["seed", "batch", "sampling"],
)
def test_a_state_of_another_training_is_refused_with_the_difference(source, change, said):
    state = train_reader(source).state_dict()
    with pytest.raises(ConfigError, match=said):
        train_reader(source, **change).load_state_dict(state)


def test_a_state_of_other_data_is_refused(source, tmp_path):
    other = write_fake_source(tmp_path / "other.raw", [*LENGTHS[:-1], 7], seed=1)
    with pytest.raises(ConfigError, match="recordings: 12"):
        train_reader(other).load_state_dict(train_reader(source).state_dict())


def test_a_state_inside_a_global_batch_is_refused(source):
    reader = train_reader(source, batch_size=2, ranks=(0, 1, 4))
    next(iter(reader))
    with pytest.raises(ConfigError, match="optimizer step"):
        train_reader(source).load_state_dict(reader.state_dict())


@pytest.mark.parametrize("how", ["end", "break", "error", "close", "dropped"])
def test_nothing_is_left_behind(source, how):
    gc.collect()  # of other tests
    files = open_files()
    reader = train_reader(source, batch_size=1)
    batches = iter(reader)
    assert not prefetch_threads()
    next(batches)
    assert len(prefetch_threads()) == 1
    assert open_files() > files
    if how == "end":
        list(batches)
    elif how == "close":
        reader.close()
    elif how == "error":
        with pytest.raises(RuntimeError):
            batches.throw(RuntimeError("stopped"))
    elif how == "break":
        for _ in batches:
            break
    del batches
    gc.collect()
    assert not prefetch_threads()
    assert open_files() == files


def test_lightning_reaches_set_epoch_through_the_sampler(source):
    reader = train_reader(source)
    reader.sampler.set_epoch(3)
    assert next(iter(reader)).epoch.item() == 3


def test_targets_of_other_recordings_are_refused(source):
    with pytest.raises(ConfigError, match="targets have 3 lines"):
        eval_reader(source, targets=np.zeros((3, 2), np.float32))


def test_a_plan_of_another_source_is_refused(source, tmp_path):
    other = write_fake_source(tmp_path / "other.raw", [50, 50], seed=1)
    reader = BatchReader(
        source, lambda _: plan_all(other.table), LoaderConfig(), targets=None, train=False
    )
    with pytest.raises(ConfigError, match="does not have"):
        list(reader)


def test_epochs_of_different_lengths_are_refused(source):
    table = source.recordings()
    reader = BatchReader(
        source,
        lambda epoch: EpochPlanner(table[epoch:], SamplingConfig(), seed=1)(epoch),
        LoaderConfig(batch_size=2),
        targets=None,
        train=True,
    )
    reader.set_epoch(3)
    with pytest.raises(ConfigError, match="epoch 3 has 9 samples"):
        next(iter(reader))


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"prefetch_batches": -1}, {"max_bad": -1}, {"remainder": "pad"}]
)
def test_a_wrong_config_is_refused(wrong):
    with pytest.raises(ConfigError):
        LoaderConfig(**wrong)
