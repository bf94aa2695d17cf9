"""URLs of buckets and the section `remote`: what they may be, what is never shown."""

import pickle
from pathlib import Path

import obstore
import pytest
from obstore.store import MemoryStore

from storage.errors import ConfigError, ObjectMissingError
from storage.objects.bucket import RemoteObjects
from storage.objects.client import RemoteConfig, open_remote
from storage.objects.failures import explain
from storage.objects.open import open_objects
from tools.cli.config import StoreSection, load_config

BASE = "configs/base.yaml"
REFUSED_URLS = {
    "password": "s3://me:hunter2@bucket/store",
    "signed": "https://host/store?X-Amz-Signature=hunter2",
    "fragment": "https://host/store#hunter2",
}


@pytest.mark.parametrize("url", REFUSED_URLS.values(), ids=REFUSED_URLS)
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    for call in (
        lambda: open_objects(url),
        lambda: load_config(StoreSection, BASE, [f"store={url}"]),
        lambda: load_config(StoreSection, BASE, [f"remote.endpoint_url={url}"]),
        lambda: RemoteConfig(endpoint_url=url),
    ):
        with pytest.raises(ConfigError, match="credentials in a URL end up in logs") as caught:
            call()
        assert "hunter2" not in str(caught.value)


def test_credentials_in_a_config_are_refused_and_not_repeated(tmp_path: Path) -> None:
    words = ["remote.secret_access_key=hunter2"]
    with pytest.raises(ConfigError, match="environment variable AWS_SECRET_ACCESS_KEY") as caught:
        load_config(StoreSection, BASE, words)
    assert "hunter2" not in str(caught.value)
    file = tmp_path / "mine.yaml"
    file.write_text("sources: {a: {store: 's3://me:hunter2@bucket/store'}}\n")
    with pytest.raises(ConfigError, match="credentials in a URL") as caught:
        load_config(StoreSection, str(file))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://host/x", "s3:///x", "s3://b/../x", "gcs://b/x"])
def test_urls_of_no_use_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"s3://"):
        open_objects(url)


def test_the_section_remote_reaches_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    words = ["remote.endpoint_url=https://r2.example", "remote.region=auto", "remote.timeout_s=7"]
    config = load_config(StoreSection, BASE, words).remote
    objects = pickle.loads(pickle.dumps(open_objects("s3://bucket/x", remote=config)))
    assert isinstance(objects, RemoteObjects)
    remote = objects.remote
    assert remote.endpoint == "https://r2.example"
    assert remote.config.timeout_s == 7
    assert remote.store.config["region"] == "auto"


def test_plain_http_goes_no_further_than_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    for host in ("127.0.0.1:9000", "localhost", "[::1]:80", "127.8.9.1"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}")
        open_remote("s3://bucket/x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio.lan:9000")
    with pytest.raises(ConfigError, match="is not encrypted"):
        open_remote("s3://bucket/x")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    open_remote("s3://bucket/x")
    with pytest.raises(ConfigError, match="is not encrypted"):
        open_remote("s3://bucket/x", RemoteConfig(allow_http=False))


def test_google_and_azure_urls_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    google = open_remote("gs://bucket/birds/store/")
    assert google.key("index/a") == "birds/store/index/a"
    assert google.describe("index/a") == "gs://bucket/birds/store/index/a"
    assert google.store.config["bucket"] == "bucket"
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(
        ConfigError, match="set the environment variable AZURE_STORAGE_ACCOUNT_NAME"
    ):
        open_remote("az://container/store")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "birds")
    monkeypatch.setenv("AZURE_SKIP_SIGNATURE", "true")
    azure = open_remote("az://container/store")
    assert azure.key("a") == "store/a"
    assert azure.store.config["account_name"] == "birds"
    assert azure.store.config["container_name"] == "container"


def test_an_object_that_a_store_without_http_lacks_is_missing() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        obstore.get(MemoryStore(), "a")
    problem = explain(caught.value, "https://host/store/a", "host")
    assert isinstance(problem, ObjectMissingError)
