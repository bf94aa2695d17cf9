"""Binds, prints the link, and answers until it is stopped.

The socket is bound first, so that the link has the port, and a port in use is one sentence.
"""

import errno
import resource
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn

from storage.errors import ConfigError
from tools.exploring.config import ExploreConfig
from tools.exploring.guard import LOOPBACK, Guard, Rules

CONNECTIONS = 1_000  # beyond, requests are refused with 503
WAITING = 2_048  # connections that wait to be taken
OPEN_FILES = 16_384
MAX_HEAD = 32 * 1024  # bytes of a request's first line and headers
END_S = 5  # for requests at work when the server is stopped
ANY = ("0.0.0.0", "::")


def listen(config: ExploreConfig) -> socket.socket:
    """A socket that listens; ConfigError where the address is not free, or not ours."""
    try:
        family, *_, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigError(f"explore.host={config.host} is no address ({error.strerror})") from error
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
        bound.listen(WAITING)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"explore.port={config.port} is in use: stop that server, give another port, or "
                "explore.port=0 for any that is free"
            ) from error
        raise ConfigError(
            f"explore.host={config.host} explore.port={config.port}: {error.strerror}"
        ) from error
    return bound


def rules_of(config: ExploreConfig, port: int) -> Rules:
    """The rules of the guard: the token, and the names by which browsers may ask."""
    names = {*LOOPBACK, *config.names}
    if config.host not in ANY:
        names.add(config.host)
    else:
        names |= {socket.gethostname(), socket.getfqdn()}
    return Rules(
        token=config.token or secrets.token_urlsafe(24),
        hosts=frozenset(name.lower() for name in names),
        cookie=f"melbank_{port}",
    )


def link(config: ExploreConfig, port: int, token: str) -> str:
    """The address that opens the page."""
    host = "127.0.0.1" if config.host in ANY else config.host
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/?token={token}"


def serve(bound: socket.socket, app: Guard, ready: Callable[[], None]) -> None:
    """Answers until SIGINT or SIGTERM; `ready` is called when it does."""
    _allow_open_files()
    web_server(app, ready).run([bound])


def web_server(app: Guard, ready: Callable[[], None]) -> uvicorn.Server:
    """The server; `run` it with a socket, and set `should_exit` to end it."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=END_S,
        h11_max_incomplete_event_size=MAX_HEAD,
    )
    return _Server(config, ready)


class _Server(uvicorn.Server):
    """Says when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()


def _allow_open_files() -> None:
    """Raises the number of files that may be open, which each connection is one of."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
