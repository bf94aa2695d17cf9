"""The proxy in front of the S3 server: what it injects is what a bare client sees."""

import http.client
import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import obstore
import pytest

from storage.errors import ConfigError
from tests.s3_server import S3
from tests.static_server import StaticServer
from tools.testbed.fault_proxy import (
    BUSY,
    ERROR,
    FLIPPED,
    KINDS,
    RESET,
    STALLED,
    TRUNCATED,
    FaultProxy,
    Faults,
)
from tools.testbed.s3_server import Access, Answer, open_bucket, request

BODY = bytes(range(256)) * 4000  # more than one block


def get(s3: S3, faults: Faults, *, headers: dict[str, str] | None = None) -> Answer:
    """GETs an object through a proxy with these faults."""
    path = f"/{s3.bucket}/object"
    assert request(s3.access, "PUT", path, body=BODY).status == 200
    with FaultProxy(s3.endpoint, faults, seed=0) as proxy:
        access = replace(s3.access, endpoint=proxy.endpoint)
        return request(access, "GET", path, headers=headers)


def always(kind: str, **more: float) -> Faults:
    return Faults(rate=1.0, kinds=(kind,), **more)


def test_without_faults_all_goes_through_and_is_counted(s3: S3) -> None:
    path = f"/{s3.bucket}/object"
    with FaultProxy(s3.endpoint, Faults(), seed=0) as proxy:
        access = replace(s3.access, endpoint=proxy.endpoint)
        assert request(access, "PUT", path, body=BODY).status == 200
        assert request(access, "GET", path).body == BODY
        assert request(access, "GET", path, headers={"Range": "bytes=9-18"}).body == BODY[9:19]
        assert request(access, "HEAD", path).headers["content-length"] == str(len(BODY))
        assert len(obstore.list(open_bucket(access, s3.bucket)).collect()) == 1
        wrong = replace(access, secret_key="wrong")
        assert request(wrong, "GET", path).status == 403
        counts = proxy.reset_counts()
    assert counts.requests == {"PUT": 1, "GET": 3, "HEAD": 1, "LIST": 1}
    assert len(BODY) + 10 < counts.sent_bytes["GET"] < len(BODY) + 9999  # and what 403 says
    assert not counts.faults
    assert not proxy.counts.requests


def test_500_and_503_with_retry_after(s3: S3) -> None:
    assert get(s3, always(ERROR)).status == 500
    answer = get(s3, always(BUSY))
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")


def test_reset(s3: S3) -> None:
    with pytest.raises(ConnectionResetError):
        get(s3, always(RESET))


def test_truncated(s3: S3) -> None:
    with pytest.raises(http.client.IncompleteRead) as caught:
        get(s3, always(TRUNCATED))
    assert caught.value.partial == BODY[: len(BODY) // 2]


def test_stalled(s3: S3) -> None:
    begun = time.monotonic()
    assert get(s3, always(STALLED, stall_s=0.5)).body == BODY
    assert time.monotonic() - begun >= 0.5


def test_flipped_is_one_bit_of_the_body(s3: S3) -> None:
    body = get(s3, always(FLIPPED)).body
    assert len(body) == len(BODY)
    differences = [a ^ b for a, b in zip(body, BODY, strict=True) if a != b]
    assert len(differences) == 1
    assert differences[0].bit_count() == 1
    part = get(s3, always(FLIPPED), headers={"Range": "bytes=5-5"}).body
    assert (part[0] ^ BODY[5]).bit_count() == 1


def test_latency_is_added_to_each_request(s3: S3) -> None:
    begun = time.monotonic()
    assert get(s3, Faults(latency_s=0.3)).status == 200
    assert time.monotonic() - begun >= 0.3


def test_a_reset_may_hide_that_a_put_was_done(s3: S3) -> None:
    """Half of the resets come before the server has heard, half after it has answered."""
    with FaultProxy(s3.endpoint, always(RESET), seed=0) as proxy:
        access = replace(s3.access, endpoint=proxy.endpoint)
        for number in range(20):
            with pytest.raises(ConnectionResetError):
                request(access, "PUT", f"/{s3.bucket}/{number}", body=b"x")
    there = [
        request(s3.access, "HEAD", f"/{s3.bucket}/{number}").status == 200 for number in range(20)
    ]
    assert 0 < sum(there) < 20


def test_the_seed_decides_who_is_hit_and_the_rate_holds(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")

    def statuses(seed: int) -> list[int]:
        faults = Faults(rate=0.2, kinds=(ERROR, BUSY))
        with FaultProxy(server.endpoint, faults, seed=seed) as proxy:
            access = Access(endpoint=proxy.endpoint)
            found = [request(access, "HEAD", "/file").status for _ in range(100)]
            assert sum(proxy.counts.faults.values()) == 100 - found.count(200)
        return found

    with StaticServer(tmp_path) as server:  # 300 requests take Swift 6 seconds
        first = statuses(1)
        assert first == statuses(1)
        assert first != statuses(2)
    assert 60 < first.count(200) < 95


def test_a_server_that_is_away_is_a_closed_connection(s3: S3) -> None:
    with FaultProxy(s3.endpoint, Faults(), seed=0) as proxy:
        s3.kill()
        access = replace(s3.access, endpoint=proxy.endpoint)
        with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
            request(access, "GET", f"/{s3.bucket}")
        s3.restart()
        assert request(access, "GET", f"/{s3.bucket}").status == 200


def test_kept_objects_are_given_as_the_server_gives_them(s3: S3) -> None:
    path = f"/{s3.bucket}/a b/object"
    assert request(s3.access, "PUT", path, body=BODY).status == 200
    whole = request(s3.access, "GET", path)
    with FaultProxy(s3.endpoint, Faults(), seed=0) as proxy:
        access = replace(s3.access, endpoint=proxy.endpoint)
        proxy.keep(path, whole.headers, memoryview(BODY))
        for spec in ("", "bytes=5-99", "bytes=-7", "bytes=1023990-", "bytes=1000000-9999999"):
            headers = {"Range": spec} if spec else {}
            mine = request(access, "GET", path, headers=headers)
            its = request(s3.access, "GET", path, headers=headers)
            assert (mine.status, mine.body) == (its.status, its.body)
            for name in ("etag", "content-length", "content-range", "last-modified"):
                assert mine.headers.get(name) == its.headers.get(name), name
        s3.kill()
        assert request(access, "GET", path).body == BODY
        assert told_counts(proxy)["requests"] == {"GET": 6}
    s3.restart()


def told_counts(proxy: FaultProxy) -> dict[str, dict[str, int]]:
    """Counts by HTTP. A client has its last bytes a moment before they are counted."""
    with urllib.request.urlopen(proxy.counts_url) as answer:
        counts: dict[str, dict[str, int]] = json.loads(answer.read())
    return counts


def test_counts_lose_nothing_when_many_go_at_once(s3: S3) -> None:
    path = f"/{s3.bucket}/object"
    assert request(s3.access, "PUT", path, body=BODY).status == 200
    with FaultProxy(s3.endpoint, Faults(), seed=0) as proxy, ThreadPoolExecutor(16) as threads:
        access = replace(s3.access, endpoint=proxy.endpoint)
        for _ in range(2):
            bodies = threads.map(lambda _: request(access, "GET", path).body, range(32))
            assert set(bodies) == {BODY}
            assert told_counts(proxy)["sent_bytes"] == {"GET": 32 * len(BODY)}
            proxy.reset_counts()
            proxy.keep(path, {}, memoryview(BODY))


def test_the_line_carries_no_more_than_it_may(s3: S3) -> None:
    begun = time.monotonic()
    assert get(s3, Faults(link_bytes_s=2 * len(BODY))).body == BODY
    assert 0.45 < time.monotonic() - begun < 2


@pytest.mark.parametrize("wrong", [{"rate": 1.5}, {"rate": 0.1, "kinds": ("fire",)}])
def test_refuses_what_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"rate=1\.5|fire is none of"):
        Faults(**wrong)  # type: ignore[arg-type]  # wrong on purpose
    assert len(set(KINDS)) == 6
