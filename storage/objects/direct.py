"""The server, path and query of a plain GET of an object; for S3 the query is signed."""

import os
import time
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import obstore
from obstore.exceptions import BaseError

from storage.objects.client import Remote
from storage.objects.keep_alive import RangeServer, server_of
from storage.objects.urls import is_web

_SIGNED_S = 3600.0  # one signature lasts for so long, whatever ranges are asked for
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectTarget:
    """Place of an object: `path` with its query, secret where it is signed, on a server.

    It is good until the monotonic clock shows `until_s`.
    """

    server: RangeServer
    path: str = field(repr=False)
    until_s: float


async def direct_target(remote: Remote, key: str) -> DirectTarget | None:
    """Returns where an object is asked for directly; None where only obstore can ask.

    That is: stores other than S3 and web servers, public buckets, servers reached through a
    proxy, and names of servers that are not ASCII.
    """
    url = await _url_of(remote, key)
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host.isascii() or not host or not parts.path or _has_proxy(parts.scheme, host):
        return None
    port = parts.port or _PORTS[parts.scheme]
    timeout_s = remote.config.connect_timeout_s
    return DirectTarget(
        server=server_of(parts.scheme, host, port, timeout_s),
        path=f"{parts.path}?{parts.query}" if parts.query else parts.path,
        until_s=time.monotonic() + _SIGNED_S / 2,
    )


async def _url_of(remote: Remote, key: str) -> str:
    """Returns the URL that a GET without any header of ours can use; empty where there is none."""
    if is_web(remote.url):
        return f"{remote.endpoint}/{quote(key)}"
    is_public = os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true", "yes", "on")
    if is_public or not remote.url.startswith("s3://"):
        return ""
    try:
        return await obstore.sign_async(
            remote.store, "GET", key, expires_in=timedelta(seconds=_SIGNED_S)
        )
    except (BaseError, OSError):  # of the credentials: the request by obstore says it
        return ""


def _has_proxy(scheme: str, host: str) -> bool:
    proxies = getproxies()
    return (scheme in proxies or "all" in proxies) and not proxy_bypass(host)
