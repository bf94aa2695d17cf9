"""The S3 server of the tests is a real one: signatures, ranges, conditions, uploads in parts."""

import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.paths import ROOT
from tests.s3_server import S3
from tools.testbed.s3_requests import Access, presigned, request

BODY = bytes(range(256)) * 400  # 102,400 bytes


def put(s3: S3, key: str, body: bytes = BODY) -> str:
    """Puts an object and gives its path."""
    path = f"/{s3.bucket}/{key}"
    assert request(s3.access, "PUT", path, body=body).status == 200
    return path


def test_gives_back_what_was_put(s3: S3) -> None:
    answer = request(s3.access, "GET", put(s3, "folder/object 1.bin"))
    assert (answer.status, answer.body) == (200, BODY)


def test_refuses_a_wrong_secret(s3: S3) -> None:
    path = put(s3, "object")
    wrong = replace(s3.access, secret_key="wrong")
    answer = request(wrong, "GET", path)
    assert answer.status == 403
    assert b"SignatureDoesNotMatch" in answer.body


def test_refuses_an_unknown_key_and_a_request_without_signature(s3: S3) -> None:
    path = put(s3, "object")
    assert request(replace(s3.access, access_key="melbank:nobody"), "GET", path).status == 403
    with pytest.raises(urllib.error.HTTPError, match="HTTP Error 4"):
        urllib.request.urlopen(f"{s3.endpoint}{path}")


def test_gives_ranges(s3: S3) -> None:
    path = put(s3, "object")
    answer = request(s3.access, "GET", path, headers={"Range": "bytes=1000-1999"})
    assert (answer.status, answer.body) == (206, BODY[1000:2000])
    assert request(s3.access, "GET", path, headers={"Range": "bytes=-16"}).body == BODY[-16:]
    assert request(s3.access, "GET", path, headers={"Range": "bytes=999999-"}).status == 416


def test_creates_only_where_nothing_is(s3: S3) -> None:
    path = put(s3, "object")
    answer = request(s3.access, "PUT", path, body=b"other", headers={"If-None-Match": "*"})
    assert answer.status == 412
    assert request(s3.access, "GET", path).body == BODY


def test_takes_uploads_in_parts(s3: S3) -> None:
    path, first = f"/{s3.bucket}/large", bytes(5 * 2**20)
    begun = request(s3.access, "POST", path, query={"uploads": ""})
    upload = next(
        node.text or ""
        for node in ElementTree.fromstring(begun.body).iter()
        if node.tag.endswith("UploadId")
    )
    tags = []
    for number, part in enumerate((first, BODY), start=1):
        query = {"partNumber": str(number), "uploadId": upload}
        answer = request(s3.access, "PUT", path, query=query, body=part)
        tags.append(answer.headers["etag"])
    assert request(s3.access, "GET", path).status == 404  # nothing is there until it is complete
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"
        for number, tag in enumerate(tags, start=1)
    )
    body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
    done = request(s3.access, "POST", path, query={"uploadId": upload}, body=body)
    assert done.status == 200, done.body
    assert request(s3.access, "GET", path).body == first + BODY


def test_lists_by_prefix(s3: S3) -> None:
    for key in ("a/1", "a/2", "b/1"):
        put(s3, key, b"x")
    answer = request(s3.access, "GET", f"/{s3.bucket}", query={"list-type": "2", "prefix": "a/"})
    keys = [n.text for n in ElementTree.fromstring(answer.body).iter() if n.tag.endswith("}Key")]
    assert keys == ["a/1", "a/2"]


def test_a_presigned_url_needs_no_keys(s3: S3) -> None:
    url = presigned(s3.access, put(s3, "folder/object"), expires_s=60)
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == BODY


def test_objects_outlive_a_kill_and_the_endpoint_stays(s3: S3) -> None:
    path, endpoint = put(s3, "object"), s3.endpoint
    s3.kill()
    with pytest.raises(ConnectionRefusedError):
        request(s3.access, "GET", path)
    s3.restart()
    assert s3.endpoint == endpoint
    assert request(s3.access, "GET", path).body == BODY


def answers(access: Access) -> bool:
    """Whether there is a server."""
    try:
        request(access, "GET", "/mine")
    except ConnectionError:
        return False
    return True


def test_the_server_ends_with_its_owner_however_that_ends(tmp_path: Path, s3: S3) -> None:
    program = f"""
        import sys, time
        from pathlib import Path
        from tools.testbed.s3_server import S3Server
        server = S3Server(Path({str(tmp_path)!r}))
        server.start()
        print(server.access.endpoint, flush=True)
        time.sleep(600)
    """
    root = ROOT
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        cwd=root,
        text=True,
    )
    assert owner.stdout is not None
    access = replace(s3.access, endpoint=owner.stdout.readline().strip())
    assert request(access, "PUT", "/mine").status == 200
    owner.kill()
    owner.wait()
    owner.stdout.close()
    ends = time.monotonic() + 10
    while answers(access):
        assert time.monotonic() < ends, "it is still there"
        time.sleep(0.05)
