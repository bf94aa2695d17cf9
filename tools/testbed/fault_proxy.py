"""An HTTP proxy in front of one server that adds latency and injects faults, and counts.

    faults = Faults(rate=0.05, kinds=[RESET, FLIPPED])
    with FaultProxy(server.access.endpoint, faults, seed=1) as proxy:
        ...  # clients speak to proxy.endpoint
        proxy.counts.requests["GET"], proxy.counts.faults[RESET]

Requests go through unchanged, the Host header too, which clients sign. Which requests are hit is
drawn from the seed in the order of arrival. A fault that needs a body in the answer (truncated,
flipped) leaves answers without one alone, and is not counted then.

To measure clients rather than the server behind, `keep` lets the proxy answer GETs of some objects
by itself, and `link_bytes_s` bounds what all answers together take, as a network does. What was
counted so far can be asked for by HTTP, at `counts_url`.
"""

import asyncio
import json
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Self
from urllib.parse import quote, urlsplit

from storage.errors import ConfigError
from tools.testbed.http_heads import Head, Kept

ERROR, BUSY, RESET = "500", "503", "reset"
TRUNCATED, STALLED, FLIPPED = "truncated", "stalled", "flipped"
KINDS = (ERROR, BUSY, RESET, TRUNCATED, STALLED, FLIPPED)

BLOCK_BYTES = 256 * 1024
LINE_BYTES = 64 * 1024  # after so many bytes, others may have the line
COUNTS_PATH = "/-/counts"
LINGER_0 = struct.pack("ii", 1, 0)  # closing then sends a reset, not an end
_KEPT_HEADERS = ("etag", "last-modified", "content-type", "accept-ranges")
REFUSALS = {ERROR: ("Internal Server Error", "InternalError"), BUSY: ("Slow Down", "SlowDown")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What happens to requests: `latency_s` to each, one of `kinds` to a share of them.

    `link_bytes_s`: what the line to the clients carries in a second; 0: whatever it can.

    500; 503 with Retry-After; reset (half of them behind the server's back, half after it has
    done what was asked for); truncated: an honest Content-Length, half of the body, the end;
    stalled: half of the body, `stall_s` of nothing, the rest; flipped: one bit of the body.
    """

    rate: float = 0.0
    kinds: tuple[str, ...] = KINDS
    latency_s: float = 0.0
    stall_s: float = 5.0
    retry_after_s: int = 1
    link_bytes_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ConfigError(f"rate={self.rate:g} must lie between 0 and 1")
        for kind in self.kinds:
            if kind not in KINDS:
                raise ConfigError(f"{kind} is none of the faults {', '.join(KINDS)}")


@dataclass(slots=True, kw_only=True)
class Counts:
    """What went through: requests by method (LIST: a GET that lists), bodies' bytes, faults."""

    requests: Counter[str] = field(default_factory=Counter)
    sent_bytes: Counter[str] = field(default_factory=Counter)
    received_bytes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    def encode(self) -> bytes:
        """As JSON."""
        return json.dumps(
            {entry.name: getattr(self, entry.name) for entry in fields(self)}
        ).encode()


class FaultProxy:
    """One proxy on a free port of loopback; `faults` may be set anew at any time."""

    def __init__(self, upstream: str, faults: Faults, *, seed: int) -> None:
        address = urlsplit(upstream)
        self._upstream = (address.hostname or "", address.port or 80)
        self.faults = faults
        self.counts = Counts()
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._kept: dict[str, Kept] = {}
        self._line_free_s = 0.0
        self.endpoint = ""

    @property
    def counts_url(self) -> str:
        """Where the counts can be had by HTTP, which is not counted."""
        return f"{self.endpoint}{COUNTS_PATH}"

    def keep(self, path: str, headers: Mapping[str, str], body: memoryview) -> None:
        """From now on answers GETs of `/bucket/key` by itself, with these headers and bytes.

        Signatures of such requests are not checked.
        """
        kept = {name: headers[name] for name in _KEPT_HEADERS if name in headers}
        self._kept[quote(path)] = Kept(headers=kept, body=body)

    def kept(self, request: Head) -> Kept | None:
        """What the proxy itself has for a request."""
        path = request.first[1].partition("?")[0]
        return self._kept.get(path) if request.kind == "GET" else None

    async def pass_line(self, size: int) -> None:
        """Waits until the line has carried so many bytes more."""
        if self.faults.link_bytes_s:
            now_s = self._loop.time()
            self._line_free_s = max(now_s, self._line_free_s) + size / self.faults.link_bytes_s
            await asyncio.sleep(self._line_free_s - now_s)

    def reset_counts(self) -> Counts:
        """Begins to count anew; gives what was counted so far."""
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
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, limit=BLOCK_BYTES, backlog=1024
        )
        port = self._server.sockets[0].getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{port}"

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection, and one of its own to the server, until either ends."""
        task = asyncio.current_task()
        if task is not None:
            self._clients.add(task)
            task.add_done_callback(self._clients.discard)
        connection = _Connection(self, reader, writer)
        try:
            while await connection.pass_one():
                pass
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # one of the two has gone, or the proxy ends: so does this connection
        finally:
            connection.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the server; OSError where there is none."""
        return await asyncio.open_connection(*self._upstream, limit=BLOCK_BYTES)

    def draw(self) -> str:
        """The fault of the next request; mostly none."""
        if self._random.random() >= self.faults.rate:
            return ""
        return self._random.choice(self.faults.kinds)

    def draw_below(self, count: int) -> int:
        """A number from 0 on, below `count`."""
        return self._random.randrange(count)


class _Connection:
    """The requests of one client's connection, one after another."""

    def __init__(
        self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._proxy = proxy
        self._reader = reader
        self._writer = writer
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def close(self) -> None:
        """Ends both connections."""
        self._writer.close()
        if self._server is not None:
            self._server[1].close()

    async def pass_one(self) -> bool:
        """One request and its answer; whether the connection can be used on."""
        request = await Head.read(self._reader)
        counts, faults = self._proxy.counts, self._proxy.faults
        if request.first[1] == COUNTS_PATH:
            await self._give(Kept(headers={}, body=memoryview(counts.encode())), request)
            return True
        counts.requests[request.kind] += 1
        fault = self._proxy.draw()
        if faults.latency_s:
            await asyncio.sleep(faults.latency_s)
        if fault in REFUSALS:
            return await self._refuse(request, fault)
        if fault == RESET and self._proxy.draw_below(2):
            return self._cut(RESET)
        kept = self._proxy.kept(request)
        if kept is not None and not fault:
            size = await self._give(kept, request)  # apart from adding, or others' would be lost
            counts.sent_bytes[request.kind] += size
            return True
        if self._server is None:
            self._server = await self._proxy.connect()
        from_server, to_server = self._server
        to_server.write(request.raw)
        size = await self._pass_body(request, to_server)
        counts.received_bytes[request.kind] += size
        answer = await Head.read(from_server)
        if fault == RESET:
            return self._cut(RESET)
        self._writer.write(answer.raw)
        if request.first[0] != "HEAD" and answer.first[1] not in ("204", "304"):
            size = await self._answer_body(answer, from_server, fault)
            counts.sent_bytes[request.kind] += size
            if fault == TRUNCATED and answer.length:
                return False
        await self._writer.drain()
        return answer.fields.get("connection", "").lower() != "close"

    async def _give(self, kept: Kept, request: Head) -> int:
        """An object of the proxy's own, through the line; the bytes sent."""
        head, body = kept.answer(request.fields.get("range", ""))
        self._writer.write(head)
        for start in range(0, len(body), LINE_BYTES):
            block = body[start : start + LINE_BYTES]
            await self._proxy.pass_line(len(block))
            self._writer.write(block)
            await self._writer.drain()
        return len(body)

    async def _refuse(self, request: Head, fault: str) -> bool:
        """An error of the server's own, in place of what was asked for."""
        self._proxy.counts.faults[fault] += 1
        if "expect" in request.fields:  # the body was not sent yet, and now need not be
            close = "Connection: close\r\n"
        else:
            await self._pass_body(request, None)
            close = ""
        wait = f"Retry-After: {self._proxy.faults.retry_after_s}\r\n" if fault == BUSY else ""
        reason, code = REFUSALS[fault]
        body = f"<Error><Code>{code}</Code><Message>injected</Message></Error>"
        self._writer.write(
            f"HTTP/1.1 {fault} {reason}\r\nContent-Type: application/xml\r\n{wait}{close}"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
        )
        if request.first[0] != "HEAD":
            self._writer.write(body.encode())
        await self._writer.drain()
        return not close

    def _cut(self, fault: str) -> bool:
        """Resets the connection."""
        self._proxy.counts.faults[fault] += 1
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
        self._writer.transport.abort()
        return False

    async def _pass_body(self, request: Head, to_server: asyncio.StreamWriter | None) -> int:
        """The request's body to the server, or to nobody; its size in bytes."""
        if "expect" in request.fields:
            self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if request.is_chunked:
            return await self._pass_chunks(self._reader, to_server)
        left = request.length
        while left:
            block = await self._reader.read(min(left, BLOCK_BYTES))
            if not block:
                raise EOFError
            left -= len(block)
            if to_server is not None:
                to_server.write(block)
                await to_server.drain()
        return request.length

    async def _pass_chunks(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None
    ) -> int:
        """A body in chunks, as it comes; its size in bytes."""
        total, size = 0, 1
        while size:
            line = await reader.readuntil(b"\r\n")
            size = int(line.partition(b";")[0], 16)
            data = await reader.readexactly(size + 2)
            total += size
            if writer is not None:
                writer.write(line + data)
                await writer.drain()
        return total

    async def _answer_body(
        self, answer: Head, from_server: asyncio.StreamReader, fault: str
    ) -> int:
        """The answer's body to the client, with the fault in it; the bytes sent."""
        if answer.is_chunked:
            return await self._pass_chunks(from_server, self._writer)
        total = answer.length
        if not total or fault not in (TRUNCATED, STALLED, FLIPPED):
            return await self._pass(from_server, total)
        self._proxy.counts.faults[fault] += 1
        sent = await self._pass(from_server, total // 2)
        if fault == TRUNCATED:
            return sent
        if fault == STALLED:
            await asyncio.sleep(self._proxy.faults.stall_s)
        else:
            flipped = (await from_server.readexactly(1))[0] ^ 1 << self._proxy.draw_below(8)
            self._writer.write(bytes([flipped]))
            sent += 1
        return sent + await self._pass(from_server, total - sent)

    async def _pass(self, from_server: asyncio.StreamReader, size: int) -> int:
        """So many bytes from the server to the client."""
        left = size
        while left:
            block = await from_server.read(min(left, BLOCK_BYTES))
            if not block:
                raise EOFError
            left -= len(block)
            await self._proxy.pass_line(len(block))
            self._writer.write(block)
            await self._writer.drain()
        return size
