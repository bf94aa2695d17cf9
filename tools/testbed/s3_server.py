"""A real S3 server on loopback, for tests and for measuring: OpenStack Swift with its S3 API.

    with S3Server(folder) as server:
        server.make_bucket("shards")
        subprocess.run(command, env={**os.environ, **server.environment()})
        answer = request(server.access, "GET", "/shards/key", headers={"Range": "bytes=0-9"})

Swift checks signatures, knows ranges, multipart uploads and If-None-Match (If-Match answers 501).
It is installed from the package index, once, into an environment of its own below
~/.cache/melbank (or $MELBANK_CACHE); it runs in one process, see `swift_process`, which ends with
ours. Objects stay in the folder, so that a killed server finds them again. `request` is for tests
and set-up, not for data: bare, without retries; obstore signs its URL.
"""

import datetime
import http.client
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

import obstore
from obstore.store import S3Store

from storage.errors import StoreError
from tools.testbed.environments import python_with

REQUIREMENTS = ("swift==2.38.3",)
ACCESS_KEY, SECRET_KEY = "melbank:tester", "local-s3-secret-3b9f"
REGION = "us-east-1"  # of Swift, unless its config names another
PROGRAM = Path(__file__).with_name("swift_process.py")
TIMEOUT_S = 30.0  # of one request
Method = Literal["DELETE", "GET", "HEAD", "POST", "PUT"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Endpoint that leads to the server, and the credentials for it."""

    endpoint: str
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    region: str = REGION


class S3Server:
    """One server with its objects in a folder; the port stays the same over restarts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def access(self) -> Access:
        """Address and keys."""
        return Access(endpoint=f"http://127.0.0.1:{self._port}")

    @property
    def is_running(self) -> bool:
        """True where it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Starts it and waits until it answers; StoreError where it cannot be had."""
        check_attributes(self.folder)
        python = python_with(REQUIREMENTS, _environment_folder())
        command = [str(python), "-W", "ignore", str(PROGRAM), str(self.folder), str(self._port)]
        log = self.folder / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*command, ACCESS_KEY, SECRET_KEY],
                stdin=subprocess.PIPE,  # held open: the server ends when this process has gone
                stdout=subprocess.PIPE,
                stderr=output,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C at a terminal is for its user
            )
        line = self._process.stdout.readline() if self._process.stdout else b""
        if not line:
            self.kill()
            raise StoreError(f"the S3 server did not start: {log.read_text()[-500:].strip()}")
        self._port = int(line)

    def kill(self) -> None:
        """Kills it at once (SIGKILL), as a crash would; what was answered stays."""
        if self._process is not None:
            with self._process as process:  # closes its pipes, then waits
                process.kill()
            self._process = None

    def restart(self, after_s: float = 0.0) -> None:
        """Kills it, waits, and starts it again on the same port with the same objects."""
        self.kill()
        time.sleep(after_s)
        self.start()

    def environment(self, endpoint: str = "") -> dict[str, str]:
        """The AWS_* variables by which AWS's clients, and melbank, reach it.

        `endpoint` is that of a proxy in front of it. No configuration file of the user's is read.
        """
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": endpoint or self.access.endpoint,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_bucket(self, name: str) -> str:
        """Makes a bucket and gives its name."""
        answer = request(self.access, "PUT", f"/{name}")
        if answer.status != 200:
            raise StoreError(f"bucket {name} was not made: {answer.status} {answer.body!r}")
        return name

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Answer with its body; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def request(
    access: Access,
    method: Method,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Answer:
    """Sends one signed request and reads the answer; OSError or HTTPException if none."""
    url = urlsplit(presigned(access, method, path, expires_s=300))
    target, given = f"{url.path}?{url.query}", dict(headers or {})
    with closing(http.client.HTTPConnection(url.netloc, timeout=TIMEOUT_S)) as connection:
        connection.request(method, target, body=body, headers=given)
        with connection.getresponse() as answer:
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(status=answer.status, headers=names, body=answer.read())


def presigned(access: Access, method: Method, path: str, *, expires_s: int) -> str:
    """URL for a request of `/bucket` or `/bucket/key` without credentials, for a while."""
    bucket, _, key = path.removeprefix("/").partition("/")
    store = open_bucket(access, bucket)
    return obstore.sign(store, method, key, datetime.timedelta(seconds=expires_s))


def open_bucket(access: Access, bucket: str) -> S3Store:
    """obstore's view of a bucket."""
    return S3Store(
        bucket,
        endpoint=access.endpoint,
        region=access.region,
        access_key_id=access.access_key,
        secret_access_key=access.secret_key,
        client_options={"allow_http": True},
    )


def check_attributes(folder: Path) -> None:
    """Raises StoreError where the file system keeps no user attributes, which Swift needs."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / "attributes"
    probe.write_bytes(b"")
    try:
        os.setxattr(probe, "user.swift.metadata", bytes(2048))
    except OSError as error:
        raise StoreError(
            f"{folder}: no user attributes here ({error.strerror}), which the S3 server needs; "
            "set TMPDIR to a folder on ext4, xfs or btrfs"
        ) from error
    finally:
        probe.unlink()


def _environment_folder() -> Path:
    root = Path(os.environ.get("MELBANK_CACHE") or "~/.cache/melbank").expanduser()
    version = f"py{sys.version_info.major}{sys.version_info.minor}"
    return root / "s3-server" / f"{REQUIREMENTS[0].replace('==', '-')}-{version}"
