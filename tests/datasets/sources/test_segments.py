"""Labels of segments become hard targets of the slices that they cover."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.folds import FoldConfig
from datasets.labels import LabelConfig
from datasets.sources.mix import MixedSource, SourceMix, SourceSpec
from datasets.sources.segments import cover, slice_ends
from storage.errors import ConfigError
from tests.fakes import FakeSource, write_fake_source
from training.config import TrainingConfig
from training.split import Split, split_recordings

STEP_S = 0.5  # length of a slice, and from one to the next
SEGMENTS = pl.DataFrame(
    {"start_s": [0.0, 5.0, 11.0, None], "end_s": [5.0, 10.0, 11.4, None]},
    schema={"start_s": pl.Float64, "end_s": pl.Float64},
)


def covered(
    starts: list[float], segments: pl.DataFrame, labels: list[int], negative: bool = False
) -> list[tuple[int, ...] | None]:
    start_K = np.asarray(starts)
    return cover(start_K, start_K + 5.0, segments, labels, negative)


def test_a_segment_covers_a_slice_with_half_of_the_shorter_of_the_two() -> None:
    segments = SEGMENTS[:3]
    labels = [0, -1, 2]
    assert covered([0.0], segments, labels) == [(0,)]
    assert covered([2.5], segments, labels) == [(0,)]  # half of either: the second has no label
    assert covered([2.6], segments, labels) == [()]
    assert covered([6.3], segments, labels) == [(2,)]  # 0.3 s of the 0.4 s of the third
    assert covered([6.1], segments, labels) == [()]
    assert covered([11.3], segments, labels) == [None]  # 0.1 s of the third
    assert covered([20.0], segments, labels) == [None]


def test_negative_slices_are_those_that_no_label_touches() -> None:
    segments, labels = SEGMENTS[:3], [0, -1, 2]
    assert covered([11.3, 20.0], segments, labels, negative=True) == [None, ()]


def test_a_row_without_times_is_of_the_whole_recording() -> None:
    assert covered([0.0, 50.0], SEGMENTS[3:], [1]) == [(1,), (1,)]


def test_a_moment_is_in_the_slice_around_it() -> None:
    moment = pl.DataFrame({"start_s": [5.0], "end_s": [5.0]})
    assert covered([0.0, 5.0], moment, [1]) == [None, (1,)]


def test_the_last_slice_ends_with_its_recording() -> None:
    assert slice_ends(np.asarray([0.0, 5.0, 10.0]), 5.0, 11.0).tolist() == [5, 10, 11]
    assert slice_ends(np.asarray([0.0, 5.0]), 5.0, None).tolist() == [5, 10]


SEGMENT = st.tuples(st.integers(0, 300), st.integers(1, 120), st.integers(-1, 2))


@settings(max_examples=20, deadline=None)
@given(st.lists(SEGMENT, min_size=1, max_size=8), st.booleans())
def test_targets_are_those_of_a_plain_loop_over_tenths(
    drawn: list[tuple[int, int, int]], negative: bool
) -> None:
    starts = list(range(0, 300, 25))
    expected: list[tuple[int, ...] | None] = []
    for start in starts:
        inside = set(range(start, start + 50))
        any_covers, touched, found = False, False, set()
        for begin, length, label in drawn:
            shared = len(inside & set(range(begin, begin + length)))
            touched |= shared > 0 and label >= 0
            if shared > 0 and 2 * shared >= min(50, length):
                any_covers = True
                found |= {label} - {-1}
        is_target = any_covers or (negative and not touched)
        expected.append(tuple(sorted(found)) if is_target else None)
    table = pl.DataFrame(
        {
            "start_s": [begin / 10 for begin, _, _ in drawn],
            "end_s": [(begin + length) / 10 for begin, length, _ in drawn],
        }
    )
    labels = [label for _, _, label in drawn]
    assert covered([start / 10 for start in starts], table, labels, negative) == expected


def soundscapes(folder: Path) -> FakeSource:
    """Two soundscapes of 6 and 4 slices without labels."""
    source = write_fake_source(folder / "scapes.raw", [6, 4], seed=2)
    names = pl.Series("recording_id", ["BC_S01", "BC_S02"])
    index = source.index["recording_id"].replace_strict(
        source.table["recording_id"].to_list(), names.to_list()
    )
    table = source.table.with_columns(
        names,
        pl.Series("filename", ["sub/BC_S01.ogg", "sub/BC_S02.ogg"]),
        pl.lit(None, pl.String).alias("primary_label"),
        pl.lit([], pl.List(pl.String)).alias("secondary_labels"),
        duration_s=pl.col("num_slices") * STEP_S,
    )
    times = source.index["slice_no"].cast(pl.Float64) * STEP_S
    return replace(source, table=table, index=source.index.with_columns(index, start_s=times))


@pytest.fixture
def mix(tmp_path: Path) -> SourceMix:
    focal = write_fake_source(tmp_path / "focal.raw", [3] * 12, seed=1)
    return SourceMix(
        [
            MixedSource(name="focal", source=focal),
            MixedSource(name="scapes", source=soundscapes(tmp_path)),
        ]
    )


def split(mix: SourceMix, path: Path, classes: tuple[str, ...] = (), **options: str) -> Split:
    spec = SourceSpec(store="s", segments=str(path), **options)
    config = TrainingConfig(
        sources={"focal": SourceSpec(store="f"), "scapes": spec},
        labels=LabelConfig(classes=list(classes)),
        folds=FoldConfig(num_folds=2),
    )
    return split_recordings(mix, config)


def targets(found: Split, mix: SourceMix) -> dict[tuple[str, int], str]:
    """Labels of the slices of the soundscapes that may be learned from."""
    assert found.eligible is not None
    index = mix.slice_index().filter(pl.col("row").is_in(found.eligible.tolist()))
    index = index.filter(pl.col("recording_id").str.starts_with("BC_"))
    rows = index["row"].to_numpy()
    recording_no = np.searchsorted(found.recordings["first_row"].to_numpy(), rows, "right") - 1
    values = found.targets.of(rows, recording_no)
    assert set(np.unique(values).tolist()) <= {0.0, 1.0}
    labels = ["".join(np.asarray(found.labels.names)[row > 0]) for row in values]
    return dict(
        zip(zip(index["recording_id"], index["slice_no"], strict=True), labels, strict=True)
    )


CSV = """filename,start,end,labels
BC_S01.ogg,00:00:00,00:00:00.5,a
BC_S01.ogg,00:00:00,00:00:00.5,a
BC_S01.ogg,0.5,1,a;c;never heard of
BC_S01.ogg,1,1.5,
elsewhere.ogg,0,5,b
"""


def test_slices_have_the_labels_of_a_csv_and_others_are_dropped(
    mix: SourceMix, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "labels.csv").write_text(CSV)
    caplog.set_level("INFO", logger="datasets")
    found = split(mix, tmp_path / "labels.csv")
    assert found.labels.names == ("a", "b", "c")
    assert targets(found, mix) == {("BC_S01", 0): "a", ("BC_S01", 1): "ac", ("BC_S01", 2): ""}
    assert "1 of 2 files are no recordings of the source: elsewhere.ogg" in caplog.text
    assert "and no class unless labels.classes names them: never heard of (1)" in caplog.text
    scored = found.recordings.filter(pl.Series(found.scored_R))
    assert set(scored["source"]) == {"focal"}  # a soundscape is learned from, never scored
    used = found.recordings.filter(pl.Series(found.used_R))
    assert used.filter(pl.col("source") == "scapes")["recording_id"].to_list() == ["BC_S01"]


def test_missing_segments_may_be_negative(mix: SourceMix, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(CSV)
    found = split(mix, tmp_path / "labels.csv", segments_missing="negative")
    known = {("BC_S01", 0): "a", ("BC_S01", 1): "ac"}
    assert targets(found, mix) == {("BC_S01", number): "" for number in range(6)} | known


def test_named_classes_take_labels_that_no_recording_has(mix: SourceMix, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(CSV)
    found = split(mix, tmp_path / "labels.csv", classes=("a", "b", "c", "never heard of"))
    assert targets(found, mix)["BC_S01", 1] == "acnever heard of"


def test_raven_tables_say_where_something_calls(mix: SourceMix, tmp_path: Path) -> None:
    header = "Selection\tBegin Time (s)\tEnd Time (s)\tSpecies\n"
    folder = tmp_path / "raven" / "sub"
    folder.mkdir(parents=True)
    (folder / "BC_S01.Table.1.selections.txt").write_text(f"{header}1\t0.6\t0.8\tb\n")
    (folder / "BC_S02.selections.txt").write_text(header)
    found = split(mix, tmp_path / "raven")
    whole = {("BC_S02", number): "" for number in range(4)}
    assert targets(found, mix) == {("BC_S01", 1): "b"} | whole
    found = split(mix, tmp_path / "raven", segments_missing="negative")
    assert targets(found, mix)["BC_S01", 0] == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("filename,start,end,labels\nx.ogg,0,5,a\n", "none of its 1 files, such as x.ogg"),
        ("filename,start,end,labels\nBC_S01.ogg,90,95,a\n", "cover no slice"),
        ("filename,start,end,labels\nBC_S01.ogg,5,0,a\n", "row 2 ends before it begins"),
        ("filename,start,end,labels\nBC_S01.ogg,soon,5,a\n", "'soon' is no time in seconds"),
        ("filename,start,end,labels\n", "has no segments"),
        ("filename,start,labels\nBC_S01.ogg,0,a\n", "needs columns file and labels"),
    ],
)
def test_what_is_no_table_of_segments_is_refused(
    mix: SourceMix, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ConfigError, match=rf"sources\.scapes\.segments.*{message}"):
        split(mix, tmp_path / "labels.csv")


def test_a_source_has_one_kind_of_targets() -> None:
    with pytest.raises(ConfigError, match="targets and segments are given: not both"):
        SourceSpec(store="x", targets="a.parquet", segments="b.csv")
    with pytest.raises(ConfigError, match="no_call and segments are given: not both"):
        SourceSpec(store="x", no_call=True, segments="b.csv")
    with pytest.raises(ConfigError, match="segments_missing=refuse is none of drop, negative"):
        SourceSpec(store="x", segments="b.csv", segments_missing="refuse")
