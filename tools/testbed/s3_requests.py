"""Signed requests to an S3 server, one by one and bare: for tests and set-up, not for data.

    answer = request(access, "PUT", "/bucket")
    answer = request(access, "GET", "/bucket/key", headers={"Range": "bytes=0-9"})
    url = presigned(access, "GET", "/bucket/key", expires_s=3600)

obstore signs the URLs; no retries, no redirects.
"""

import datetime
import http.client
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import obstore
from obstore.store import S3Store

TIMEOUT_S = 30.0
Method = Literal["DELETE", "GET", "HEAD", "POST", "PUT"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Address of a server, and the credentials for it."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Answer with its body; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def request(
    access: Access,
    method: Method,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Answer:
    """Sends one signed request and reads the answer; OSError or HTTPException if none."""
    url = urlsplit(presigned(access, method, path, expires_s=300))
    target, given = f"{url.path}?{url.query}", dict(headers or {})
    with closing(http.client.HTTPConnection(url.netloc, timeout=TIMEOUT_S)) as connection:
        connection.request(method, target, body=body, headers=given)
        with connection.getresponse() as answer:
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(status=answer.status, headers=names, body=answer.read())


def presigned(access: Access, method: Method, path: str, *, expires_s: int) -> str:
    """URL for a request of `/bucket` or `/bucket/key` without credentials, for a while."""
    bucket, _, key = path.removeprefix("/").partition("/")
    store = open_bucket(access, bucket)
    return obstore.sign(store, method, key, datetime.timedelta(seconds=expires_s))


def open_bucket(access: Access, bucket: str) -> S3Store:
    """obstore's view of a bucket."""
    return S3Store(
        bucket,
        endpoint=access.endpoint,
        region=access.region,
        access_key_id=access.access_key,
        secret_access_key=access.secret_key,
        client_options={"allow_http": True},
    )
