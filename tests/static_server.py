"""An ordinary static web server on loopback: files of a folder, ranges, no listing.

with StaticServer(folder) as server:
    open_shards(f"{server.endpoint}/shards")
"""

import re
import threading
from collections import Counter
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class _Handler(BaseHTTPRequestHandler):
    """GET and HEAD of one file."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "_Server"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        self.server.requests[self.command] += 1
        file = self._file()
        if file is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        size = file.stat().st_size
        begin, end = self._range(size)
        if begin >= end and size:
            self.send_error(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return
        if "Range" in self.headers:
            self.send_response(HTTPStatus.PARTIAL_CONTENT)
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
        else:
            self.send_response(HTTPStatus.OK)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - begin))
        self.send_header("ETag", f'"{file.stat().st_mtime_ns:x}-{size:x}"')
        self.send_header("Last-Modified", self.date_time_string(int(file.stat().st_mtime)))
        self.end_headers()
        if with_body:
            with file.open("rb") as opened:
                opened.seek(begin)
                self.wfile.write(opened.read(end - begin))

    def _file(self) -> Path | None:
        """The file that is asked for; none for folders and for what is elsewhere."""
        path = (self.server.folder / unquote(urlsplit(self.path).path).lstrip("/")).resolve()
        inside = path.is_relative_to(self.server.folder) and path.is_file()
        return path if inside else None

    def _range(self, size: int) -> tuple[int, int]:
        """The first byte asked for, and the one after the last."""
        match = RANGE.fullmatch(self.headers.get("Range", "bytes=0-"))
        first, last = match.groups() if match else ("0", "")
        if not first:
            return max(0, size - int(last)), size
        return int(first), min(size, int(last) + 1) if last else size

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder.resolve()
        self.requests: Counter[str] = Counter()


class StaticServer:
    """The files below a folder, at `endpoint`."""

    def __init__(self, folder: Path) -> None:
        self._server = _Server(folder)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def requests(self) -> Counter[str]:
        """Number of requests, by method."""
        return self._server.requests

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
