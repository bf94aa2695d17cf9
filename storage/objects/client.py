"""The one way to open a URL: s3://, gs://, az://, http:// and https://, by obstore.

    remote = open_remote("s3://bucket/birds/store")
    data = remote.call("melbank.json", lambda key: obstore.get(remote.store, key).bytes())

Credentials come from the environment alone: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
AWS_SESSION_TOKEN; GOOGLE_APPLICATION_CREDENTIALS; AZURE_STORAGE_ACCOUNT_NAME and
AZURE_STORAGE_ACCOUNT_KEY; or whatever else obstore reads. AWS_ENDPOINT_URL, AWS_REGION and the
section `remote` of a config name the server.

The section `remote` travels as an argument: what is opened keeps it (`objects.remote_config`,
`source.remote`), and jobs of other processes carry it. Only credentials are inherited by the
environment: `storage.processes` gives its workers that of their parent; Dask workers have
credentials in their own.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

from storage.errors import ConfigError, StoreError, UnreachableError
from storage.objects.failures import explain, ignores_ranges, is_wrong_address
from storage.objects.retry import POLICY, Attempts
from storage.objects.urls import check_url, is_web
from storage.objects.web_answers import moved, not_served
from storage.options import check_at_least, check_choice, check_positive, option
from storage.untrusted import is_plain

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
_WRITE_TIMEOUT_S = 600.0  # no byte comes back before the last one has gone up

_reached: set[str] = set()  # the servers that have answered this process

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteConfig:
    """Settings of object stores; never credentials, which are in the environment."""

    endpoint_url: str | None = option(
        None, "S3 server other than AWS, such as http://127.0.0.1:9000; null: AWS_ENDPOINT_URL"
    )
    region: str | None = option(None, "S3 region; null: AWS_REGION, else us-east-1")
    path_style: bool = option(True, "ENDPOINT/bucket/key; false: bucket.ENDPOINT/key")
    allow_http: bool | None = option(
        None, "unencrypted S3; null: to this machine only, and where AWS_ALLOW_HTTP is true"
    )
    timeout_s: float = option(120.0, "limit for one request, retries included, s")
    connect_timeout_s: float = option(5.0, "retry a connection that takes longer, s")
    read_timeout_s: float = option(10.0, "retry a request that receives nothing for this long, s")
    mode: str = option(
        AUTO, "slices by ranged requests, from shards cached whole, or auto: by what the plan needs"
    )
    in_flight: int = option(256, "concurrent requests of one reader")
    direct: bool = option(
        True, "ask http and S3 servers for ranges over own connections; false: by obstore alone"
    )
    prefetch_bytes: int = option(64 * 2**20, "largest prefetch window, bytes")
    cache_dir: str | None = option(
        None, "folder of cached shards; null: $MELBANK_CACHE/shards, else ~/.cache/melbank/shards"
    )
    cache_size_gb: float = option(20.0, "size of the cache, which evicts its oldest shards, GB")

    def __post_init__(self) -> None:
        check_positive(self, "remote", "timeout_s", "connect_timeout_s", "read_timeout_s")
        check_choice(self, "remote", "mode", MODES)
        check_at_least(self, "remote", 1, "in_flight")
        check_at_least(self, "remote", 0, "prefetch_bytes", "cache_size_gb")
        if self.endpoint_url is not None:
            check_url(self.endpoint_url)
            if not is_web(self.endpoint_url):
                raise ConfigError(
                    f"remote.endpoint_url={self.endpoint_url} is no http:// or https:// URL"
                )

    @property
    def cache_folder(self) -> Path:
        """Folder of cached shards."""
        if self.cache_dir is not None:
            return Path(self.cache_dir).expanduser()
        return cache_root() / "shards"

    @property
    def tables_folder(self) -> Path:
        """Folder of what processes share of the tables of large stores, in that of the shards."""
        return self.cache_folder / "tables"

    @property
    def cache_bytes(self) -> int:
        """The size limit of the cache."""
        return int(self.cache_size_gb * 1e9)


def cache_root() -> Path:
    """Folder of all that is kept on this machine and can be fetched or computed again."""
    base = os.environ.get("MELBANK_CACHE")
    return Path(base) if base else Path.home() / ".cache" / "melbank"


DEFAULT = RemoteConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """An opened URL: obstore's store, and the prefix of the keys below the URL.

    `endpoint` is the server as messages name it.
    """

    url: str
    store: Any
    prefix: str
    endpoint: str
    config: RemoteConfig

    def key(self, name: str) -> str:
        """The key of an object below the URL; StoreError on a name that leads out of it."""
        if name and not is_plain(name):
            raise StoreError(f"{self.url} can have no object {name!r}: it leads out of the folder")
        return f"{self.prefix}/{name}".strip("/")

    @property
    def is_guarded(self) -> bool:
        """True where TLS would notice a byte that changed in transit."""
        return not self.endpoint.startswith("http://")

    def describe(self, name: str) -> str:
        """An object's whole URL, for messages."""
        return f"{self.url}/{name}" if name else self.url

    def explain(self, error: Exception, name: str) -> StoreError:
        """Returns the error that users can act on; asks a web server for the cause."""
        url = self.describe(name)
        problem = explain(error, url, self.endpoint)
        if not is_web(self.url):
            return problem
        if isinstance(problem, UnreachableError):  # perhaps of another server
            return moved(url, self.config.connect_timeout_s) or problem
        if ignores_ranges(error):  # as what packs, or answers with a page, does too
            return not_served(url, self.store, self.key(name)) or problem
        return problem

    def call(self, name: str, request: Callable[[str], Result]) -> Result:
        """Does a request for the key of `name`, repeated while repeating may help.

        Raises what `explain` makes of failures. A server that has never answered this process is
        given up at once: its address is most likely wrong.
        """
        attempts = Attempts(self.config.timeout_s)
        while True:
            try:
                result = request(self.key(name))
            except AlreadyExistsError:
                _reached.add(self.endpoint)
                raise
            except StoreError:  # of a check of the answer: the next would be the same
                raise
            # obstore raises NotImplementedError for requests that a server does not know
            except (BaseError, OSError, NotImplementedError) as error:
                problem = self.explain(error, name)
                if not isinstance(problem, UnreachableError):
                    _reached.add(self.endpoint)
                elif self.endpoint not in _reached and is_wrong_address(error):
                    raise problem from None  # the cause would show what is signed
                pause_s = attempts.pause_s(problem)
            else:
                _reached.add(self.endpoint)
                return result
            time.sleep(pause_s)


def remote_environment() -> dict[str, str]:
    """The variables that another process needs to reach what this one does."""
    return {name: value for name, value in os.environ.items() if name.startswith(_VARIABLES)}


def open_remote(url: str, config: RemoteConfig = DEFAULT, *, writing: bool = False) -> Remote:
    """Opens a URL; no request is made. Raises ConfigError where it cannot work as given.

    `writing` waits longer for an answer, since the bytes have to go up first.
    """
    check_url(url)
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
            "max_retries": POLICY.quick_repeats,
            "retry_timeout": timedelta(seconds=config.timeout_s),
            "backoff": {
                "init_backoff": timedelta(seconds=POLICY.first_pause_s),
                "max_backoff": timedelta(seconds=1),
            },
        },
    }
    try:
        store, endpoint = _open_store(parts, config, common)
    except BaseError as error:
        reason = str(error).splitlines()[0].rpartition(" error: ")[2]
        raise ConfigError(
            f"{url} cannot be opened ({reason}): check the environment variables for it"
        ) from None
    url = url.rstrip("/")
    return Remote(url=url, store=store, prefix=prefix, endpoint=endpoint, config=config)


def _open_store(
    parts: SplitResult, config: RemoteConfig, common: dict[str, Any]
) -> tuple[Any, str]:
    """Returns obstore's store, and the server as messages name it; `common`: its options."""
    if parts.scheme == "s3":
        return _open_s3(parts.netloc, config, common)
    if parts.scheme == "gs":
        return GCSStore(parts.netloc, **common), "Google Cloud Storage"
    if is_web(parts.geturl()):
        common["client_options"]["allow_http"] = parts.scheme == "http"  # as the URL itself says
        server = f"{parts.scheme}://{parts.netloc}"
        return HTTPStore(server, **common), server
    account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", "")
    if not account:
        raise ConfigError(
            f"az://{parts.netloc}: set the environment variable AZURE_STORAGE_ACCOUNT_NAME; the "
            "URL is az://CONTAINER/FOLDER"
        )
    return AzureStore(parts.netloc, account_name=account, **common), f"Azure account {account}"


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
