"""From recordings to scores in a bucket of a real S3 server: the same as on a disk, to the byte."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import tools.build_store
import tools.compact
import tools.query
import tools.train
import tools.verify
import tools.write_shards
from storage.objects.open import open_objects
from tests.paths import ROOT
from tests.s3_server import S3
from tests.shard_sets import contents
from tests.small_store import SECONDS, SHORT
from tests.sounds import write_source
from tools.cli.command import run
from tools.testbed.fault_proxy import KINDS, FaultProxy, Faults
from tools.testbed.s3_server import SECRET_KEY

RECIPE = [
    "recipe.sample_rate_hz=8000",
    "recipe.fmax_hz=4000",
    "recipe.slice_s=3.0",
    "recipe.n_mels=64",
]
ONE_EPOCH = [*SHORT, "trainer.epochs=1"]
SHARDS = ["write_shards.shard_size_bytes=300000"]
Call = Callable[..., str]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_source(tmp_path_factory.mktemp("source"), SECONDS, np.random.default_rng(2))


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Runs a command, which must succeed and never tell the secret; what it printed."""

    def typed(module: object, *words: object) -> str:
        config = ["--config", str(ROOT / "configs" / "base.yaml")]
        code = run(module.COMMAND, module.main, [*config, *map(str, words)])
        printed = capfd.readouterr()
        assert code == 0, printed.err
        assert SECRET_KEY not in printed.out + printed.err
        return printed.out

    return typed


def all_of(
    call: Call, source: Path, place: str, results: Path, kinds: tuple[str, ...]
) -> dict[str, str]:
    """Builds, writes, verifies, queries and trains at a place; what the commands said."""
    places = {"store": f"store={place}/store", "shards": f"shards={place}/shards"}
    store, shards = places.values()
    build = (f"source.root={source}", store, *RECIPE, f"build.workers={len(kinds)}")
    results.mkdir()
    said = {
        "build": call(tools.build_store, *build),
        "again": call(tools.build_store, *build),
        "write": call(tools.write_shards, store, shards, *SHARDS),
        "verify": call(tools.verify, store, shards),
        "compact": call(tools.compact, store),
        "query": call(
            tools.query,
            store,
            *("--sql", "SELECT row, recording_id, max_db FROM slices WHERE slice_no = 1"),
            *("--parquet", results / "found.parquet", "--npy", results / "found.npy"),
        ),
    }
    for kind in kinds:
        call(tools.train, places[kind], f"experiment.root={results / kind}", *ONE_EPOCH)
    return said


def check_same_results(one: Path, other: Path, kinds: tuple[str, ...]) -> None:
    """The same answers, predictions and scores."""
    found = [pl.read_parquet(folder / "found.parquet") for folder in (one, other)]
    assert found[0].equals(found[1])
    assert np.array_equal(np.load(one / "found.npy"), np.load(other / "found.npy"))
    for kind in kinds:
        preds = [folder / kind / "preds" / "exp_001" for folder in (one, other)]
        tables = [pl.read_parquet(folder / "oof.parquet") for folder in preds]
        assert tables[0].equals(tables[1])
        scores = [json.loads((folder / "scores.json").read_text()) for folder in preds]
        for score in scores:
            assert [fold["fold"] for fold in score["folds"]] == [0, 2]
            for fold in score["folds"]:
                del fold["memory"], fold["duration_s"]
        assert scores[0] == scores[1]


def bucket_bytes(url: str) -> dict[str, bytes]:
    """Every object below a URL."""
    objects = open_objects(url)
    return {name: objects.get(name) for name in objects.walk()}


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [("shards",), ("store", "shards")], ids=len)
def test_all_commands_give_the_same_in_a_bucket(
    kinds: tuple[str, ...], source: Path, tmp_path: Path, s3: S3, call: Call
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    local = all_of(call, source, str(tmp_path / "place"), here, kinds)
    remote = all_of(call, source, s3.url("place"), there, kinds)
    assert "15 recordings found = 15 stored" in remote["build"]
    assert "0 damaged" in remote["verify"]
    assert remote.keys() == local.keys()
    for kind in ("store", "shards"):
        assert bucket_bytes(s3.url(f"place/{kind}")) == contents(tmp_path / "place" / kind)
    check_same_results(here, there, kinds)
    records = [*there.rglob("*.yaml"), *there.rglob("*.json")]
    assert records
    assert all(SECRET_KEY not in record.read_text() for record in records)


@pytest.mark.slow
def test_all_commands_come_through_faults(
    source: Path, tmp_path: Path, s3: S3, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the requests, 5 % meet a 500, a 503, a reset, a cut, a stall of 5 s or a changed bit."""
    here, there, kinds = tmp_path / "here", tmp_path / "there", ("store", "shards")
    all_of(call, source, str(tmp_path / "place"), here, kinds)
    with FaultProxy(s3.endpoint, Faults(rate=0.05), seed=4) as proxy:
        with monkeypatch.context() as patch:
            for name, value in s3.environment(proxy.endpoint).items():
                patch.setenv(name, value)
            all_of(call, source, s3.url("place"), there, kinds)
        assert sum(proxy.counts.faults.values()) > 10
        assert proxy.counts.faults.keys() <= set(KINDS)
    for kind in ("store", "shards"):
        assert bucket_bytes(s3.url(f"place/{kind}")) == contents(tmp_path / "place" / kind)
    check_same_results(here, there, kinds)
