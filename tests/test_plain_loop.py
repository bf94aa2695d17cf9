"""The example of a plain PyTorch loop in the README does what it says."""

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest

from datasets.shard_writer import ShardConfig, write_shards
from storage.build import BuildConfig, build_store
from storage.recipe import Recipe
from storage.source import SourceConfig
from storage.store import open_store
from tests.sounds import write_source

README = Path(__file__).parents[1] / "README.md"
EXAMPLE = """
from datasets.epoch_plan import EpochPlanner, SamplingConfig
from datasets.labels import Labels
from datasets.reader import BatchReader, LoaderConfig
from datasets.shard_index import open_shards

source = open_shards("data/shards")  # or storage.store.open_store("data/store")
recordings = source.recordings()
targets = Labels.of(recordings).targets(recordings, secondary_weight=0.5)
planner = EpochPlanner(recordings, SamplingConfig(balance="sqrt"), seed=0)
reader = BatchReader(source, planner, LoaderConfig(batch_size=4), targets=targets, train=True)
for epoch in range(2):
    reader.set_epoch(epoch)
    for batch in reader:
        slices = batch.slices.float() / 255  # uint8 [4, 128, 313] -> [0, 1]
        print(epoch, slices.mean(), batch.targets.shape, batch.rows.tolist())
    state = reader.state_dict()  # reader.load_state_dict(state) goes on from here
"""


def example():
    """The README's block of code with a reader; the one above until there is one."""
    blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", README.read_text(encoding="utf-8"), re.MULTILINE)
    found = [textwrap.dedent(block) for block in blocks if " BatchReader(" in block]
    assert len(found) <= 1
    return found[0] if found else EXAMPLE


@pytest.fixture
def shards(tmp_path):
    """`data/shards` in a folder of its own."""
    source = write_source(tmp_path / "source", [3, 8, 5, 9, 4, 6, 3, 7], np.random.default_rng(2))
    build_store(
        SourceConfig(root=str(source)), Recipe(), str(tmp_path / "store"), BuildConfig(workers=1)
    )
    with open_store(str(tmp_path / "store")) as store:
        write_shards(store, str(tmp_path / "data" / "shards"), ShardConfig(workers=1))
    return tmp_path


def test_it_runs_and_leaves_the_reader_at_its_end(shards, monkeypatch, capsys):
    monkeypatch.chdir(shards)
    names = {}
    exec(example(), names)
    assert names["reader"].state_dict()["delivered"] == 8
    assert names["reader"].state_dict()["epoch"] == 1
    assert tuple(names["batch"].slices.shape) == (4, 128, 313)
    assert len(capsys.readouterr().out.splitlines()) >= 4
