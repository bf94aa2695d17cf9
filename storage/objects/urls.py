"""URLs of folders and buckets: s3://, gs://, az://, http:// and https://, or a path."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from storage.errors import ConfigError, StoreError


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """Facts about one kind of object store; `storage.objects.client` has the opener of each.

    `credentials` and `server` name, for messages, what sets the credentials and the address.
    """

    credentials: str = "of the server"
    server: str = ""


SCHEMES = {
    "s3": Scheme(
        credentials="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        server="AWS_ENDPOINT_URL or remote.endpoint_url",
    ),
    "gs": Scheme(credentials="GOOGLE_APPLICATION_CREDENTIALS"),
    "az": Scheme(
        credentials="AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
        server="AZURE_STORAGE_ACCOUNT_NAME",
    ),
    "http": Scheme(),
    "https": Scheme(),
}

_SECRETS = ("key", "secret", "token", "password", "credential", "sas")

_ONE_SLASH = re.compile(rf"({'|'.join(SCHEMES)}):/(?!/)", re.IGNORECASE)


def is_remote(url: str) -> bool:
    """True where a URL is not a path of this machine."""
    return "://" in url and not url.startswith("file://")


def is_web(url: str) -> bool:
    """Returns True for a URL of a web server: read without credentials, and never listed."""
    return urlsplit(url).scheme in ("http", "https")


def check_bare(url: str) -> None:
    """Raises ConfigError, which does not repeat them, on a URL with credentials in it."""
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment:
        shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        raise ConfigError(
            f"{shown} was given with a user, password, ? or #: credentials in a URL end up in logs "
            "and records; give them in the environment, such as AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, and the URL alone"
        )


def check_url(url: str) -> None:
    """Raises ConfigError on a URL with credentials, of another kind, or of no folder."""
    if _ONE_SLASH.match(url):
        raise ConfigError(f"{url}: a URL has two slashes after the colon, as in s3://bucket/store")
    if not is_remote(url):
        return
    check_bare(url)
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ConfigError(
            f"{url}: {parts.scheme}:// is not known; there are "
            f"{', '.join(f'{scheme}://' for scheme in SCHEMES)} and paths"
        )
    if not parts.netloc or any(part in (".", "..") for part in parts.path.split("/")):
        raise ConfigError(f"{url} is no URL of a folder, such as s3://bucket/birds/store")


def check_no_credentials(section: Mapping[Any, Any]) -> None:
    """Raises ConfigError on a key of the section `remote` that looks like a credential."""
    for name in map(str, section):
        if any(word in name.lower() for word in _SECRETS):
            raise ConfigError(
                f"remote.{name}: credentials in a config end up in logs and records; set the "
                f"environment variable AWS_{name.upper().removeprefix('AWS_')} instead"
            )


def local_path(url: str) -> Path:
    """The path of a local URL; raises StoreError on a remote one."""
    if "://" in url and not url.startswith("file://"):
        raise StoreError(f"{url}: this has to be a folder of this machine, not a URL")
    return Path(url.removeprefix("file://"))
