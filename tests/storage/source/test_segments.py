"""Tables of labelled segments are recognised; metadata of whole recordings are not taken for it."""

import pytest

from storage.errors import ConfigError
from storage.source.segments import check_no_segments

FILES = ["a.ogg"] * 3 + ["b.ogg"]


@pytest.mark.parametrize(
    ("names", "starts", "ends"),
    [
        pytest.param(("start", "end"), ["00:00:00", "00:00:05"], ["00:00:05", "00:00:10"], id="h"),
        pytest.param(("start", "end"), ["0", "5"], ["5", "10"], id="s"),
        pytest.param(("start_s", "end_s"), ["0.0", "2.5"], ["5.0", "7.5"], id="float"),
        pytest.param(("Begin Time (s)", "End Time (s)"), ["0", "5"], ["1", "6"], id="raven"),
        pytest.param(("t_min", "T max (s)"), ["0", "5"], ["1", "6"], id="t"),
        pytest.param(("segment_start_s", "segment_end_s"), ["0", "5"], ["1", "6"], id="segment"),
        pytest.param(("onset", "offset"), ["0:00", "1:05"], ["0:03", "1:10"], id="minutes"),
    ],
)
def test_segments_are_refused_with_what_to_do(names, starts, ends) -> None:
    columns = {"filename": ["a.ogg", "a.ogg"], names[0]: starts, names[1]: ends}
    with pytest.raises(ConfigError, match=r"labels segments .*source.csv=none"):
        check_no_segments(columns, "labels.csv", "sounds")
    one_each = {**columns, "filename": ["a.ogg", "b.ogg"]}
    with pytest.raises(ConfigError, match="labels segments"):
        check_no_segments(one_each, "labels.csv", "sounds")


@pytest.mark.parametrize(
    ("names", "starts", "ends"),
    [
        pytest.param(("start_s", "other"), ["0", "1"], ["2", "3"], id="no end"),
        pytest.param(("start", "end"), ["2024-01-01", "x"], ["2024-01-02", "y"], id="dates"),
        pytest.param(("start", "end"), ["06:00:00", "7:00:00"], ["06:30:00", "7:30:00"], id="h"),
        pytest.param(("start", "end"), ["", "NA"], ["", ""], id="missing"),
        pytest.param(("start", "duration"), ["0", "1"], ["2", "3"], id="length"),
        pytest.param(("min", "max"), ["0", "1"], ["2", "3"], id="other bounds"),
    ],
)
def test_times_of_whole_recordings_are_columns_like_others(names, starts, ends) -> None:
    columns = {"filename": ["a.ogg", "b.ogg"], names[0]: starts, names[1]: ends}
    check_no_segments(columns, "train.csv", "sounds")


def test_lengths_make_segments_where_files_repeat() -> None:
    columns = {"filename": ["a.ogg"] * 2, "start": ["0", "5"], "duration": ["5", "5"]}
    with pytest.raises(ConfigError, match="start to duration"):
        check_no_segments(columns, "labels.csv", "sounds")
