"""Signed requests to an S3 server, one by one and bare: for tests and set-up, not for data.

    answer = request(access, "PUT", "/bucket")
    answer = request(access, "GET", "/bucket/key", headers={"Range": "bytes=0-9"})
    url = presigned(access, "/bucket/key", expires_s=3600)

Signature version 4 of the S3 API; no retries, no redirects.
"""

import datetime
import hashlib
import hmac
import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode, urlsplit

TIMEOUT_S = 30.0
UNSIGNED = "UNSIGNED-PAYLOAD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where a server answers, and as whom to speak to it."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def request(
    access: Access,
    method: str,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Answer:
    """Sends one signed request and takes the whole answer; OSError or HTTPException if none."""
    host = urlsplit(access.endpoint).netloc
    sha256 = hashlib.sha256(body).hexdigest()
    moment = _moment()
    signed = {"host": host, "x-amz-content-sha256": sha256, "x-amz-date": moment}
    query_text = _query_text(query or {})
    signature = _signature(access, moment, (method, quote(path), query_text, signed, sha256))
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={access.access_key}/{_scope(access, moment)}, "
        f"SignedHeaders={';'.join(signed)}, Signature={signature}"
    )
    connection = http.client.HTTPConnection(host, timeout=TIMEOUT_S)
    try:
        connection.request(
            method,
            f"{quote(path)}?{query_text}" if query_text else quote(path),
            body=body,
            headers={**signed, **(headers or {}), "Authorization": authorization},
        )
        with connection.getresponse() as answer:
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(status=answer.status, headers=names, body=answer.read())
    finally:
        connection.close()


def presigned(access: Access, path: str, *, expires_s: int) -> str:
    """A URL by which anybody may GET an object for a while."""
    moment = _moment()
    query_text = _query_text(
        {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{access.access_key}/{_scope(access, moment)}",
            "X-Amz-Date": moment,
            "X-Amz-Expires": str(expires_s),
            "X-Amz-SignedHeaders": "host",
        }
    )
    signed = {"host": urlsplit(access.endpoint).netloc}
    signature = _signature(access, moment, ("GET", quote(path), query_text, signed, UNSIGNED))
    return f"{access.endpoint}{quote(path)}?{query_text}&X-Amz-Signature={signature}"


def _signature(
    access: Access, moment: str, parts: tuple[str, str, str, Mapping[str, str], str]
) -> str:
    """Of a request: (method, path, query, the signed headers in order, sha256 of the body)."""
    method, path, query_text, signed, sha256 = parts
    lines = [f"{name}:{value}" for name, value in signed.items()]
    canonical = "\n".join([method, path, query_text, *lines, "", ";".join(signed), sha256])
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", moment, _scope(access, moment), hashed])
    key = f"AWS4{access.secret_key}".encode()
    for word in (moment[:8], access.region, "s3", "aws4_request", text):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    return key.hex()


def _scope(access: Access, moment: str) -> str:
    return f"{moment[:8]}/{access.region}/s3/aws4_request"


def _moment() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")


def _query_text(query: Mapping[str, str]) -> str:
    return urlencode(sorted(query.items()), quote_via=quote, safe="")
