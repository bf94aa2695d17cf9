"""A static web server on loopback: files of a folder, ranges, no listing; ordinary or misbehaving.

with StaticServer(folder) as server:
    open_shards(f"{server.endpoint}/shards")
with StaticServer(folder, manner=GZIPPED) as server:
    ...  # each answer to a GET is packed, as by nginx with `gzip on`
"""

import asyncio
import gzip
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from aiohttp import web

from tools.testbed.fault_proxy import close_server

Answer = Callable[[bytes, slice | None], web.Response]  # of a whole file and the range asked for


class StaticServer:
    """The files below a folder, at `endpoint`; `manner` may be set at any time."""

    def __init__(self, folder: Path, manner: str = "") -> None:
        self.manner = manner
        self.num_requests = 0
        self._folder = folder
        application = web.Application(middlewares=[self._misbehave])
        application.router.add_static("/", folder)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.endpoint = ""

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    async def _start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.endpoint = "http://{}:{}".format(*self._runner.addresses[0])

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(close_server(self._runner), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @web.middleware
    async def _misbehave(
        self, request: web.Request, handler: Callable[[web.Request], web.StreamResponse]
    ) -> web.StreamResponse:
        self.num_requests += 1
        file = self._folder / request.path.lstrip("/")
        answer = MANNERS.get(self.manner)
        if answer is None or not (file.is_file() or self.manner in WHATEVER_IS_ASKED):
            return await handler(request)
        body = file.read_bytes() if file.is_file() else b""
        asked = request.http_range if "Range" in request.headers else None
        return answer(body, asked)


def _range(body: bytes, asked: slice, label: str = "", unit: str = "bytes") -> web.Response:
    """The answer 206 with these bytes; its label is that of what was asked for, or another."""
    label = label or f"{asked.start}-{asked.stop - 1}/{len(body)}"
    headers = {"Content-Range": f"{unit} {label}"} if label != "none" else {}
    return web.Response(status=206, body=body[asked], headers=headers)


def _ordinary(body: bytes, asked: slice | None) -> web.Response:
    return web.Response(body=body) if asked is None else _range(body, _absolute(body, asked))


def _absolute(body: bytes, asked: slice) -> slice:
    """The range in bytes from the beginning; that of a suffix counts from the end."""
    return slice(*asked.indices(len(body)))


def _gzipped(body: bytes, _: slice | None) -> web.Response:
    """The whole file, packed, whatever was asked for: nginx packs on the fly, without ranges."""
    return web.Response(body=gzip.compress(body), headers={"Content-Encoding": "gzip"})


def _gzipped_ranges(body: bytes, asked: slice | None) -> web.Response:
    """Ranges of the packed file: a server that keeps FILE.gz next to FILE."""
    answer = _ordinary(gzip.compress(body), asked)
    answer.headers["Content-Encoding"] = "gzip"
    return answer


def _packed_piece(body: bytes, asked: slice | None) -> web.Response:
    """The range that was asked for, packed by itself."""
    if asked is None:
        return _gzipped(body, asked)
    asked = _absolute(body, asked)
    piece = gzip.compress(body[asked])
    label = f"bytes {asked.start}-{asked.stop - 1}/{len(body)}"
    headers = {"Content-Range": label, "Content-Encoding": "gzip"}
    return web.Response(status=206, body=piece, headers=headers)


def _page(_: bytes, __: slice | None) -> web.Response:
    return web.Response(text="<!DOCTYPE html>\n<html>Sign in</html>", content_type="text/html")


def _page_of_ranges(_: bytes, asked: slice | None) -> web.Response:
    page = b"<html><body>" + bytes(100_000)
    answer = _ordinary(page, asked)
    answer.content_type = "text/html"
    return answer


def _redirect(status: int, target: str) -> Answer:
    headers = {"Location": target} if target else {}
    return lambda body, asked: web.Response(status=status, headers=headers)


def _unranged(answer: Callable[[bytes, slice], web.Response]) -> Answer:
    """Misbehaves on ranges alone."""
    return lambda body, asked: _ordinary(body, None) if asked is None else answer(body, asked)


def _cut(body: bytes, asked: slice) -> web.Response:
    return _range(body, slice(asked.start, (asked.start + asked.stop) // 2))


def _cut_below_its_label(body: bytes, asked: slice) -> web.Response:
    label = f"{asked.start}-{asked.stop - 1}/{len(body)}"
    return _range(body, slice(asked.start, (asked.start + asked.stop) // 2), label)


def _shift(body: bytes, asked: slice) -> web.Response:
    return _range(body, slice(asked.start + 1, asked.stop + 1))


def _shift_below_its_label(body: bytes, asked: slice) -> web.Response:
    label = f"{asked.start}-{asked.stop - 1}/{len(body)}"
    return _range(body, slice(asked.start + 1, asked.stop + 1), label)


MANNERS: dict[str, Answer] = {
    "gzipped": _gzipped,
    "ranges of gzip": _gzipped_ranges,
    "range packed by itself": _packed_piece,
    "page": _page,
    "page in ranges": _page_of_ranges,
    "301": _redirect(301, "http://127.0.0.1:9/moved"),
    "301 nowhere": _redirect(301, ""),
    "302 login": _redirect(302, "/login"),
    "307": _redirect(307, "http://127.0.0.1:9/moved"),
    "308": _redirect(308, "http://127.0.0.1:9/moved"),
    "ignored": _unranged(lambda body, asked: _ordinary(body, None)),
    "cut": _unranged(_cut),
    "cut below its label": _unranged(_cut_below_its_label),
    "shifted": _unranged(_shift),
    "shifted below its label": _unranged(_shift_below_its_label),
    "unlabelled": _unranged(lambda body, asked: _range(body, asked, "none")),
    "label of nonsense": _unranged(lambda body, asked: _range(body, asked, "x-y/z")),
    "other unit": _unranged(lambda body, asked: _range(body, asked, unit="items")),
}
WHATEVER_IS_ASKED = ("page", "page in ranges", "302 login")
