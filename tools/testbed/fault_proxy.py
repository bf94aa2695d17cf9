"""An HTTP proxy in front of one server that adds latency and injects faults, and counts.

    faults = Faults(rate=0.05, kinds=[RESET, FLIPPED])
    with FaultProxy(server.access.endpoint, faults, seed=1) as proxy:
        ...  # clients speak to proxy.endpoint
        proxy.counts.requests["GET"], proxy.counts.faults[RESET]

Requests go through unchanged, the Host header too, which clients sign. Which requests are hit is
drawn from the seed in the order of arrival. A fault that needs a body in the answer (truncated,
flipped) leaves answers without one alone, and is not counted then.
"""

import asyncio
import io
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import quote

import aiohttp
from aiohttp import web
from yarl import URL

from storage.options import check_between, check_choice

ERROR, BUSY, RESET = "500", "503", "reset"
TRUNCATED, STALLED, FLIPPED = "truncated", "stalled", "flipped"
KINDS = (ERROR, BUSY, RESET, TRUNCATED, STALLED, FLIPPED)

SHUTDOWN_S = 0.1  # for handlers that sleep; aiohttp takes 0 for no limit
LINE_BYTES = 64 * 1024  # after so many bytes, others may have the line
COUNTS_PATH = "/-/counts"
LINGER_0 = struct.pack("ii", 1, 0)  # closing then sends a reset, not an end
_OF_CONNECTION = ("connection", "expect", "keep-alive", "transfer-encoding")
REFUSALS = {ERROR: ("Internal Server Error", "InternalError"), BUSY: ("Slow Down", "SlowDown")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Faults of requests: `latency_s` to each, one of `kinds` to a share of them.

    `link_bytes_s`: what the line to all clients together carries in a second; 0: whatever it can.

    500; 503 with Retry-After; reset (half of them before the server has heard, half after it has
    done the request); truncated: an honest Content-Length, half of the body, the end;
    stalled: half of the body, `stall_s` of nothing, the rest; flipped: one bit of the body.
    """

    rate: float = 0.0
    kinds: tuple[str, ...] = KINDS
    latency_s: float = 0.0
    stall_s: float = 5.0
    link_bytes_s: float = 0.0

    def __post_init__(self) -> None:
        check_between(self, "", 0, 1, "rate")
        check_choice(self, "", "kinds", KINDS)


@dataclass(kw_only=True)
class Counts:
    """Counts of requests by method (LIST: a GET that lists), bytes of their answers, faults."""

    requests: Counter[str] = field(default_factory=Counter)
    sent_bytes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)


class FaultProxy:
    """One proxy on a free port of loopback; `faults` may be replaced at any time."""

    def __init__(self, upstream: str, faults: Faults, *, seed: int) -> None:
        self._upstream = upstream.rstrip("/")
        self.faults = faults
        self.counts = Counts()
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._kept: dict[str, tuple[dict[str, str], memoryview]] = {}
        self._line_free_s = 0.0
        self.endpoint = ""

    @property
    def counts_url(self) -> str:
        """URL of the counts so far, as JSON; requests to it are not counted."""
        return f"{self.endpoint}{COUNTS_PATH}"

    def keep(self, path: str, headers: Mapping[str, str], body: memoryview) -> None:
        """Answers GETs of `/bucket/key` without the server from now on, with these bytes.

        Thus clients are measured, not the server. Signatures are not checked then.
        """
        self._kept[quote(path)] = _passed(headers), body

    def reset_counts(self) -> Counts:
        """Starts new counts; returns the old ones."""
        counts, self.counts = self.counts, Counts()
        return counts

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        )
        self._runner = web.ServerRunner(
            web.Server(self._serve, access_log=None), shutdown_timeout=SHUTDOWN_S
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1024).start()
        self.endpoint = "http://{}:{}".format(*self._runner.addresses[0])

    async def _stop(self) -> None:
        await close_server(self._runner)
        await self._client.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}  # handlers that still sleep
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.raw_path == COUNTS_PATH:
            return web.json_response(vars(self.counts))
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        self.counts.requests[_kind(request)] += 1
        hit = self._random.random() < self.faults.rate
        fault = self._random.choice(self.faults.kinds) if hit else ""
        if self.faults.latency_s:
            await asyncio.sleep(self.faults.latency_s)
        if fault in REFUSALS:
            return await self._refuse(request, fault)
        if fault == RESET and self._random.randrange(2):
            return self._reset(request)
        kept = self._kept.get(request.raw_path.partition("?")[0])
        if kept is not None and request.method == "GET" and not fault:
            return await self._give(request, *kept)
        try:
            return await self._forward(request, fault)
        except (aiohttp.ClientError, ConnectionError):
            return _close(request)  # one of the two has gone: so does this connection

    async def _refuse(self, request: web.BaseRequest, fault: str) -> web.Response:
        """Answers with an error instead of the server."""
        self.counts.faults[fault] += 1
        await request.content.read()  # `request.read` has a limit of 1 MiB
        reason, code = REFUSALS[fault]
        wait = {"Retry-After": "1"} if fault == BUSY else {}
        return web.Response(
            status=int(fault),
            reason=reason,
            headers=wait,
            content_type="application/xml",
            text=f"<Error><Code>{code}</Code><Message>injected</Message></Error>",
        )

    def _reset(self, request: web.BaseRequest) -> web.StreamResponse:
        """Resets the connection."""
        self.counts.faults[RESET] += 1
        if request.transport is not None:
            raw = request.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
            request.transport.abort()
        return web.Response()

    async def _give(
        self, request: web.BaseRequest, headers: dict[str, str], body: memoryview
    ) -> web.StreamResponse:
        """Answers with an object of the proxy, at the speed of the line."""
        answer, size = web.StreamResponse(headers=headers), len(body)
        if "Range" in request.headers:
            begin, end, _ = request.http_range.indices(size)
            body = body[begin:end]
            answer.set_status(206)
            answer.headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
        answer.content_length = len(body)
        await answer.prepare(request)
        for start in range(0, len(body), LINE_BYTES):
            await self._send(answer, body[start : start + LINE_BYTES])
        self.counts.sent_bytes["GET"] += len(body)
        return answer

    async def _forward(self, request: web.BaseRequest, fault: str) -> web.StreamResponse:
        """Passes a request to the server, and its answer back with the fault in it."""
        kind, body = _kind(request), await request.content.read() if request.can_read_body else None
        async with self._client.request(
            request.method,
            URL(f"{self._upstream}{request.raw_path}", encoded=True),
            headers=_passed(request.headers),
            data=None if body is None else io.BytesIO(body),  # bytes over 1 MiB cause a warning
            allow_redirects=False,
        ) as upstream:
            if fault == RESET:
                return self._reset(request)
            answer = web.StreamResponse(
                status=upstream.status, reason=upstream.reason, headers=_passed(upstream.headers)
            )
            await answer.prepare(request)
            has_body = bool(upstream.content_length) and request.method != "HEAD"
            if has_body and fault in (TRUNCATED, STALLED, FLIPPED):
                await self._spoil(request, answer, fault, await upstream.read())
            else:
                async for block in upstream.content.iter_any():
                    self.counts.sent_bytes[kind] += len(block)  # first: the client may ask at once
                    await self._send(answer, block)
            return answer

    async def _spoil(
        self, request: web.BaseRequest, answer: web.StreamResponse, fault: str, body: bytes
    ) -> None:
        """Sends a body with a fault after its first half."""
        self.counts.faults[fault] += 1
        half = len(body) // 2
        self.counts.sent_bytes[_kind(request)] += half if fault == TRUNCATED else len(body)
        await self._send(answer, body[:half])
        rest = bytearray(body[half:])
        if fault == TRUNCATED:
            _close(request)
            return
        if fault == STALLED:
            await asyncio.sleep(self.faults.stall_s)
        else:
            rest[0] ^= 1 << self._random.randrange(8)
        await self._send(answer, rest)

    async def _send(
        self, answer: web.StreamResponse, block: bytes | bytearray | memoryview
    ) -> None:
        """Sends bytes once the line has carried them."""
        if self.faults.link_bytes_s:
            now_s = self._loop.time()
            self._line_free_s = (
                max(now_s, self._line_free_s) + len(block) / self.faults.link_bytes_s
            )
            await asyncio.sleep(self._line_free_s - now_s)
        await answer.write(block)


async def close_server(runner: web.BaseRunner) -> None:
    """Closes a server and all connections of its loop, also those that were just accepted.

    Without it, one whose client has stopped reading would stay open until it is collected, and so
    would those that asyncio accepts while it closes.
    """
    await asyncio.sleep(0.01)  # in which those that wait are accepted
    await runner.cleanup()
    loop = asyncio.get_running_loop()
    for _ in range(2):
        for transport in list(getattr(loop, "_transports", {}).values()):
            transport.abort()
        await asyncio.sleep(0.01)  # in which they are let go


def _kind(request: web.BaseRequest) -> str:
    """Method of a request; LIST where it lists a bucket."""
    listing = "list-type" in request.query or "prefix" in request.query
    return "LIST" if request.method == "GET" and listing else request.method


def _passed(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers less those of one connection."""
    return {name: value for name, value in headers.items() if name.lower() not in _OF_CONNECTION}


def _close(request: web.BaseRequest) -> web.StreamResponse:
    """Closes the connection to the client."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()
