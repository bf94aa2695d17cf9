"""Fixtures that every test may use."""

import os
import secrets
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from storage.errors import StoreError
from tests.s3_server import S3, folder_with_attributes, give_up
from tools.testbed.fault_proxy import FaultProxy, Faults

# Started in the background, Python may ignore Ctrl-C or, by `nohup`, a terminal that has gone, and
# so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
# One thread each: torch's idle threads would spin, and tests run at the same time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("steady", deadline=None, derandomize=True)  # machines are noisy
settings.load_profile("steady")

REAL_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """The folder of real recordings of a name; skips the test where it is absent."""

    def folder(name: str) -> Path:
        path = REAL_DATA / name
        if not path.is_dir():
            pytest.skip(f"real audio is not here: {path} is absent")
        return path

    return folder


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """The session's S3 server; each process of pytest-xdist has its own."""
    folder = folder_with_attributes(tmp_path_factory.mktemp("s3"))
    server = S3(folder)
    try:
        server.start()
    except StoreError as error:
        give_up(str(error))
    yield server
    server.kill()
    shutil.rmtree(folder)


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """A fresh bucket on the S3 server; the AWS_* variables of this process lead to it."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    s3_server.bucket = s3_server.make_bucket(f"test-{secrets.token_hex(6)}")
    yield s3_server
    if not s3_server.is_running:
        s3_server.start()


@pytest.fixture
def proxy(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Between this process and the S3 server; without faults until they are set."""
    with FaultProxy(s3.endpoint, Faults(), seed=3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy
