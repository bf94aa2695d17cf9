"""A csv's own columns reach the store, the shards and training as given, whatever their names."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from datasets.folds import FoldConfig, assign_folds
from datasets.sampling.epoch_plan import EpochPlanner, SamplingConfig
from datasets.shards.shard_set import open_shards
from datasets.shards.writer import ShardConfig, write_shards
from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.format.tables import LABEL_COLUMNS, RESERVED
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.sounds import write_source

LAYERS = ("storage", "datasets", "training")
CODE = [path for layer in LAYERS for path in (Path(__file__).parents[3] / layer).rglob("*.py")]
INTERNAL = {  # every word of the code that could be the name of a column
    word
    for path in CODE
    for word in re.findall(r"""["'](#?[a-z_0-9]{1,30})["']""", path.read_text(encoding="utf-8"))
}
NOT_OURS = {  # columns that folds and balance are asked to use, with values that are checked
    "url",
    "author",
    "latitude",
    "longitude",
    "rating",
}
NAMES = sorted((INTERNAL | {"*", "^.*$", "^a$", "", "row_right"}) - {*LABEL_COLUMNS, *NOT_OURS})


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    return write_source(folder, [0.6] * 12, np.random.default_rng(4), ending="wav")


def with_columns(root: Path, names: list[str]) -> None:
    """Adds columns to the csv; each cell names its column and row."""
    rows = list(csv.DictReader(io.StringIO((root / "train.csv").read_text())))
    kept = [name for name in rows[0] if name in {*LABEL_COLUMNS, "rating", "author"}]
    with (root / "named.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*kept, *names])
        for number, row in enumerate(rows):
            writer.writerow(
                [row[name] for name in kept] + [f"of {name}-{number}" for name in names]
            )


def build(source: Path, store: Path, csv_name: str) -> None:
    config = SourceConfig(root=str(source), csv=csv_name)
    report = build_store(config, Recipe(), str(store), BuildConfig(workers=1))
    assert report.num_stored == 12
    again = build_store(config, Recipe(), str(store), BuildConfig(workers=1))
    assert (again.num_stored, again.new_slices) == (12, 0)


def test_names_change_nothing_but_the_columns(source: Path, tmp_path: Path) -> None:
    with_columns(source, NAMES)
    build(source, tmp_path / "plain", "train.csv")
    build(source, tmp_path / "named", "named.csv")
    plain, named = open_store(str(tmp_path / "plain")), open_store(str(tmp_path / "named"))
    assert named.slice_index().equals(plain.slice_index())
    ours, theirs = plain.recordings(), named.recordings()
    assert theirs[ours.columns].equals(ours)
    write_shards(named, str(tmp_path / "shards"), ShardConfig(workers=1))
    for recordings in (theirs, open_shards(str(tmp_path / "shards")).recordings()):
        given = {column.name: column[0] for column in recordings.get_columns()}
        for name in NAMES:
            kept = f"csv_{name}" if name in RESERVED else name
            assert given.get(kept, given.get(f"csv_{kept}")) == f"of {name}-0", name
    for cv in ("stratified_group", "kfold"):
        folds = [assign_folds(one, FoldConfig(cv=cv, num_folds=2), 0) for one in (ours, theirs)]
        assert np.array_equal(*folds)
    sampling = SamplingConfig(where="max_db > -200 AND rating >= 0")
    plans = [
        EpochPlanner(one.recordings(), sampling, seed=1, slice_index=one.slice_index())(0)
        for one in (plain, named)
    ]
    assert plans[0].rows.tolist() == plans[1].rows.tolist()
    assert plans[1].describe().columns == plans[0].describe().columns
    found = named.query("SELECT reason, part, keeper, path FROM recordings").collect()
    assert found.row(0) == ("of reason-0", "of part-0", "of keeper-0", "of path-0")
    assert named.query(pl.col("max_db") > -200).collect().height == len(named.slice_index())
