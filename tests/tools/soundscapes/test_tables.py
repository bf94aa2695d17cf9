"""Labels of windows against the truth of the calls."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.soundscapes.render import HeardCall
from tools.soundscapes.schedule import PlannedSoundscape
from tools.soundscapes.tables import LEAST_S, segment_table, window_labels


def heard(file: str, label: str, start_s: float, end_s: float) -> HeardCall:
    return HeardCall(
        role="test", file=file, start_s=start_s, end_s=end_s, label=label, snr_db=0, echo_s=0,
        recording="x",
    )  # fmt: skip


def planned(name: str, duration_s: float) -> PlannedSoundscape:
    return PlannedSoundscape(
        number=0, role="test", name=name, duration_s=duration_s, seed=0, noise_dbfs=0,
        backgrounds=(), calls=(),
    )  # fmt: skip


def test_a_window_has_the_calls_of_which_enough_is_in_it() -> None:
    calls = [
        heard("a", "wren", 1.0, 3.0),
        heard("a", "robin", 4.9, 7.0),  # 0.1 s in the first window: too little
        heard("a", "tit", 9.9, 10.2),  # of 0.3 s, 0.2 s are in the third window, 0.1 s before
        heard("b", "tit", 0.0, 12.0),
    ]
    table = window_labels([planned("a", 12.0), planned("b", 12.0)], calls, 5.0)
    assert table.rows() == [
        ("a", 0.0, 5.0, "wren"),
        ("a", 5.0, 10.0, "robin"),
        ("a", 10.0, 12.0, "tit"),
        ("b", 0.0, 5.0, "tit"),
        ("b", 5.0, 10.0, "tit"),
        ("b", 10.0, 12.0, "tit"),
    ]


CALL = st.tuples(st.sampled_from("abc"), st.floats(0, 59), st.floats(0.1, 12))


@settings(max_examples=20, deadline=None)
@given(st.lists(CALL, max_size=12))
def test_labels_are_those_that_a_scan_of_milliseconds_finds(
    drawn: list[tuple[str, float, float]],
) -> None:
    calls = [
        heard("s", label, round(start, 3), round(min(60.0, start + length), 3))
        for label, start, length in drawn
    ]
    found = window_labels([planned("s", 60.0)], calls, 5.0)["labels"].to_list()
    wanted: list[set[str]] = [set() for _ in range(12)]
    for call in calls:
        begin, end = round(1000 * call.start_s), round(1000 * call.end_s)
        times = np.bincount(np.arange(begin, end) // 5000, minlength=12)
        for window in np.flatnonzero(times >= min(1000 * LEAST_S, (end - begin) / 2)):
            wanted[window].add(call.label)
    assert [set(filter(None, labels.split(";"))) for labels in found] == wanted
    heard_at_all = {label for labels in wanted for label in labels}
    assert heard_at_all == {call.label for call in calls}  # no call is lost


def test_segments_have_the_form_of_birdclef_2026() -> None:
    windows = window_labels([planned("s.ogg", 3605.5)], [heard("s.ogg", "wren", 1, 2)], 5.0)
    table = segment_table(windows)
    assert table.row(0) == ("s.ogg", "00:00:00", "00:00:05", "wren")
    assert table.row(-1) == ("s.ogg", "01:00:05", "01:00:05.5", "")
