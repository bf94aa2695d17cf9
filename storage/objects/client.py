"""The one way to open a URL: s3://, gs://, az://, http:// and https://, by obstore.

    remote = open_remote("s3://bucket/birds/store")
    data = remote.call("melbank.json", lambda key: obstore.get(remote.store, key).bytes())

Credentials come from the environment alone: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
AWS_SESSION_TOKEN; GOOGLE_APPLICATION_CREDENTIALS; AZURE_STORAGE_ACCOUNT_NAME and
AZURE_STORAGE_ACCOUNT_KEY; or whatever else obstore reads. AWS_ENDPOINT_URL, AWS_REGION and the
section `remote` of a config name the server.

The section reaches other processes through the environment too: reading a config publishes it as
MELBANK_REMOTE, which processes that are started later inherit; `storage.build.workers` hands
`remote_environment()` to its workers. Dask workers get the section with their jobs, and have
credentials in their own environment.
"""

import json
import os
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

from storage.errors import ConfigError, UnreachableError
from storage.objects.failures import explain, is_wrong_address
from storage.options import check_at_least, check_choice, check_positive, option

WEB = ("http", "https")
SCHEMES = ("s3", "gs", "az", *WEB)
VARIABLE = "MELBANK_REMOTE"
AUTO, RANGED, CACHED = "auto", "ranged", "cached"
MODES = (AUTO, RANGED, CACHED)

_VARIABLES = ("MELBANK_", "AWS_", "GOOGLE_", "AZURE_")
_S3_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_S3_CREDENTIALS = (  # one of these, or the machine's own role on AWS
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
)
_SECRETS = ("key", "secret", "token", "password", "credential", "sas")
_QUICK_RETRIES = 3  # by obstore itself, within a second or two; then `call` has patience
_BACKOFF_S, _MAX_BACKOFF_S = 0.1, 5.0
_WRITE_TIMEOUT_S = 600.0  # no byte comes back before the last one has gone up

_ONE_SLASH = re.compile(rf"({'|'.join(SCHEMES)}):/(?!/)", re.IGNORECASE)

_reached: set[str] = set()  # the servers that have answered this process

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteConfig:
    """How object stores are reached; never credentials, which the environment has."""

    endpoint_url: str | None = option(
        None, "S3 server other than AWS, such as http://127.0.0.1:9000; null: AWS_ENDPOINT_URL"
    )
    region: str | None = option(None, "S3 region; null: AWS_REGION, else us-east-1")
    path_style: bool = option(True, "ENDPOINT/bucket/key; false: bucket.ENDPOINT/key")
    allow_http: bool | None = option(
        None, "unencrypted S3; null: to this machine only, and where AWS_ALLOW_HTTP is true"
    )
    timeout_s: float = option(120.0, "give up on a request after so long, repetitions included, s")
    connect_timeout_s: float = option(5.0, "repeat a connection that takes longer, s")
    read_timeout_s: float = option(10.0, "repeat a request whose answer stands still so long, s")
    mode: str = option(
        AUTO,
        "slices by ranged requests, from shards cached whole, or auto: by what the plan needs",
    )
    in_flight: int = option(64, "requests of one reader at a time")
    prefetch_bytes: int = option(64 * 2**20, "at most so many bytes asked for ahead of reading")
    cache_dir: str | None = option(
        None, "folder of cached shards; null: $MELBANK_CACHE/shards, else ~/.cache/melbank/shards"
    )
    cache_size_gb: float = option(20.0, "the cache deletes its oldest shards beyond so many GB")

    def __post_init__(self) -> None:
        check_positive(self, "remote", "timeout_s", "connect_timeout_s", "read_timeout_s")
        check_choice(self, "remote", "mode", MODES)
        check_at_least(self, "remote", 1, "in_flight")
        check_at_least(self, "remote", 0, "prefetch_bytes", "cache_size_gb")
        if self.endpoint_url is not None:
            check_url(self.endpoint_url)
            if urlsplit(self.endpoint_url).scheme not in WEB:
                raise ConfigError(
                    f"remote.endpoint_url={self.endpoint_url} is no http:// or https:// URL"
                )

    @property
    def cache_folder(self) -> Path:
        """Where shards are cached."""
        if self.cache_dir is not None:
            return Path(self.cache_dir).expanduser()
        base = os.environ.get("MELBANK_CACHE")
        return (Path(base) if base else Path.home() / ".cache" / "melbank") / "shards"

    @property
    def cache_bytes(self) -> int:
        """The size limit of the cache."""
        return int(self.cache_size_gb * 1e9)

    def publish(self) -> None:
        """Makes this the config of this process and of those that it starts."""
        os.environ.pop(VARIABLE, None)
        if self != RemoteConfig():
            os.environ[VARIABLE] = json.dumps(asdict(self))

    @classmethod
    def published(cls) -> "RemoteConfig":
        """The config that was published; the defaults where none was."""
        text = os.environ.get(VARIABLE, "{}")
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{VARIABLE} in the environment is no config: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """An opened URL: obstore's store, and the prefix of the keys below the URL.

    `endpoint` is the server as messages name it.
    """

    url: str
    store: Any
    prefix: str
    scheme: str
    bucket: str
    endpoint: str
    config: RemoteConfig

    def key(self, name: str) -> str:
        """The key of an object below the URL."""
        return f"{self.prefix}/{name}".strip("/")

    @property
    def is_guarded(self) -> bool:
        """Whether TLS would notice a byte that changed on its way."""
        return not self.endpoint.startswith("http://")

    def describe(self, name: str) -> str:
        """An object's whole URL, for messages."""
        return f"{self.url}/{name}" if name else self.url

    def call(self, name: str, request: Callable[[str], Result]) -> Result:
        """Does a request for the key of `name`, repeated while repeating may help.

        Raises what `explain` makes of failures. A server that has never answered this process is
        given up at once: its address is most likely wrong.
        """
        end = time.monotonic() + self.config.timeout_s
        attempt = 0
        while True:
            try:
                result = request(self.key(name))
            except AlreadyExistsError:
                _reached.add(self.endpoint)
                raise
            except (BaseError, OSError, NotImplementedError) as error:
                problem = explain(error, self, name)
                if not isinstance(problem, UnreachableError):
                    _reached.add(self.endpoint)
                    raise problem from None  # the cause would show what is signed
                wait_s = backoff_s(attempt)
                is_lost = self.endpoint not in _reached and is_wrong_address(error)
                if is_lost or time.monotonic() + wait_s > end:
                    raise problem from None
            else:
                _reached.add(self.endpoint)
                return result
            time.sleep(wait_s)
            attempt += 1


def is_remote(url: str) -> bool:
    """Whether a URL is not a path of this machine."""
    return "://" in url and not url.startswith("file://")


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
        raise ConfigError(f"{url}: a URL has two slashes behind the colon, as in s3://bucket/store")
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


def remote_environment() -> dict[str, str]:
    """The variables that another process needs to reach what this one does."""
    return {name: value for name, value in os.environ.items() if name.startswith(_VARIABLES)}


def adopt_environment(variables: Mapping[str, str]) -> None:
    """In another process: reaches what the process of these variables reaches, and no more."""
    for name in remote_environment().keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


def open_remote(url: str, *, writing: bool = False) -> Remote:
    """Opens a URL; no request is made. Raises ConfigError where it cannot work as given.

    `writing` waits longer for an answer, since the bytes have to go up first.
    """
    check_url(url)
    config = RemoteConfig.published()
    parts = urlsplit(url)
    prefix = "/".join(part for part in unquote(parts.path).split("/") if part)
    common: dict[str, Any] = {
        "client_options": {
            "connect_timeout": timedelta(seconds=config.connect_timeout_s),
            "read_timeout": timedelta(
                seconds=_WRITE_TIMEOUT_S if writing else config.read_timeout_s
            ),
            "timeout": timedelta(hours=1),  # of a whole object, however slow the line
        },
        "retry_config": {
            "max_retries": _QUICK_RETRIES,
            "retry_timeout": timedelta(seconds=config.timeout_s),
            "backoff": {
                "init_backoff": timedelta(seconds=_BACKOFF_S),
                "max_backoff": timedelta(seconds=1),
            },
        },
    }
    try:
        store, endpoint = _open_store(parts.scheme, parts.netloc, config, common)
    except BaseError as error:
        reason = str(error).splitlines()[0].rpartition(" error: ")[2]
        raise ConfigError(
            f"{url} cannot be opened ({reason}): check the environment variables for it"
        ) from None
    return Remote(
        url=url.rstrip("/"),
        store=store,
        prefix=prefix,
        scheme=parts.scheme,
        bucket=parts.netloc,
        endpoint=endpoint,
        config=config,
    )


def backoff_s(attempt: int) -> float:
    """How long to wait before the next attempt: doubled each time, with jitter, s."""
    ceiling = min(_MAX_BACKOFF_S, _BACKOFF_S * 2 ** min(attempt, 10))
    return random.uniform(ceiling / 2, ceiling)


def _open_store(
    scheme: str, place: str, config: RemoteConfig, common: dict[str, Any]
) -> tuple[Any, str]:
    """obstore's store, and the server as messages name it."""
    if scheme == "s3":
        return _open_s3(place, config, common)
    if scheme == "gs":
        return GCSStore(place, **common), "Google Cloud Storage"
    if scheme == "az":
        account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", "")
        if not account:
            raise ConfigError(
                f"az://{place}: set the environment variable AZURE_STORAGE_ACCOUNT_NAME; the URL "
                "is az://CONTAINER/FOLDER"
            )
        return AzureStore(place, account_name=account, **common), f"Azure account {account}"
    common["client_options"]["allow_http"] = scheme == "http"  # as the URL itself says
    return HTTPStore(f"{scheme}://{place}", **common), f"{scheme}://{place}"


def _open_s3(bucket: str, config: RemoteConfig, common: dict[str, Any]) -> tuple[Any, str]:
    given = [os.environ[name] for name in _S3_ENDPOINTS if os.environ.get(name)]
    endpoint = config.endpoint_url or next(iter(given), "")
    options: dict[str, Any] = {"virtual_hosted_style_request": not config.path_style}
    region = config.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    options["region"] = region or "us-east-1"
    if not endpoint:
        return S3Store(bucket, **options, **common), f"AWS {options['region']}"
    check_url(endpoint)
    if not any(os.environ.get(name) for name in _S3_CREDENTIALS):
        raise ConfigError(
            f"s3://{bucket} at {endpoint}: no credentials; set the environment variables "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public "
            "bucket"
        )
    parts = urlsplit(endpoint)
    if parts.scheme == "http":
        _check_plain_http(endpoint, config)
        common["client_options"]["allow_http"] = True
    address = endpoint if config.path_style else f"{parts.scheme}://{bucket}.{parts.netloc}"
    return S3Store(bucket, endpoint=address.rstrip("/"), **options, **common), endpoint


def _check_plain_http(endpoint: str, config: RemoteConfig) -> None:
    """Raises ConfigError unless http may carry the requests to this server."""
    allowed = config.allow_http
    if allowed is None:
        said = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes", "on")
        allowed = said or _is_loopback(urlsplit(endpoint).hostname or "")
    if not allowed:
        raise ConfigError(
            f"{endpoint} is not encrypted: give its https:// URL, or remote.allow_http=true where "
            "the network between is trusted"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
