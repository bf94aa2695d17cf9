"""labels.no_call: slices in which nothing calls have a class of their own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from datasets.folds import FoldConfig
from datasets.labels import LabelConfig
from datasets.sources.mix import MixedSource, SourceMix, SourceSpec
from storage.errors import ConfigError
from tests.fakes import write_fake_source
from training.config import TrainingConfig
from training.split import split_recordings

NO_CALL = LabelConfig(no_call="no_call")


@pytest.fixture
def mix(tmp_path: Path) -> SourceMix:
    parts = []
    for name, num_slices in (("focal", [3] * 12), ("n", [4, 2])):
        source = write_fake_source(tmp_path / f"{name}.raw", num_slices, seed=1)
        ids = pl.concat_str("recording_id", pl.lit(f" of {name}"))
        silent = pl.Series("silent", np.arange(len(source.index)) % 5 == 1)
        source = replace(
            source,
            table=source.table.with_columns(ids.alias("recording_id")),
            index=source.index.with_columns(silent, recording_id=ids),
        )
        parts.append(MixedSource(name=name, source=source))
    return SourceMix(parts)


def config(labels: LabelConfig, **noise: bool) -> TrainingConfig:
    sources = {"focal": SourceSpec(store="f"), "n": SourceSpec(store="n", **noise)}
    return TrainingConfig(sources=sources, labels=labels, folds=FoldConfig(num_folds=2))


def test_a_source_without_calls_and_silent_slices_have_the_class(mix: SourceMix) -> None:
    split = split_recordings(mix, config(NO_CALL, no_call=True))
    assert split.labels.names == ("a", "b", "c", "no_call")
    recordings, index = split.recordings, mix.slice_index()
    inside = (recordings["source"] == "n").to_numpy()
    assert inside.sum() == 2
    assert recordings.filter(inside)["primary_label"].to_list() == ["no_call"] * 2
    assert recordings.filter(inside)["secondary_labels"].list.len().to_list() == [0, 0]
    rows = index["row"].to_numpy()
    recording_no = np.searchsorted(recordings["first_row"].to_numpy(), rows, "right") - 1
    targets = split.targets.of(rows, recording_no)
    expected = index["silent"].to_numpy() | inside[recording_no]
    assert 0 < expected.sum() < len(expected)
    assert np.array_equal(targets[expected], np.tile([0, 0, 0, 1], (expected.sum(), 1)))
    assert (targets[~expected, 3] == 0).all()
    assert (targets[~expected, :3].max(1) == 1).all()


def test_listed_classes_get_it_as_the_last(mix: SourceMix) -> None:
    labels = LabelConfig(classes=["c", "b", "a"], no_call="none")
    assert split_recordings(mix, config(labels)).labels.names == ("c", "b", "a", "none")


def test_a_source_without_calls_needs_the_name_of_a_class(mix: SourceMix) -> None:
    with pytest.raises(ConfigError, match=r"sources.n.no_call=true needs a class"):
        split_recordings(mix, config(LabelConfig(), no_call=True))


def test_soft_targets_or_no_call() -> None:
    with pytest.raises(ConfigError, match="not both"):
        SourceSpec(store="n", no_call=True, targets="oof.parquet")
