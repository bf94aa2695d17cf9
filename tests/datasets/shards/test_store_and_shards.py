"""A store and the shards written from it are the same thing to a training."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import tools.index_shards
import tools.verify
import tools.write_shards
from datasets.chunks import ChunkConfig, Chunks
from datasets.labels import Labels
from datasets.levels import Levels
from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.reviews import ReviewLog, Verdict
from datasets.sampling.epoch_plan import EpochPlanner, SamplingConfig, plan_all
from datasets.shards.shard_set import open_shards
from datasets.shards.writer import ShardConfig, write_shards
from datasets.sources.mix import MixedSource, SourceMix, SourceSpec
from datasets.sources.reviewed import read_reviewed
from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.paths import ROOT
from tests.shard_sets import flip, identities, read_stock
from tests.sounds import write_source
from tools.cli.command import run

# webdataset leaves its files open
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

SAMPLINGS = [
    SamplingConfig(balance="sqrt", slices_per_recording=2),
    SamplingConfig(slice_choice="all", order="block", block_rows=16),
    SamplingConfig(slice_choice="energy", rating_weights={"0": 0.5}),
]


def build(root, url, **options):
    build_store(SourceConfig(root=str(root)), Recipe(), str(url), BuildConfig(workers=1), **options)
    return str(url)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A store of synthesised recordings and its shards."""
    folder = tmp_path_factory.mktemp("pair")
    seconds = [3, 12, 5, 7.6, 21, 4, 9, 16]
    root = write_source(folder / "source", seconds, np.random.default_rng(1))
    store = open_store(build(root, folder / "store"))
    config = ShardConfig(shard_size_bytes=400_000, workers=2)
    assert write_shards(store, str(folder / "shards"), config).num_shards > 2
    with store:
        yield store, open_shards(str(folder / "shards"))


@pytest.fixture(scope="module")
def grown_pair(tmp_path_factory):
    """A store that has grown twice and lost a recording, and shards that were written each time."""
    folder = tmp_path_factory.mktemp("grown")
    seconds = [3, 6, 5, 7.6, 9, 4, 5, 8]
    config = ShardConfig(shard_size_bytes=400_000, workers=1)
    tars = {}
    for numbers in ([0, 3, 4], [0, 1, 3, 4, 6], [0, 1, 2, 3, 5, 6, 7]):
        root = write_source(folder / "source", seconds, np.random.default_rng(1))
        csv = pl.read_csv(root / "train.csv", schema_overrides={"rating": pl.String})
        csv[numbers].write_csv(root / "train.csv")
        with open_store(build(root, folder / "store")) as store:
            report = write_shards(store, str(folder / "shards"), config)
        assert tars.items() <= identities(folder / "shards").items()
        tars = identities(folder / "shards")
    assert report.num_dropped == 1
    assert report.num_dead > 0
    with open_store(str(folder / "store")) as store:
        yield store, open_shards(str(folder / "shards"))


@pytest.fixture
def esc10_pair(real_data, tmp_path):
    """40 recordings of ESC-10 as a store and as shards."""
    url = build(real_data("esc10"), tmp_path / "store", limit=40)
    with open_store(url) as store:
        write_shards(store, str(tmp_path / "shards"), ShardConfig(shard_size_bytes=500_000))
        yield store, open_shards(str(tmp_path / "shards"))


def batches_of(source, sampling, *, epoch, chunks=None):
    table = source.recordings()
    planner = EpochPlanner(table, sampling, seed=3, slice_index=source.slice_index())
    targets = Labels.of(table).targets(table, 0.5)
    config = LoaderConfig(batch_size=4, remainder="wrap")
    joining = {"chunks": chunks, "levels": Levels(source)} if chunks else {}
    reader = BatchReader(source, planner, config, targets=targets, train=True, **joining)
    reader.set_epoch(epoch)
    return list(reader)


def check_equal(one, other, sampling, chunks=None):
    for epoch in (0, 3):
        ours = batches_of(one, sampling, epoch=epoch, chunks=chunks)
        theirs = batches_of(other, sampling, epoch=epoch, chunks=chunks)
        assert len(ours) == len(theirs) > 1
        for mine, yours in zip(ours, theirs, strict=True):
            for a, b in zip(mine, yours, strict=True):
                assert (a is None and b is None) or torch.equal(a, b)
        assert np.concatenate([batch.slices.numpy() for batch in ours]).std() > 10


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["balance", "all in blocks", "energy"])
def test_equal_plans_give_equal_batches(pair, sampling):
    check_equal(*pair, sampling)


def test_chunks_are_equal_too_and_have_a_level_for_each_slice(pair):
    chunks = Chunks.of(ChunkConfig(length_s=10), pair[0].recipe)
    check_equal(*pair, SAMPLINGS[0], chunks)
    for batch in batches_of(pair[1], SAMPLINGS[0], epoch=0, chunks=chunks):
        assert batch.slices.shape[2] == 2 * 313
        assert (batch.levels[:, 1] > -100).all()
        short = batch.levels[:, 0] == -torch.inf  # recordings of less than 10 s
        assert torch.equal(short, ~(batch.slices[:, :, :313] > 0).any(2).any(1))


def test_verdicts_on_slices_are_equal_too(pair, tmp_path):
    log = ReviewLog(tmp_path)
    for recording_id, label in pair[0].recordings().select("recording_id", "primary_label").rows():
        for what, start_s in (("no", 0.0), ("yes", 5.0)):
            span = {"recording_id": recording_id, "start_s": start_s, "end_s": start_s + 5}
            log.append(Verdict(annotator="ana", verdict=what, label=label, **span))
    specs = {"one": SourceSpec(store="one", reviews=[str(tmp_path)])}
    mixes = [SourceMix([MixedSource(name="one", source=source)]) for source in pair]
    found = [read_reviewed(mix.recordings(), specs, mix) for mix in mixes]
    assert len(found[0].rows) > len(pair[0].recordings())
    assert found[0].digest == found[1].digest


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["balance", "all in blocks", "energy"])
def test_equal_plans_give_equal_batches_after_appending(grown_pair, sampling):
    store, shards = grown_pair
    assert shards.recordings().equals(store.recordings())
    assert shards.slice_index().equals(store.slice_index())
    check_equal(store, shards, sampling)


def test_stock_webdataset_reads_an_appended_set_each_slice_once(grown_pair):
    store, shards = grown_pair
    samples = read_stock(Path(shards.url))
    rows = [sample["json"]["row"] for sample in samples]
    live = set(store.slice_index()["row"].to_list())
    kept = [sample for sample, row in zip(samples, rows, strict=True) if row in live]
    assert len(set(rows)) == len(rows) > len(live) == len(kept)
    kept.sort(key=lambda sample: sample["json"]["row"])
    assert np.array_equal(np.stack([sample["mel.npy"] for sample in kept]), store.slices())


def test_equal_plans_give_equal_batches_on_real_recordings(esc10_pair):
    check_equal(*esc10_pair, SAMPLINGS[0])


def test_every_slice_of_the_store_is_in_the_shards(pair):
    store, shards = pair
    plan = plan_all(shards.recordings())
    reader = BatchReader(shards, lambda _: plan, LoaderConfig(), targets=None, train=False)
    cells = np.concatenate([batch.slices.numpy() for batch in reader])
    assert np.array_equal(cells, store.slices())
    assert plan.rows.tolist() == store.slice_index()["row"].to_list()


def test_the_command_writes_the_same_shards(pair, tmp_path):
    store, shards = pair
    words = [
        f"store={store.url}",
        f"shards={tmp_path / 'shards'}",
        "write_shards.shard_size_bytes=400_000",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tools.write_shards", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "8 recordings" in done.stdout
    for path in Path(shards.url).glob("*.*"):
        if path.is_file() and path.name != ".lock":
            assert path.read_bytes() == (tmp_path / "shards" / path.name).read_bytes()


@pytest.fixture
def call(capsys):
    """Runs a command in this process; its exit code and all that it printed."""

    def run_it(module, *words):
        config = str(ROOT / "configs" / "base.yaml")
        code = run(module.COMMAND, module.main, ["--config", config, *words])
        return code, "".join(capsys.readouterr())

    return run_it


def test_the_commands_rebuild_verify_and_name_what_is_damaged(pair, tmp_path, call):
    store, shards = pair
    folder = tmp_path / "copy"
    shutil.copytree(shards.url, folder)
    words = ("store=none", f"shards={folder}")
    (folder / "shards.json").unlink()
    assert "index_shards" in call(tools.verify, *words)[1]
    code, said = call(tools.index_shards, f"shards={folder}", "index_shards.workers=1")
    assert (code, "8 recordings" in said, "written by melbank" in said) == (0, True, True)
    assert open_shards(str(folder)).slice_index()["row"].equals(store.slice_index()["row"])
    code, said = call(tools.verify, *words)
    assert (code, "0 damaged" in said) == (0, True)
    flip(folder / "shard-000001.tar", 30_000)
    for module in (tools.verify, tools.index_shards):
        code, said = call(module, *words[module is tools.index_shards :])
        assert (code, "shard-000001.tar" in said) == (1, True)
    assert call(tools.index_shards, f"shards={tmp_path}")[0] == 2


def test_the_command_refuses_a_wrong_call_in_one_line(pair, tmp_path):
    (tmp_path / "thesis.tex").write_text("important")
    done = subprocess.run(
        [sys.executable, "-m", "tools.write_shards", f"store={pair[0].url}", f"shards={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "thesis.tex" in done.stderr


def test_indexing_shows_its_examples_and_keys(capsys):
    with pytest.raises(SystemExit):
        run(tools.index_shards.COMMAND, tools.index_shards.main, ["--help"])
    shown = capsys.readouterr().out
    for words in ("python -m tools.index_shards", "index_shards.workers=null", "Exit code 1"):
        assert words in shown
