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
import tools.sync
import tools.train
import tools.verify
import tools.write_shards
from storage.objects import open_objects
from tests.s3_server import S3
from tests.shard_sets import contents
from tests.sounds import write_source
from tools.benchmarks.fault_proxy import KINDS, FaultProxy, Faults
from tools.benchmarks.s3_server import SECRET_KEY
from tools.command import run

ROOT = Path(__file__).parents[1]
RECIPE = [
    "recipe.sample_rate_hz=8000",
    "recipe.fmax_hz=4000",
    "recipe.slice_s=3.0",
    "recipe.n_mels=64",
]
SHORT = [
    "model.backbone=test_resnet",
    "model.stem_pool=4",
    "folds.num_folds=3",
    "train_folds=[0,2]",
    "trainer.epochs=1",
    "trainer.effective_batch_size=4",
    "train_loader.batch_size=2",
    "trainer.progress=false",
    "trainer.accelerator=cpu",
    "trainer.threads=1",
]
SHARDS = ["write_shards.shard_size_bytes=300000", "write_shards.workers=2"]
Call = Callable[..., str]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    seconds = [3, 8, 5, 6, 4, 7, 5, 3, 9, 6, 5, 4, 8, 5, 3]
    return write_source(tmp_path_factory.mktemp("source"), seconds, np.random.default_rng(2))


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


def all_of(call: Call, source: Path, place: str, results: Path) -> dict[str, str]:
    """Builds, writes, verifies, queries and trains at a place; what the commands said."""
    store, shards = f"store={place}/store", f"shards={place}/shards"
    said = {
        "build": call(
            tools.build_store, f"source.root={source}", store, *RECIPE, "build.workers=2"
        ),
        "again": call(tools.build_store, f"source.root={source}", store, *RECIPE),
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
    for kind, words in (("store", store), ("shards", shards)):
        root = f"experiment.root={results / kind}"
        call(tools.train, words, root, *SHORT)
    return said


def check_same_results(one: Path, other: Path) -> None:
    """The same answers, predictions and scores."""
    for name in ("found.parquet",):
        assert pl.read_parquet(one / name).equals(pl.read_parquet(other / name))
    assert np.array_equal(np.load(one / "found.npy"), np.load(other / "found.npy"))
    for kind in ("store", "shards"):
        tables = [
            pl.read_parquet(folder / kind / "preds" / "exp_001" / "oof.parquet")
            for folder in (one, other)
        ]
        assert tables[0].equals(tables[1])
        scores = [
            json.loads((folder / kind / "preds" / "exp_001" / "scores.json").read_text())
            for folder in (one, other)
        ]
        assert scores[0] == scores[1]


def bucket_bytes(url: str) -> dict[str, bytes]:
    """Every object below a URL."""
    objects = open_objects(url)
    return {name: objects.get(name) for name in objects.walk()}


def test_all_commands_give_the_same_in_a_bucket(
    source: Path, tmp_path: Path, s3: S3, call: Call
) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    local = all_of(call, source, str(tmp_path / "place"), tmp_path / "here")
    remote = all_of(call, source, s3.url("place"), tmp_path / "there")
    assert remote.keys() == local.keys()
    assert "15 recordings found = 15 stored" in remote["build"]
    assert "0 damaged" in remote["verify"]
    for kind in ("store", "shards"):
        assert bucket_bytes(s3.url(f"place/{kind}")) == contents(tmp_path / "place" / kind)
    check_same_results(tmp_path / "here", tmp_path / "there")
    records = [*(tmp_path / "there").rglob("*.yaml"), *(tmp_path / "there").rglob("*.json")]
    assert records
    assert all(SECRET_KEY not in record.read_text() for record in records)


@pytest.mark.slow
def test_all_commands_come_through_faults(
    source: Path, tmp_path: Path, s3: S3, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the requests, 5 % meet a 500, a 503, a reset, a cut, a stall of 5 s or a changed bit."""
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    all_of(call, source, str(tmp_path / "place"), tmp_path / "here")
    with FaultProxy(s3.endpoint, Faults(rate=0.05), seed=4) as proxy:
        for name, value in s3.environment(proxy.endpoint).items():
            monkeypatch.setenv(name, value)
        all_of(call, source, s3.url("place"), tmp_path / "there")
        assert set(proxy.counts.faults) == set(KINDS)
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    for kind in ("store", "shards"):
        assert bucket_bytes(s3.url(f"place/{kind}")) == contents(tmp_path / "place" / kind)
    check_same_results(tmp_path / "here", tmp_path / "there")
