"""The S3 server survives kills with its objects, and ends with its owner."""

import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.s3_server import S3
from tools.testbed.s3_server import Access, request

BODY = bytes(range(256)) * 400  # 102,400 bytes


def test_objects_outlive_a_kill_and_the_endpoint_stays(s3: S3) -> None:
    path, endpoint = f"/{s3.bucket}/object", s3.endpoint
    assert request(s3.access, "PUT", path, body=BODY).status == 200
    s3.kill()
    with pytest.raises(ConnectionRefusedError):
        request(s3.access, "GET", path)
    s3.restart()
    assert s3.endpoint == endpoint
    assert request(s3.access, "GET", path).body == BODY


def answers(access: Access) -> bool:
    """True where there is a server."""
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
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
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
