"""Ranges of objects over connections that stay open, by one thread and plain HTTP/1.1.

    server = server_of("https", "host", 443, connect_timeout_s=5.0)
    server.ask(RangeRequest(target="/birds/a.tar", begin=0, end=100, answer=print))

The quick way for the one request that training makes thousands of times a second: GET of a range,
answered by 206 with its Content-Length and Content-Range. Whatever else comes, or does not come,
is an answer of None: obstore, which knows redirects, errors, proxies and packing, is asked then.
Nothing is repeated here. All of it runs in one event loop.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from socket import IPPROTO_TCP, SOCK_STREAM, TCP_NODELAY, socket

from storage.objects.retry import POLICY

_HEAD_BYTES = 4096  # of an answer, at most: real ones have a quarter
_IDLE_S = 30.0  # what was unused for longer may have been dropped on the way without a word
_STATUS = b"HTTP/1.1 206 "
_LAST = b"\r\nconnection: close\r\n"
_UNSUITED = (b"\r\ncontent-encoding:", b"\r\ntransfer-encoding:")


@dataclass(slots=True, kw_only=True, eq=False)
class RangeRequest:
    """One request for the bytes [begin, end) of the object at `target`, path and query of its URL.

    `answer` is called once, with a buffer of exactly these bytes or with None, unless the request
    is called off.
    """

    target: str = field(repr=False)  # secret where it is signed
    begin: int
    end: int
    answer: Callable[[memoryview | None], None]
    opening: asyncio.Task[None] | None = None
    connection: "_Connection | None" = None
    is_called_off: bool = False

    def call_off(self) -> None:
        """Gives up the request, and the connection that is made for it or waits for its answer."""
        self.is_called_off = True
        if self.opening is not None:
            self.opening.cancel()
        if self.connection is not None:
            self.connection.close()

    def finish(self, body: memoryview | None) -> None:
        """Passes the answer on."""
        self.connection = None
        if not self.is_called_off:
            self.answer(body)


class RangeServer:
    """The connections of this process with one server."""

    def __init__(self, scheme: str, host: str, port: int, connect_timeout_s: float) -> None:
        self._address = host, port
        self._is_tls = scheme == "https"
        name = f"[{host}]" if ":" in host else host
        usual = port == (443 if self._is_tls else 80)
        self._lines = f"\r\nHost: {name if usual else f'{name}:{port}'}\r\n".encode("ascii")
        self._connect_timeout_s = connect_timeout_s
        self._idle: list[tuple[_Connection, float]] = []  # with since when
        self._num_failed = 0  # in a row
        self._not_before_s = 0.0
        self.loop = asyncio.get_running_loop()

    @property
    def is_suited(self) -> bool:
        """False for a while after too many failures in a row."""
        return time.monotonic() >= self._not_before_s

    def ask(self, request: RangeRequest) -> None:
        """Sends a request."""
        now_s = time.monotonic()
        while self._idle:
            connection, since_s = self._idle.pop()
            if now_s - since_s < _IDLE_S and connection.is_open:
                connection.ask(request, self._lines)
                return
            connection.close()
        request.opening = self.loop.create_task(self._open_and_ask(request))

    def close(self) -> None:
        """Closes the connections that wait for nothing."""
        while self._idle:
            self._idle.pop()[0].close()

    def note(self, *, is_answered: bool) -> None:
        """Counts failures in a row; after too many the server is left alone for a while."""
        self._num_failed = 0 if is_answered else self._num_failed + 1
        if self._num_failed >= POLICY.direct_failures:
            self._num_failed = 0
            self._not_before_s = time.monotonic() + POLICY.direct_after_s

    def release(self, connection: "_Connection") -> None:
        """Takes a connection back that waits for nothing more."""
        self._idle.append((connection, time.monotonic()))

    def forget(self, connection: "_Connection") -> None:
        """Drops a closed connection."""
        self._idle = [kept for kept in self._idle if kept[0] is not connection]

    async def _open_and_ask(self, request: RangeRequest) -> None:
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                opened = await self._connect()
        except (OSError, TimeoutError):  # certificates, too; obstore says what is wrong
            request.opening = None
            request.finish(None)
        else:
            request.opening = None
            _Connection(opened, self).ask(request, self._lines)

    async def _connect(self) -> socket:
        """Connects with the first address that answers; OSError where none does."""
        problem = OSError("no address")
        found = await self.loop.getaddrinfo(*self._address, type=SOCK_STREAM)
        for family, kind, protocol, _, address in found:
            raw = socket(family, kind, protocol)
            try:
                raw.setblocking(False)
                raw.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
                await self.loop.sock_connect(raw, address)
                return await self._encrypt(raw) if self._is_tls else raw
            except OSError as error:
                raw.close()
                problem = error
            except BaseException:  # out of time, or called off
                raw.close()
                raise
        raise problem

    async def _encrypt(self, raw: socket) -> ssl.SSLSocket:
        """Shakes hands; the certificate is checked as Python's own clients check it."""
        encrypted = _trust().wrap_socket(
            raw, server_hostname=self._address[0], do_handshake_on_connect=False
        )
        try:
            while True:
                try:
                    encrypted.do_handshake()
                    return encrypted
                except ssl.SSLWantReadError:
                    await _readable(self.loop, encrypted)
        except BaseException:
            encrypted.close()
            raise


class _Connection:
    """One connection, which answers one request after another."""

    def __init__(self, opened: socket, server: RangeServer) -> None:
        self._socket = opened
        self._server = server
        self._is_tls = isinstance(opened, ssl.SSLSocket)
        self._request: RangeRequest | None = None
        self._buffer = bytearray()
        self._view = memoryview(self._buffer)
        self._num_bytes = 0  # in the buffer
        self._body_at = 0  # in the buffer; 0: its head has not come yet
        self._is_last = False  # the server closes it after this answer
        self.is_open = True
        server.loop.add_reader(opened, self._on_readable)

    def ask(self, request: RangeRequest, lines: bytes) -> None:
        """Sends a request; `lines` are the headers that all requests have."""
        self._request, request.connection = request, self
        self._buffer = bytearray(request.end - request.begin + _HEAD_BYTES)
        self._view = memoryview(self._buffer)
        self._num_bytes = self._body_at = 0
        text = b"GET %b HTTP/1.1%bRange: bytes=%d-%d\r\nAccept-Encoding: identity\r\n\r\n" % (
            request.target.encode("ascii"),
            lines,
            request.begin,
            request.end - 1,
        )
        try:
            is_sent = self._socket.send(text) == len(text)
        except OSError:
            is_sent = False
        if not is_sent:
            self._server.loop.call_soon(self.close)  # not at once: the caller asks more

    def close(self) -> None:
        """Closes the connection; a request that waits for it gets None."""
        if not self.is_open:
            return
        self.is_open = False
        self._server.loop.remove_reader(self._socket)
        self._socket.close()
        self._server.forget(self)
        if self._request is not None:
            request, self._request = self._request, None
            request.finish(None)

    def _on_readable(self) -> None:
        try:
            while self._request is not None:
                received = self._socket.recv_into(self._view[self._num_bytes :])
                self._num_bytes += received
                if not received or not self._take(self._request):
                    self.close()
                    return
                if not self._is_tls:  # what TLS has decrypted already makes no socket readable
                    return
            if self.is_open:
                self._socket.recv(1)  # of TLS this may be no byte at all, but a ticket
            self.close()  # it was closed there, or what comes was not asked for
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError:
            self.close()

    def _take(self, request: RangeRequest) -> bool:
        """Passes the answer on if it is whole; returns False where it is no plain one."""
        length = request.end - request.begin
        if not self._body_at:
            at = self._buffer.find(b"\r\n\r\n", 0, min(self._num_bytes, _HEAD_BYTES))
            if at < 0:
                return self._num_bytes < _HEAD_BYTES
            if not _is_plain(bytes(self._view[: at + 2]), request):
                return False
            self._is_last = _LAST in bytes(self._view[: at + 2]).lower()
            self._body_at = at + 4
        end = self._body_at + length
        if self._num_bytes < end:
            return True
        if self._num_bytes > end:
            return False
        self._request = None
        body = self._view[self._body_at : end]
        self._view, self._buffer = memoryview(b""), bytearray()  # the answer's from now on
        if self._is_last:
            self.close()
        else:
            self._server.release(self)
        request.finish(body)
        return True


def _is_plain(head: bytes, request: RangeRequest) -> bool:
    """True where a head announces exactly the bytes asked for, not packed.

    A header that is written in an unusual way counts as another: obstore reads it then.
    """
    lines = head.lower()
    length = request.end - request.begin
    return (
        head.startswith(_STATUS)
        and b"\r\ncontent-length: %d\r\n" % length in lines
        and b"\r\ncontent-range: bytes %d-%d/" % (request.begin, request.end - 1) in lines
        and not any(header in lines for header in _UNSUITED)
    )


async def _readable(loop: asyncio.AbstractEventLoop, waiting: socket) -> None:
    is_readable = asyncio.Event()
    loop.add_reader(waiting, is_readable.set)
    try:
        await is_readable.wait()
    finally:
        loop.remove_reader(waiting)


@lru_cache(maxsize=1)
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()


_servers: dict[tuple[str, str, int, float], RangeServer] = {}


def server_of(scheme: str, host: str, port: int, connect_timeout_s: float) -> RangeServer:
    """Returns the connections of the running event loop with a server, made at the first call."""
    key = scheme, host, port, connect_timeout_s
    server = _servers.get(key)
    if server is None or server.loop is not asyncio.get_running_loop():
        server = _servers[key] = RangeServer(*key)
    return server


def close_connections() -> None:
    """Closes what waits for nothing, of the running event loop."""
    for server in _servers.values():
        if server.loop is asyncio.get_running_loop():
            server.close()
