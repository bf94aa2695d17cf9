"""Objects answer alike in a folder, in a bucket and, to readers, on a web server.

Here too: what each failure of an object store says.
"""

import pickle
import random
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from storage.errors import (
    AccessError,
    ConfigError,
    ObjectExistsError,
    ObjectMissingError,
    RemoteError,
    StoreError,
    UnreachableError,
    UnsupportedError,
)
from storage.format.catalog import LISTING, Catalog
from storage.objects.bucket import RemoteObjects
from storage.objects.client import RemoteConfig
from storage.objects.failures import explain
from storage.objects.local import LocalObjects
from storage.objects.open import open_objects
from storage.objects.protocol import Objects
from tests.s3_server import S3
from tests.static_server import StaticServer
from tools.testbed.fault_proxy import FLIPPED, RESET, TRUNCATED, FaultProxy, Faults

SECRETS = ("local-s3-secret-3b9f", "hunter2", "wrong-secret")


@pytest.fixture(params=["folder", "bucket"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "folder":
        return open_objects(str(tmp_path / "store"))
    s3: S3 = request.getfixturevalue("s3")
    return open_objects(s3.url("birds/store"))


def test_urls_and_paths_open_their_kind(s3: S3, tmp_path: Path) -> None:
    assert isinstance(open_objects(s3.url("x")), RemoteObjects)
    assert isinstance(open_objects(str(tmp_path)), LocalObjects)
    assert isinstance(open_objects(f"file://{tmp_path}"), LocalObjects)


def test_what_is_put_is_there(objects: Objects) -> None:
    objects.put("index/a", b"0123456789")
    assert objects.get("index/a") == b"0123456789"
    assert objects.get_many(["index/a", "index/a"]) == [b"0123456789"] * 2
    assert objects.tail("index/a", 3) == b"789"
    assert objects.size("index/a") == 10
    assert objects.digest("index/a").startswith("84d89877f0d4041efb6bf91a16f0248f2fd573e6")
    with objects.as_file("index/a") as path:
        assert path.read_bytes() == b"0123456789"
    objects.put("index/a", b"else")
    assert objects.get("index/a") == b"else"


def test_what_is_missing_is_missing(objects: Objects) -> None:
    assert not objects.exists("index/a")
    assert objects.sizes(["index/a"]) == {}
    assert objects.list("index") == []
    assert objects.walk() == {}
    assert list(objects.entries()) == []
    objects.delete("index/a")
    objects.drop_folder("index")
    objects.clear_temporary()
    with pytest.raises(ObjectMissingError, match="index/a is missing"):
        objects.size("index/a")
    for read in (lambda: objects.get("index/a"), lambda: objects.tail("index/a", 1)):
        with pytest.raises(StoreError, match="index/a"):
            read()


def test_listing_keeps_to_its_folder(objects: Objects) -> None:
    names = ("a", "index/part-1", "index/part-0", "index/deeper/x", "indexes/y", "slices/c/0/0/0")
    for name in names:
        objects.put(name, name.encode())
    assert objects.list("index") == ["index/part-0", "index/part-1"]
    assert list(objects.walk("index")) == ["index/deeper/x", "index/part-0", "index/part-1"]
    assert objects.walk() == {name: len(name) for name in sorted(names)}
    assert list(objects.entries()) == ["a", "index", "indexes", "slices"]
    assert objects.sizes(["a", "b"]) == {"a": 1}


def test_names_may_hold_what_file_names_hold(objects: Objects) -> None:
    for name in ("ü %25#?+&=.npy", "a b/c", "x~!$'(),;@[]"):
        objects.put_new(name, name.encode())
        assert objects.get(name) == name.encode()
        assert name in objects.walk()


def test_put_new_takes_equal_bytes_and_no_others(objects: Objects) -> None:
    data = np.random.default_rng(0).bytes(100_000)
    objects.put_new("c/0", data)
    objects.put_new("c/0", data)
    for other in (b"other", data[:-1] + b"!"):
        with pytest.raises(ObjectExistsError, match="c/0 exists with other bytes"):
            objects.put_new("c/0", other)
    assert objects.get("c/0") == data


def test_many_may_create_one_object_at_once(objects: Objects) -> None:
    """With equal bytes all succeed; with others somebody does, and the object is whole."""
    won: dict[str, list[int]] = {"same": [], "other": []}

    def create(name: str, value: int) -> None:
        with suppress(ObjectExistsError):
            objects.put_new(name, bytes([value]) * 50_000)
            won[name].append(value)

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(create, ["same", "other"] * 6, [7, 0, 7, 1, 7, 2, 7, 3, 7, 4, 7, 5]))
    assert won["same"] == [7] * 6
    assert objects.get("other")[0] in won["other"]
    assert objects.get("other") == objects.get("other")[:1] * 50_000


def test_servers_without_conditional_puts_are_written_to_as_well(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    objects = open_objects(s3.url("x"))
    objects.put_new("a", b"1")
    objects.put_new("a", b"1")
    with pytest.raises(ObjectExistsError, match="exists with other bytes"):
        objects.put_new("a", b"2")


def test_a_large_object_is_put_whole(objects: Objects) -> None:
    data = np.random.default_rng(1).bytes(40_000_000)
    objects.put("large", data)
    assert objects.size("large") == len(data)
    assert objects.get("large") == data
    objects.put_new("large", data)


def test_a_full_disk_here_is_not_taken_for_a_bad_line(s3: S3) -> None:
    objects = open_objects(s3.url("x"))
    objects.put("a", b"1")
    assert isinstance(objects, RemoteObjects)
    with pytest.raises(StoreError, match=r"x/a cannot be copied here \(No space left on device\)"):
        objects.remote.call("a", lambda _: Path("/dev/full").write_bytes(bytes(10)))


def test_a_bucket_in_another_process_is_opened_anew(s3: S3) -> None:
    objects = open_objects(s3.url("x"))
    objects.put("a", b"1")
    packed = pickle.dumps(objects)
    assert not any(secret.encode() in packed for secret in SECRETS)
    assert pickle.loads(packed).get("a") == b"1"


def test_a_whole_bucket_may_be_the_folder(s3: S3) -> None:
    objects = open_objects(f"s3://{s3.bucket}/")
    objects.put("a/b", b"1")
    assert objects.walk() == {"a/b": 1}
    assert list(objects.entries()) == ["a"]


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Path, Objects]]:
    with StaticServer(tmp_path) as server:
        yield tmp_path / "a b", open_objects(f"{server.endpoint}/a%20b", LISTING)


def test_a_web_server_shows_what_the_catalogue_lists(web: tuple[Path, Objects]) -> None:
    folder, objects = web
    local = LocalObjects(str(folder))
    for name in ("index/part-0", "melbank.json", "unlisted"):
        local.put(name, name.encode() * 100)
    with pytest.raises(StoreError, match=r"cannot be listed and has no catalog\.json"):
        objects.list("index")
    catalog = Catalog()
    for name in ("index/part-0", "melbank.json"):
        catalog.add(name, local.get(name))
    catalog.put(local)
    assert objects.list("index") == ["index/part-0"]
    assert list(objects.entries()) == ["index", "melbank.json"]
    assert objects.get("index/part-0") == local.get("index/part-0")
    assert objects.tail("unlisted", 7) == local.tail("unlisted", 7)
    assert objects.size("unlisted") == 800
    assert not objects.exists("none")
    with pytest.raises(StoreError, match=r"can only be read: http:// takes no objects\. Write to"):
        objects.put("a", b"1")


FAILURES = {
    "wrong secret": (
        {"AWS_SECRET_ACCESS_KEY": "wrong-secret"},
        AccessError,
        "{url}/a: {endpoint} does not know these credentials (403 SignatureDoesNotMatch): check "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    "wrong key": (
        {"AWS_ACCESS_KEY_ID": "somebody"},
        AccessError,
        "{url}/a: {endpoint} does not know these credentials (403 SignatureDoesNotMatch): check "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    "no credentials": (
        {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
        ConfigError,
        "s3://{bucket} at {endpoint}: no credentials; set the environment variables "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public "
        "bucket",
    ),
    "half of the credentials": (
        {"AWS_SECRET_ACCESS_KEY": ""},
        ConfigError,
        "{url} cannot be opened (Missing SecretAccessKey): check the environment variables for it",
    ),
    "wrong region": (
        {"AWS_REGION": "eu-west-1"},
        RemoteError,
        "{url}/a: {endpoint} expects another region: set AWS_REGION or remote.region to us-east-1",
    ),
    "wrong endpoint": (
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
        UnreachableError,
        "{url}/a: nothing answers at http://127.0.0.1:9 (connection refused): start it, or check "
        "AWS_ENDPOINT_URL or remote.endpoint_url and the network",
    ),
    "unknown host": (
        {"AWS_ENDPOINT_URL": "https://nowhere.invalid"},
        UnreachableError,
        "{url}/a: the name of https://nowhere.invalid is not known: check AWS_ENDPOINT_URL or "
        "remote.endpoint_url and the network",
    ),
    "not encrypted": (
        {"AWS_ENDPOINT_URL": "http://192.0.2.1:9000"},
        ConfigError,
        "http://192.0.2.1:9000 is not encrypted: give its https:// URL, or remote.allow_http=true "
        "where the network between is trusted",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_each_failure_says_in_a_line_what_to_check(
    s3: S3, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables, kind, message = FAILURES[name]
    for variable, value in variables.items():
        if value:
            monkeypatch.setenv(variable, value)
        else:
            monkeypatch.delenv(variable)
    expected = message.format(url=s3.url("x"), endpoint=s3.endpoint, bucket=s3.bucket)
    for call in (
        lambda: open_objects(s3.url("x")).exists("a"),
        lambda: open_objects(s3.url("x")).get("a"),
        lambda: open_objects(s3.url("x")).put("a", b"1"),
        lambda: open_objects(s3.url("x")).put_new("a", b"1"),
    ):
        with pytest.raises(kind) as caught:
            call()
        assert str(caught.value) == expected
        assert not any(secret in str(caught.value) for secret in SECRETS)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_missing_bucket_is_told_from_a_missing_object(s3: S3) -> None:
    for call in (
        lambda: open_objects("s3://no-such-bucket/x").exists("a"),
        lambda: open_objects("s3://no-such-bucket/x").list("a"),
        lambda: open_objects("s3://no-such-bucket/x").put("a", b"1"),
    ):
        with pytest.raises(
            RemoteError, match=r"there is no bucket no-such-bucket at http.*make it"
        ):
            call()
    assert not open_objects(s3.url("x")).exists("a")


EXPLAINED = {
    "expired": (403, "ExpiredToken", AccessError, "expired .403 ExpiredToken.: get new ones"),
    "denied": (403, "AccessDenied", AccessError, "access denied by .* policy of bucket b lets"),
    "clock": (403, "RequestTimeTooSkewed", AccessError, "clock differs"),
    "unknown key": (403, "InvalidAccessKeyId", AccessError, "does not know these credentials"),
    "elsewhere": (301, "PermanentRedirect", RemoteError, "another region"),
    "busy": (503, "SlowDown", UnreachableError, "answers 503 SlowDown again and again"),
    "gone": (404, "NoSuchKey", ObjectMissingError, "is missing"),
    "not known": (501, "NotImplemented", UnsupportedError, "knows no such request"),
    "odd": (400, "InvalidRequest", RemoteError, "refuses the request with 400 InvalidRequest"),
}


@pytest.mark.parametrize("name", EXPLAINED)
def test_answers_that_our_server_never_gives_are_explained_too(name: str) -> None:
    status, code, kind, words = EXPLAINED[name]
    text = (
        f"Generic S3 error: Server returned non-2xx status code: {status} Some: <Error><Code>{code}"
        "</Code><AWSAccessKeyId>hunter2</AWSAccessKeyId></Error>"
    )
    error = explain(OSError(text), "s3://b/x/a", "AWS us-east-1")
    assert type(error) is kind
    assert re.search(words, str(error))
    assert "hunter2" not in str(error)
    assert "\n" not in str(error)


def test_bytes_that_change_or_break_off_on_the_way_are_read_again(
    s3: S3, proxy: FaultProxy
) -> None:
    data = {f"index/{no:02d}": np.random.default_rng(no).bytes(20_000) for no in range(20)}
    proxy.faults = Faults(rate=0.3, kinds=(RESET, TRUNCATED, FLIPPED))
    objects = open_objects(s3.url("x"))
    for name, content in data.items():
        objects.put_new(name, content)
    for name, content in data.items():
        assert objects.get(name) == content
    assert objects.get_many(list(data)) == list(data.values())
    assert list(objects.walk("index")) == list(data)
    assert all(proxy.counts.faults[kind] for kind in (RESET, TRUNCATED, FLIPPED))


def test_a_server_that_comes_back_in_time_is_waited_for(s3: S3) -> None:
    objects = open_objects(s3.url("x"))
    objects.put("a", b"1")
    s3.kill()
    timer = threading.Timer(3.0, s3.restart)
    timer.start()
    assert objects.get("a") == b"1"
    timer.join()


def test_patience_ends(s3: S3) -> None:
    objects = open_objects(s3.url("x"), remote=RemoteConfig(timeout_s=2))
    objects.put("a", b"1")
    s3.kill()
    with pytest.raises(UnreachableError, match="nothing answers at"):
        objects.get("a")


def test_an_upload_in_pieces_is_known_by_its_etag(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    data = random.Random(1).randbytes(33_000_001)  # three pieces of 16 MB
    objects = open_objects(s3.url("large"))
    objects.put("object", data)
    assert not objects.holds("object", data[:-1] + b"x")
    assert not objects.holds("object", data[:-1])
    monkeypatch.setattr(objects, "get", None)
    assert objects.holds("object", data)
