"""Checks of what web servers answer: the object itself, or something else under its name.

Web servers pack, redirect, and show pages in place of files that are missing; some answer ranges
with other bytes. Without these checks that looks like damage.
"""

import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any

import obstore
from obstore.exceptions import BaseError

from storage.errors import RemoteError

_PROBED_BYTES = 1024  # of the beginning of an object, enough to tell ranges apart
_PAGES = ("text/html", "application/xhtml")


def check_served(url: str, answer: Any) -> None:
    """Raises RemoteError where an answer of obstore is packed, or a page in place of the object."""
    attributes: Mapping[str, str] = answer.attributes
    packing = attributes.get("Content-Encoding", "identity")
    if packing != "identity":
        raise RemoteError(
            f"{url}: the web server packs it (Content-Encoding: {packing}), though that was not "
            "asked for: switch that off for this folder, as with `gzip off` in nginx"
        )
    if attributes.get("Content-Type", "").startswith(_PAGES):
        raise RemoteError(
            f"{url}: the web server answers with a page (Content-Type: "
            f"{attributes['Content-Type']}) in place of the object, as for a login or what is "
            "missing: check the URL in a browser"
        )


def not_served(url: str, store: Any, key: str) -> RemoteError | None:
    """Returns what `check_served` raises, of the whole object; None where there is nothing."""
    try:
        check_served(url, obstore.get(store, key))
    except RemoteError as error:
        return error
    except (BaseError, OSError):  # nothing that says more than the first failure
        pass
    return None


def check_ranges(url: str, store: Any, key: str) -> None:
    """Raises RemoteError where a range of an object is not what it is in the whole object."""
    answer = obstore.get(store, key)
    check_served(url, answer)
    begin = b""
    for piece in answer.stream(_PROBED_BYTES):
        begin = bytes(piece)[:_PROBED_BYTES]
        break
    if len(begin) < 2:
        return
    asked = begin[1:]
    got = bytes(obstore.get_range(store, key, start=1, end=len(begin)))
    if got != asked:
        did = f"only {len(got)}" if len(got) < len(asked) else "other bytes"
        raise RemoteError(
            f"{url}: the web server was asked for the {len(asked)} bytes from 1 on and answers "
            f"with {did}: it does not keep to ranges; serve it with one that does, such as nginx, "
            "Apache or Caddy, or copy it first"
        )


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it comes as an error with its status."""

    def redirect_request(self, *_: Any) -> None:
        return None


def moved(url: str, timeout_s: float) -> RemoteError | None:
    """Returns an error where a web server redirects: what fails is then another server."""
    try:
        opener = urllib.request.build_opener(_Stay)
        opener.open(urllib.request.Request(url, method="HEAD"), timeout=timeout_s).close()
    except urllib.error.HTTPError as error:
        if 300 <= error.code < 400:
            target = (error.headers.get("Location") or "nowhere").partition("?")[0]
            return RemoteError(
                f"{url}: the web server redirects ({error.code}) to {target}, which gives no "
                "answer: give the URL that works, or check the redirect"
            )
    except (OSError, ValueError, HTTPException):  # nothing that says more than the first failure
        pass
    return None
