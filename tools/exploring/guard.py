"""Refuses what the page does not ask for, before any route sees it.

The address of the page holds a token; with it a browser gets a cookie, without either nothing is
answered. A page of another site can neither read nor write: Host must be a name of this server
(DNS rebinding), Origin its own, and the cookie is not sent from other sites. Bodies and the number
of requests at work are bounded.
"""

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from storage.errors import MelbankError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MAX_AT_ONCE = 128  # requests at work
MAX_BODY, MAX_UPLOAD = 64 * 1024, 64 * 2**20
UPLOADS = "/api/uploads"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; font-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
NO_TOKEN = (
    "<!doctype html><html lang=en><title>Token is missing</title><p>Open the address that "
    "tools.explore has printed: it ends with a token."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The token, the names of the server in lower case, and the name of the cookie."""

    token: str
    hosts: frozenset[str] = frozenset(LOOPBACK)
    cookie: str = "melbank"
    max_at_once: int = MAX_AT_ONCE


class TooLargeError(MelbankError):
    """A body that is larger than allowed."""


@dataclass(slots=True, eq=False)
class Guard:
    """An application that is asked only what the rules allow."""

    app: App
    rules: Rules
    _at_work: int = field(default=0, init=False)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers or refuses one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # a websocket, which is closed so
        headers = Headers(scope=scope)
        refused = self._refuse(scope, headers)
        if refused is None and self._at_work >= self.rules.max_at_once:
            refused = _error(503, "the server is busy: ask again", {"Retry-After": "1"})
        if refused is not None:
            await refused(scope, receive, _with_headers(send))
            return
        limit = _body_limit(scope["path"])
        self._at_work += 1
        try:
            await self.app(scope, _bounded(receive, limit), _with_headers(send))
        finally:
            self._at_work -= 1

    def _refuse(self, scope: Message, headers: Headers) -> Response | None:
        """The refusal of a request; None where it may pass."""
        host = headers.get("host", "")
        if _host_name(host) not in self.rules.hosts:
            return _error(403, "this name of the server is not known: see explore.names")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            return _error(403, "requests of other pages are refused")
        fresh = self._first_visit(scope)
        if fresh is not None:
            return fresh
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return _error(403, "requests of other pages are refused")
        if not self._has_token(headers):
            if scope["path"] == "/":
                return HTMLResponse(NO_TOKEN, 401)
            return _error(401, "the token is missing: open the address that was printed")
        if int_of(headers.get("content-length", "0")) > _body_limit(scope["path"]):
            return _error(413, f"the body has more than {_body_limit(scope['path']):,} bytes")
        return None

    def _first_visit(self, scope: Message) -> Response | None:
        """A cookie for the token in the address, which is then taken out of it."""
        if scope["path"] != "/" or scope["method"] not in ("GET", "HEAD"):
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in query if name == "token"]
        if not given:
            return None
        if not self._is_token(given[0]):
            return HTMLResponse(NO_TOKEN, 401)
        others = urlencode([pair for pair in query if pair[0] != "token"])
        answer = RedirectResponse(f"/?{others}" if others else "/", 303)
        answer.set_cookie(
            self.rules.cookie, self.rules.token, httponly=True, samesite="strict", path="/"
        )
        return answer

    def _has_token(self, headers: Headers) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is_token(given):
            return True
        cookie = SimpleCookie()
        try:
            cookie.load(headers.get("cookie", ""))
        except CookieError:
            return False
        held = cookie.get(self.rules.cookie)
        return held is not None and self._is_token(held.value)

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self.rules.token.encode())


def int_of(text: str) -> int:
    """A decimal number of at most 18 digits; a huge one for anything else."""
    return int(text) if text.isdecimal() and len(text) <= 18 else 1 << 62


def _body_limit(path: str) -> int:
    return MAX_UPLOAD if path == UPLOADS else MAX_BODY


def _host_name(host: str) -> str:
    """The name in a Host header, without port and brackets, in lower case."""
    name = host.lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0]


def _error(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    body = {"error": text, "retry": True} if status == 503 else {"error": text}
    return JSONResponse(body, status, headers)


def _bounded(receive: Receive, limit: int) -> Receive:
    """A body of which more than `limit` bytes are an error."""
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise TooLargeError(f"the body has more than {limit:,} bytes")
        return message

    return bounded


def _with_headers(send: Send) -> Send:
    """Adds the headers of security to an answer."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sending
