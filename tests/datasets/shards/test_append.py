"""Shards written again after their source has changed: only what is new is written."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.shards.format import sample_key
from datasets.shards.shard_set import open_shards
from datasets.shards.verify import verify_shards
from datasets.shards.writer import write_shards
from storage.errors import ConfigError
from tests.fakes import write_fake_source
from tests.paths import ROOT
from tests.shard_sets import (
    LENGTHS,
    SMALL_SHARDS,
    PartSource,
    check_holds,
    contents,
    identities,
    part_of,
    read_stock,
)

FRESH = replace(SMALL_SHARDS, fresh=True)
DROPPING = replace(SMALL_SHARDS, max_drop_share=1.0)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves them open
def test_a_source_that_grows_twice_never_touches_a_finished_shard(source, target, workers):
    config = replace(SMALL_SHARDS, workers=workers)
    before = {}
    for end in (5, 9, 12):
        grown = part_of(source, range(end))
        report = write_shards(grown, str(target), config)
        after = identities(target)
        assert before.items() <= after.items()
        assert report.new_shards == len(after) - len(before) > 0
        assert (report.num_dropped, report.num_dead, report.num_relabelled) == (0, 0, 0)
        check_holds(open_shards(str(target)), grown)
        assert verify_shards(str(target), None).damage == []
        before = after
    samples = read_stock(target)
    keys = [
        sample_key(*line) for line in source.index.select("recording_id", "slice_no").iter_rows()
    ]
    assert sorted(sample["__key__"] for sample in samples) == sorted(keys)
    order = np.searchsorted(source.index["row"], [sample["json"]["row"] for sample in samples])
    assert np.array_equal(np.stack([s["mel.npy"] for s in samples]), source.cells[order])


def test_bytes_are_equal_for_any_number_of_workers(source, tmp_path):
    sets = []
    for workers in (1, 2, 3):
        folder = tmp_path / f"by-{workers}"
        for end in (7, 12):
            config = replace(SMALL_SHARDS, workers=workers)
            write_shards(part_of(source, range(end)), str(folder), config)
        sets.append(contents(folder))
    assert sets[0] == sets[1] == sets[2]
    assert len(sets[0]) > 6


def test_a_run_with_nothing_to_do_writes_nothing(source, target):
    first = write_shards(source, str(target), SMALL_SHARDS)
    assert first.new_shards == first.num_shards
    before = identities(target, "*.*")
    report = write_shards(source, str(target), replace(SMALL_SHARDS, shard_size_bytes=10**6))
    assert report.new_shards == 0
    assert {*before} >= {"shards.json", "shards.parquet", "recordings.parquet"}
    assert identities(target, "*.*") == before


def test_what_leaves_the_source_leaves_the_index_and_stays_in_the_tars(source, target):
    write_shards(source, str(target), SMALL_SHARDS)
    before = identities(target)
    fewer = part_of(source, [0, 1, 2, 4, 6, 7, 8, 11])
    report = write_shards(fewer, str(target), SMALL_SHARDS)
    check_holds(open_shards(str(target)), fewer)
    assert identities(target) == before
    assert report.num_dropped == 4
    assert report.num_dead == sum(LENGTHS) - report.num_slices > 0
    assert "fresh=true" in report.summary()
    fresh = write_shards(fewer, str(target), FRESH)
    assert (fresh.num_dead, fresh.new_shards) == (0, fresh.num_shards)
    write_shards(fewer, str(target.parent / "new"), SMALL_SHARDS)
    assert contents(target) == contents(target.parent / "new")


def test_what_comes_back_is_written_again(source, target):
    write_shards(source, str(target), SMALL_SHARDS)
    write_shards(part_of(source, range(8)), str(target), DROPPING)
    report = write_shards(source, str(target), SMALL_SHARDS)
    assert report.new_shards > 0
    assert report.num_dead == sum(LENGTHS[8:])
    check_holds(open_shards(str(target)), source)


def test_most_of_a_set_is_dropped_only_when_told_so(source, target):
    write_shards(source, str(target), SMALL_SHARDS)
    before = contents(target)
    few = part_of(source, range(5))
    with pytest.raises(ConfigError, match=r"7 of the 12 .*max_drop_share=0\.5"):
        write_shards(few, str(target), SMALL_SHARDS)
    assert contents(target) == before
    assert write_shards(few, str(target), DROPPING).num_dropped == 7


def test_a_changed_recording_goes_into_a_new_shard(tmp_path, target):
    """It has other slices, in other rows, under its old id."""
    whole = write_fake_source(tmp_path / "cells.raw", [*LENGTHS, 4], seed=1)
    ids = whole.table["recording_id"]
    renamed = pl.col("recording_id").replace({ids[12]: ids[3]})
    whole = replace(
        whole,
        table=whole.table.with_columns(renamed),
        index=whole.index.with_columns(renamed),
    )
    is_new = pl.col("row") >= whole.table["first_row"][12]
    is_old = pl.col("recording_id") == ids[3]
    once = PartSource(whole=whole, table=whole.table[:12], index=whole.index.filter(~is_new))
    write_shards(once, str(target), SMALL_SHARDS)
    before = identities(target)
    changed = PartSource(
        whole=whole,
        table=whole.table[[0, 1, 2, *range(4, 13)]],
        index=whole.index.filter(is_new | ~is_old),
    )
    report = write_shards(changed, str(target), SMALL_SHARDS)
    assert (report.new_shards, report.num_dead, report.num_dropped) == (1, LENGTHS[3], 0)
    assert before.items() < identities(target).items()
    check_holds(open_shards(str(target)), changed)


def test_new_labels_touch_no_tar(source, target):
    write_shards(source, str(target), SMALL_SHARDS)
    before = identities(target, "*.*")
    labels = pl.col("primary_label").replace({"b": "z"})
    relabelled = replace(source, table=source.table.with_columns(labels))
    report = write_shards(relabelled, str(target), SMALL_SHARDS)
    after = identities(target, "*.*")
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"recordings.parquet", "shards.json"}
    assert (report.new_shards, report.num_relabelled) == (0, 4)
    check_holds(open_shards(str(target)), relabelled)
    assert write_shards(source, str(target), SMALL_SHARDS).num_relabelled == 0


@pytest.mark.parametrize(
    "other", [{"store_id": "0ther"}, {"recipe": "other"}], ids=["store", "recipe"]
)
def test_shards_of_another_store_or_recipe_are_left_alone(source, target, other):
    write_shards(source, str(target), SMALL_SHARDS)
    before = contents(target)
    if "recipe" in other:
        other = {"recipe": replace(source.recipe, top_db=70.0)}
    strange = replace(source, **other)
    with pytest.raises(ConfigError, match=r"another (store \(fa4e\)|recipe \(top_db: 70).*fresh"):
        write_shards(strange, str(target), SMALL_SHARDS)
    assert contents(target) == before
    write_shards(strange, str(target), FRESH)
    check_holds(open_shards(str(target)), strange)


@settings(max_examples=12)
@given(
    steps=st.lists(
        st.tuples(st.sets(st.integers(0, 11), min_size=1), st.sampled_from("abz")),
        min_size=2,
        max_size=4,
    )
)
def test_any_history_ends_with_what_the_source_has(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("history")
    source = write_fake_source(folder / "cells.raw", LENGTHS, seed=2)
    target = folder / "shards"
    before = {}
    for numbers, label in steps:
        labels = pl.col("primary_label").replace({"a": label})
        now = part_of(replace(source, table=source.table.with_columns(labels)), sorted(numbers))
        write_shards(now, str(target), DROPPING)
        after = identities(target)
        assert before.items() <= after.items()
        check_holds(open_shards(str(target)), now)
        before = after


FULL = """
import resource, sys
from pathlib import Path
from datasets.shards.writer import write_shards
from storage.errors import StoreError
from tests.fakes import write_fake_source
from tests.shard_sets import LENGTHS, SMALL_SHARDS

folder = Path(sys.argv[1])
source = write_fake_source(folder / "cells.raw", LENGTHS, seed=1)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
try:
    write_shards(source, str(folder / "shards"), SMALL_SHARDS)
except StoreError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_file_that_cannot_be_written_is_named_with_the_way_out(source, target, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "shard-000000.tar" in done.stdout
    assert "Free space or give another folder, then run it again" in done.stdout
    assert list(target.glob("*.tar")) == []
    write_shards(source, str(target), SMALL_SHARDS)
    check_holds(open_shards(str(target)), source)
