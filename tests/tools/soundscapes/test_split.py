"""Shares of recordings and backgrounds: none in two roles, as wanted, and pure."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import ConfigError
from tests.tools.soundscapes.sources import write_backgrounds, write_recordings
from tools.soundscapes.config import FOCAL, LABELLED, POOL, TEST, MixConfig
from tools.soundscapes.split import ORDER, assign_roles, split_backgrounds, split_recordings

SHARES = {FOCAL: 0.5, TEST: 0.2, POOL: 0.2, LABELLED: 0.1}


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30)), min_size=1, max_size=60),
    st.integers(0, 2**31),
)
def test_a_group_has_one_role_and_four_groups_of_a_class_have_four(
    items: list[tuple[int, int]], seed: int
) -> None:
    classes, groups = np.asarray(items, np.int64).T
    roles = np.asarray(assign_roles(classes, groups, SHARES, seed=seed))
    assert assign_roles(classes, groups, SHARES, seed=seed) == roles.tolist()
    for group in np.unique(groups):
        assert len(set(roles[groups == group])) == 1
    alone = np.arange(len(classes))  # each recording a group of its own
    roles = np.asarray(assign_roles(classes, alone, SHARES, seed=seed))
    for number in np.unique(classes):
        counts = [int((roles[classes == number] == role).sum()) for role in ORDER]
        num = sum(counts)
        assert all(counts[: min(4, num)])
        for count, share in zip(counts, SHARES.values(), strict=True):
            assert abs(count - share * num) <= 1.5


def test_groups_of_several_labels_are_focal() -> None:
    classes, groups = np.asarray([0, 0, 0, 0, 1, 1]), np.asarray([0, 1, 2, 2, 3, 4])
    first = np.asarray([False, True, True, False, False, False])
    roles = assign_roles(classes, groups, SHARES, seed=0, first=first)
    assert roles[1] == roles[2] == roles[3] == FOCAL
    assert roles[0] != FOCAL


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> MixConfig:
    root = tmp_path_factory.mktemp("sources")
    write_recordings(root / "birds", num_classes=3, num_recordings=8)
    write_backgrounds(root / "noise", number=5)
    return MixConfig(recordings=str(root / "birds"), backgrounds=[str(root / "noise")])


def test_recordings_and_copies_of_them_never_cross(config: MixConfig) -> None:
    root = Path(config.recordings)
    table = pl.read_csv(root / "train.csv")
    (root / "train_audio" / "bird0" / "copy.ogg").write_bytes(
        (root / "train_audio" / table["filename"][0]).read_bytes()
    )
    copy = table.head(1).with_columns(filename=pl.lit("bird0/copy.ogg"), author=pl.lit("another"))
    pl.concat([table, copy]).write_csv(root / "train.csv")
    split, _ = split_recordings(config)
    role = dict(split.select("filename", "role").iter_rows())
    assert role["bird0/copy.ogg"] == role["bird0/XC0.ogg"]
    one_author = split.group_by("primary_label", pl.col("filename").str.extract(r"(\d)\.ogg"))
    assert len(one_author.agg("role")) > 8
    for number in range(0, 8, 2):  # two recordings of an author
        assert role[f"bird1/XC{100 + number}.ogg"] == role[f"bird1/XC{101 + number}.ogg"]
    several = split.filter(pl.col("secondary_labels").list.len() > 0)
    assert set(several["role"]) == {FOCAL}
    assert split.filter(pl.col("role") != FOCAL)["group"].is_in(several["group"]).sum() == 0


def test_backgrounds_never_cross_and_are_no_recordings(config: MixConfig, tmp_path: Path) -> None:
    split, _ = split_recordings(config)
    found = split_backgrounds(config, split)
    assert sorted(found["role"].unique()) == sorted([POOL, LABELLED, TEST])
    assert found["name"].is_unique().all()
    mixed = tmp_path / "noise"
    write_backgrounds(mixed, number=3)
    (mixed / "bird.ogg").write_bytes(Path(split["path"][0]).read_bytes())
    other = MixConfig(recordings=config.recordings, backgrounds=[str(mixed)])
    with pytest.raises(ConfigError, match=r"bird\.ogg is a background and, byte for byte"):
        split_backgrounds(other, split)
    few = MixConfig(recordings=config.recordings, backgrounds=[str(write_backgrounds(
        tmp_path / "few", number=2))])  # fmt: skip
    with pytest.raises(ConfigError, match="2 groups of backgrounds are too few for"):
        split_backgrounds(few, split)


def test_classes_without_groups_for_focal_and_test_are_left_out(tmp_path: Path) -> None:
    root = write_recordings(tmp_path / "birds", num_classes=2, num_recordings=7)
    table = pl.read_csv(root / "train.csv")
    one = pl.when(pl.col("primary_label") == "bird1").then(pl.lit("one")).otherwise("author")
    table.with_columns(author=one).write_csv(root / "train.csv")
    config = MixConfig(recordings=str(root), backgrounds=["noise"])
    split, _ = split_recordings(config)
    assert set(split["primary_label"]) == {"bird0"}
    table.with_columns(author=pl.Series(["a", "a", *"bbbbb"] * 2)).write_csv(root / "train.csv")
    with pytest.raises(ConfigError, match=r"mix\.pool=120: 4 groups .* leave none for it"):
        split_recordings(config)
    with pytest.raises(ConfigError, match=r"none of 0 classes with 9 recordings or more"):
        split_recordings(MixConfig(recordings=str(root), min_recordings=9))
