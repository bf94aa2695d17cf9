"""Each fault of a web server is named at once, and is not taken for damage."""

import time
from pathlib import Path

import numpy as np
import pytest

from datasets.shards.shard_set import open_shards
from datasets.shards.writer import ShardConfig, write_shards
from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.errors import RemoteError
from storage.objects.client import RANGED, RemoteConfig
from storage.objects.open import open_objects
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.remote_sources import reader_of
from tests.sounds import write_source
from tests.static_server import MANNERS, StaticServer

RANGES = "ignores Range and answers with the whole object"
SAID = {  # of the first object, and of a range once the set is open
    "gzipped": (r"packs it \(Content-Encoding: gzip\)", r"packs it \(Content-Encoding: gzip\)"),
    "ranges of gzip": ("Content-Encoding: gzip", "Content-Encoding: gzip"),
    "range packed by itself": ("Content-Encoding: gzip", "Content-Encoding: gzip"),
    "page": (r"answers with a page \(Content-Type: text/html", "answers with a page"),
    "page in ranges": ("answers with a page", "answers with a page"),
    "301": (r"redirects \(301\) to http://127.0.0.1:9/moved", r"redirects \(301\)"),
    "301 nowhere": ("redirects and does not say where to", "redirects and does not say where to"),
    "302 login": ("redirects in a circle", "redirects in a circle"),
    "307": (r"redirects \(307\)", r"redirects \(307\)"),
    "308": (r"redirects \(308\)", r"redirects \(308\)"),
    "ignored": (RANGES, RANGES),
    "cut": (r"asked for the bytes \d+ to \d+ and answers with", "asked for the bytes"),
    "cut below its label": ("answers with only [0-9]+", "answers with only [0-9]+"),
    "shifted": ("asked for the bytes", "asked for the bytes"),
    "shifted below its label": ("answers with other bytes", "answers with other bytes"),
    "unlabelled": ("without Content-Range", "without Content-Range"),
    "label of nonsense": ("Content-Range that makes no sense", "makes no sense"),
    "other unit": ("Content-Range that makes no sense", "makes no sense"),
}
CONFIG = RemoteConfig(mode=RANGED)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store and its shards."""
    folder = tmp_path_factory.mktemp("pair")
    root = write_source(folder / "source", [3, 12], np.random.default_rng(1))
    build_store(
        SourceConfig(root=str(root)), Recipe(), str(folder / "store"), BuildConfig(workers=1)
    )
    with open_store(str(folder / "store")) as store:
        write_shards(store, str(folder / "shards"), ShardConfig(workers=1))
    return folder


@pytest.mark.parametrize("manner", MANNERS)
def test_what_a_web_server_does_is_named_at_once(pair: Path, manner: str) -> None:
    first, later = SAID[manner]
    begin_s = time.monotonic()
    with StaticServer(pair, manner) as server:
        for name, opens in (("store", open_store), ("shards", open_shards)):
            url = f"{server.endpoint}/{name}"
            with pytest.raises(RemoteError, match=f"{url}/.*({first}|{later})"):
                list(reader_of(opens(url, CONFIG), batch_size=2))
            server.manner = ""
            source = opens(url, CONFIG)
            source.extents(source.slice_index()["row"].to_numpy())
            server.manner = manner
            with pytest.raises(RemoteError, match=f"{url}/.*{later}"):
                list(reader_of(source, batch_size=2))
    assert time.monotonic() - begin_s < 20


def test_an_object_that_is_missing_is_no_page(pair: Path) -> None:
    with StaticServer(pair, "page") as server:
        objects = open_objects(f"{server.endpoint}/store")
        with pytest.raises(RemoteError, match=r"answers with a page.*login or what is missing"):
            objects.exists("sync.json")
        server.manner = ""
        assert not objects.exists("sync.json")
