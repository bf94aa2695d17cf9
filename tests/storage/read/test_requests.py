"""The quicker of two answers, where an object is, requests within bounds.

Enough is asked for ahead that a reader need not wait, and no more than allowed.
"""

import asyncio
from collections.abc import Awaitable

import pytest

from storage.errors import ConfigError
from storage.objects.client import RemoteConfig
from storage.objects.retry import RetryPolicy
from storage.read import requests as fetch
from storage.read.pace import LOWEST_BYTES, Pace
from storage.read.requests import Fetcher, locate

MIB = 2**20


async def answer_after(wait_s: float, answer: str) -> str:
    await asyncio.sleep(wait_s)
    return answer


def ask(waits_s: list[float], fetcher: Fetcher) -> str:
    """Puts one question whose answers take so long, the first time, the second, ..."""
    remaining = iter(enumerate(waits_s))

    def put() -> Awaitable[str]:
        number, wait_s = next(remaining)
        return answer_after(wait_s, f"answer {number}")

    return asyncio.run(fetcher._ask(put))


@pytest.mark.parametrize(
    ("waits_s", "hedge_after_s", "answer", "asked"),
    [
        pytest.param([0.01], 60.0, "answer 0", 1, id="in time"),
        pytest.param([60.0, 0.01], 0.05, "answer 1", 2, id="a stall"),
        pytest.param([60.0, 60.0, 0.01], 0.05, "answer 2", 3, id="two stalls"),
        pytest.param([0.08, 60.0, 60.0], 0.05, "answer 0", 2, id="late, but first"),
    ],
)
def test_an_overdue_answer_is_asked_for_again_beside_the_first(
    monkeypatch: pytest.MonkeyPatch,
    waits_s: list[float],
    hedge_after_s: float,
    answer: str,
    asked: int,
) -> None:
    monkeypatch.setattr(fetch, "POLICY", RetryPolicy(hedge_after_s=hedge_after_s))
    fetcher = Fetcher(RemoteConfig())
    assert ask(waits_s, fetcher) == answer
    assert fetcher.num_requests == asked


def test_what_is_slow_for_all_is_not_overdue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "POLICY", RetryPolicy(hedge_after_s=0.01))
    fetcher = Fetcher(RemoteConfig())
    fetcher.pace.note_answer(10.0)
    assert ask([0.1], fetcher) == "answer 0"
    assert fetcher.num_requests == 1


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("s3://bucket/shard-000001.tar", "shard-000001.tar"),
        ("s3://bucket/a/b/slices.zarr/c/0/0/0", "a/b/slices.zarr/c/0/0/0"),
        ("s3://bucket/my%20birds/50%25.tar", "my birds/50%25.tar"),
        ("http://host:80//a//b.tar", "a/b.tar"),
    ],
)
def test_a_url_is_a_server_and_a_key(monkeypatch: pytest.MonkeyPatch, url: str, key: str) -> None:
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    remote, found = locate(url, RemoteConfig())
    assert found == key
    assert remote.prefix == ""
    assert locate(url, RemoteConfig())[0] is remote


@pytest.mark.parametrize(
    "keys", [{"mode": "fast"}, {"in_flight": 0}, {"prefetch_bytes": -1}, {"cache_size_gb": -1.0}]
)
def test_bounds_that_make_no_sense_are_refused(keys: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(keys))):
        RemoteConfig(**keys)


def run(
    pace: Pace, *, latency_s: float, reader_bytes_s: float = 1e12, line_bytes_s: float = 1e12
) -> float:
    """Reads batches of 1 MiB as a reader, a line and a latency allow; bytes/s of the last one."""
    now_s, rate = 0.0, 0.0
    for _ in range(300):
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
    assert run(pace, latency_s=latency_s, reader_bytes_s=reader_bytes_s) == reader_bytes_s
    needed = reader_bytes_s * latency_s
    assert needed <= pace.ahead_bytes <= max(LOWEST_BYTES, 2.1 * needed)


def test_a_slow_line_is_not_asked_for_ever_more() -> None:
    pace = Pace(highest_bytes=2000 * MIB)
    run(pace, latency_s=0.1, line_bytes_s=20 * MIB)
    assert pace.ahead_bytes == LOWEST_BYTES  # 2 MiB are on the line


def test_the_limit_holds_whatever_was_measured() -> None:
    pace = Pace(highest_bytes=30 * MIB)
    run(pace, latency_s=5.0, reader_bytes_s=1e9)
    assert pace.ahead_bytes == 30 * MIB
