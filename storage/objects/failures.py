"""Failures of object stores, each in one line: the URL, the cause, what to check.

obstore reports failures as text: a status, the server's XML, the layers of the HTTP client. What
is recognised here becomes one of our errors. Nothing of that text is passed on but the server's
code for the error, since the rest may show what was signed, and with which key.
"""

import re
from urllib.parse import urlsplit

from storage.errors import (
    AccessError,
    ObjectMissingError,
    RemoteError,
    StoreError,
    UnreachableError,
    UnsupportedError,
)
from storage.objects.urls import SCHEMES, is_web

_STATUS = re.compile(r"status code: (\d{3})|status: (\d{3}),")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_REGION = re.compile(r"<Region>([\w-]{1,40})</Region>|expecting '([\w-]{1,40})'")

_GOT_RANGE = re.compile(r"Requested (\d+)\.\.(\d+), got (\d+)\.\.(\d+)")
_SERVE = "serve it with one that knows ranges, such as nginx, Apache or Caddy, or copy it first"
_NO_RANGES = "Range request not supported"
_MALFORMED = {  # what obstore says, and what the server did; asked again, it would do the same
    _NO_RANGES: f"ignores Range and answers with the whole object: {_SERVE}",
    "NoContentRange": f"answers a range without Content-Range, which says what it is: {_SERVE}",
    "ParseContentRange": f"answers a range with a Content-Range that makes no sense: {_SERVE}",
    "Content-Length": "answers without Content-Length, so that nobody knows if all has come",
    "BareRedirect": "redirects and does not say where to: check the URL in a browser",
    "error following redirect": "redirects in a circle, as to a login: check the URL in a browser",
}

_EXPIRED = ("ExpiredToken", "TokenRefreshRequired", "RequestExpired", "InvalidToken")
_WRONG_KEY = ("SignatureDoesNotMatch", "InvalidAccessKeyId", "AuthenticationFailed")


def explain(error: Exception, url: str, server: str) -> StoreError:
    """The error that users can act on; `server` as messages name it."""
    text = str(error)
    if isinstance(error, OSError) and error.errno is not None:  # of this machine
        return StoreError(f"{url} cannot be copied here ({error.strerror}): check TMPDIR")
    scheme, bucket = SCHEMES[urlsplit(url).scheme], urlsplit(url).netloc
    status = _status(error, text)
    match = _CODE.search(text)
    code = match[1] if match else ""
    shown = f"{status} {code}".rstrip()
    if "latest/api/token" in text or "metadata.google" in text or "MissingCredentials" in text:
        return AccessError(
            f"{url}: no credentials: set the environment variables {scheme.credentials}"
        )
    if not status and (problem := _malformed(text)):
        return RemoteError(f"{url}: {server} {problem}")
    if isinstance(error, NotImplementedError):
        return UnsupportedError(f"{url}: {server} is not asked for such a thing")
    if not status:
        return _no_answer(text, url, server)
    if code in ("NoSuchBucket", "InvalidBucketName", "ContainerNotFound"):
        return RemoteError(
            f"{url}: there is no bucket {bucket} at {server} ({code}): make it, or "
            f"check its name{f' and {scheme.server}' if scheme.server else ''}"
        )
    if is_web(url) and 300 <= status < 400:
        return RemoteError(f"{url}: {server} redirects ({status}): check the URL in a browser")
    if code in ("AuthorizationHeaderMalformed", "PermanentRedirect") or status in (301, 307):
        return _wrong_region(text, url, server)
    if code == "NoSuchUpload":
        return UnreachableError(f"{url}: {server} has lost an upload in pieces: try later")
    if status in (401, 403):
        return AccessError(f"{url}: {_refusal(code, shown, url, server)}")
    if status == 404:
        return ObjectMissingError(f"{url} is missing: there is no such object at {server}")
    if status == 501 or code == "NotImplemented":
        return UnsupportedError(f"{url}: {server} knows no such request ({shown})")
    if status == 416:
        return StoreError(f"{url} ends before the bytes that were asked for: it is not whole")
    if status >= 500 or status in (408, 409, 429):
        return UnreachableError(
            f"{url}: {server} answers {shown} again and again: it is overloaded or out of order; "
            "try later"
        )
    return RemoteError(f"{url}: {server} refuses the request with {shown}")


def ignores_ranges(error: Exception) -> bool:
    """True where a whole object came in place of a range of it."""
    return _NO_RANGES in str(error)


def is_wrong_address(error: Exception) -> bool:
    """True where no connection was made at all: a wrong address, or a server that is down."""
    text = str(error)
    return "dns error" in text or "ConnectionRefused" in text


def _status(error: Exception, text: str) -> int:
    """Returns the status of an answer, 0 without one; a store without HTTP raises its own 404."""
    if found := _STATUS.search(text):
        return int(found[1] or found[2])
    return 404 if isinstance(error, FileNotFoundError) else 0


def _malformed(text: str) -> str:
    """Returns what is wrong with an answer itself; empty where nothing is, or none came."""
    if found := _GOT_RANGE.search(text):
        asked, got = f"{found[1]} to {found[2]}", f"{found[3]} to {found[4]}"
        return f"was asked for the bytes {asked} and answers with {got}: {_SERVE}"
    if "redirect" in text and "region" in text and "Generic HTTP" not in text:
        return ""  # of S3: the wrong region
    return next((did for said, did in _MALFORMED.items() if said in text), "")


def _no_answer(text: str, url: str, server: str) -> StoreError:
    """Failures below HTTP: names, connections, certificates, time."""
    check = f"check {SCHEMES[urlsplit(url).scheme].server or 'the URL'} and the network"
    if "redirect" in text and "region" in text:
        return _wrong_region(text, url, server)
    if "dns error" in text:
        return UnreachableError(f"{url}: the name of {server} is not known: {check}")
    if "ConnectionRefused" in text:
        return UnreachableError(
            f"{url}: nothing answers at {server} (connection refused): start it, or {check}"
        )
    if "certificate" in text.lower() or "InvalidContentType" in text or "Tls" in text:
        return RemoteError(
            f"{url}: no encrypted connection with {server}: it has no https, or a certificate "
            "that is not trusted here"
        )
    if "Timeout" in text or "TimedOut" in text or "timed out" in text:
        return UnreachableError(f"{url}: {server} gave no answer in time: {check}")
    return UnreachableError(f"{url}: the connection with {server} broke: {check}")


def _refusal(code: str, shown: str, url: str, server: str) -> str:
    """Says why access was refused, and what to check."""
    scheme, bucket = SCHEMES[urlsplit(url).scheme], urlsplit(url).netloc
    if is_web(url):
        return f"{server} does not show it to the public ({shown})"
    if code in _EXPIRED:
        return (
            f"the credentials have expired ({shown}): get new ones and set {scheme.credentials}, "
            "with AWS_SESSION_TOKEN where they are temporary"
        )
    if code == "RequestTimeTooSkewed":
        return f"this machine's clock differs from the server's ({shown})"
    if code in _WRONG_KEY:
        return f"{server} does not know these credentials ({shown}): check {scheme.credentials}"
    return (
        f"access denied by {server} ({shown}): check {scheme.credentials}, and what the policy of "
        f"bucket {bucket} lets them do"
    )


def _wrong_region(text: str, url: str, server: str) -> StoreError:
    match = _REGION.search(text)
    region = (match[1] or match[2]) if match else "the bucket's own"
    return RemoteError(
        f"{url}: {server} expects another region: set AWS_REGION or remote.region to {region}"
    )
