"""Enough is asked for ahead that a reader need not wait, and no more than allowed."""

import pytest

from storage.read.pace import LOWEST_BYTES, Pace

MIB = 2**20


def run(
    pace: Pace, *, latency_s: float, line_bytes_s: float, reader_bytes_s: float, batches: int
) -> float:
    """Reads batches of 1 MiB as a reader, a line and a latency allow; bytes/s of the last ones."""
    now_s, rate = 0.0, 0.0
    for _ in range(batches):
        rate = min(reader_bytes_s, line_bytes_s, pace.ahead_bytes / latency_s)
        now_s += MIB / rate
        pace.note_answer(latency_s)
        pace.note_read(MIB, now_s)
    return rate


def test_nothing_measured_asks_for_the_least() -> None:
    assert Pace(highest_bytes=100 * MIB).ahead_bytes == LOWEST_BYTES
    assert Pace(highest_bytes=MIB).ahead_bytes == MIB


@pytest.mark.parametrize("latency_s", [0.001, 0.03, 0.3, 2.0])
@pytest.mark.parametrize("reader_mib_s", [1, 40, 200])
def test_a_reader_soon_goes_at_its_own_speed(latency_s: float, reader_mib_s: int) -> None:
    pace = Pace(highest_bytes=2000 * MIB)
    reader_bytes_s = reader_mib_s * MIB
    rate = run(
        pace,
        latency_s=latency_s,
        line_bytes_s=1e12,
        reader_bytes_s=reader_bytes_s,
        batches=200,
    )
    assert rate == reader_bytes_s
    needed = reader_bytes_s * latency_s
    assert needed <= pace.ahead_bytes <= max(LOWEST_BYTES, 2.1 * needed)


def test_a_slow_line_is_not_asked_for_ever_more() -> None:
    pace = Pace(highest_bytes=2000 * MIB)
    run(pace, latency_s=0.1, line_bytes_s=20 * MIB, reader_bytes_s=1e12, batches=300)
    assert pace.ahead_bytes == LOWEST_BYTES  # 2 MiB are on the line


def test_the_limit_holds_whatever_was_measured() -> None:
    pace = Pace(highest_bytes=30 * MIB)
    run(pace, latency_s=5.0, line_bytes_s=1e12, reader_bytes_s=1e9, batches=50)
    assert pace.ahead_bytes == 30 * MIB
