"""The S3 server as tests get it: a bucket of their own, and AWS_* variables that lead to it.

It needs the package index once, and a file system with user attributes. Where it cannot be had the
tests skip and say why; where MELBANK_REQUIRE_S3 or CI is set, as in .ci/run, they fail.
"""

import os
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest

from storage.errors import StoreError
from tools.testbed.s3_server import S3Server, check_attributes


class S3(S3Server):
    """The session's server, with a fresh bucket for each test."""

    bucket = ""

    @property
    def endpoint(self) -> str:
        """Such as http://127.0.0.1:40000."""
        return self.access.endpoint

    def url(self, folder: str) -> str:
        """A folder of the bucket, such as s3://test-1f/store."""
        return f"s3://{self.bucket}/{folder}"


def folder_with_attributes(preferred: Path) -> Path:
    """A folder on a file system that keeps user attributes, which the server needs.

    Skips where this machine has none, even where a server is required: nothing can help there.
    """
    for place in (preferred, Path.cwd() / ".pytest_cache", Path.home(), Path("/var/tmp")):
        try:
            place.mkdir(parents=True, exist_ok=True)
            folder = preferred if place == preferred else Path(tempfile.mkdtemp(dir=place))
        except OSError:
            continue
        try:
            check_attributes(folder)
        except StoreError:
            folder.rmdir()
        else:
            return folder
    pytest.skip("no S3 server: no file system here keeps user attributes")


def give_up(reason: str) -> NoReturn:
    """Skips a test without a server, or fails it where one is required."""
    if os.environ.get("MELBANK_REQUIRE_S3") or os.environ.get("CI"):
        pytest.fail(f"MELBANK_REQUIRE_S3 or CI is set, but there is no S3 server: {reason}")
    pytest.skip(f"no S3 server: {reason}")
