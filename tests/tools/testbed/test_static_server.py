"""The static web server of the tests does what such servers do."""

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.static_server import StaticServer


def read(url: str, spec: str = "") -> tuple[int, bytes]:
    wanted = urllib.request.Request(url, headers={"Range": spec} if spec else {})
    with urllib.request.urlopen(wanted) as answer:
        return answer.status, answer.read()


def test_gives_files_and_ranges_and_lists_nothing(tmp_path: Path) -> None:
    body = bytes(range(256))
    folder = tmp_path / "root"
    (folder / "a b").mkdir(parents=True)
    (folder / "a b" / "file").write_bytes(body)
    (tmp_path / "outside").write_bytes(b"x")
    with StaticServer(folder) as server:
        url = f"{server.endpoint}/a%20b/file"
        assert read(url) == (200, body)
        assert read(url, "bytes=10-19") == (206, body[10:20])
        assert read(url, "bytes=-6") == (206, body[-6:])
        assert read(url, "bytes=250-400") == (206, body[250:])
        for path, spec, status in [
            ("a%20b", "", 404),
            ("../outside", "", 404),
            ("none", "", 404),
            ("a%20b/file", "bytes=256-", 416),
        ]:
            with pytest.raises(urllib.error.HTTPError) as caught:
                read(f"{server.endpoint}/{path}", spec)
            assert caught.value.code == status
            caught.value.close()
        assert server.requests["GET"] == 8
