"""Runs the plain PyTorch loop of docs/plain-pytorch.md."""

import re
import textwrap

import numpy as np
import pytest

from datasets.shards.writer import ShardConfig, write_shards
from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.paths import ROOT
from tests.sounds import write_source

DOCUMENT = ROOT / "docs" / "plain-pytorch.md"


def example():
    """Returns the block of code with a reader."""
    blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    found = [textwrap.dedent(block) for block in blocks if " BatchReader(" in block]
    assert len(found) == 1
    return found[0]


@pytest.fixture(params=["uint8", "float32"])
def shards(tmp_path, request):
    """`data/shards` in a folder of its own."""
    source = write_source(tmp_path / "source", [3, 8, 5, 9, 4, 6, 3, 7], np.random.default_rng(2))
    recipe, config = Recipe(encoding=request.param), BuildConfig(workers=1)
    build_store(SourceConfig(root=str(source)), recipe, str(tmp_path / "store"), config)
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
    assert names["slices"].amax((1, 2)).tolist() == [1.0] * 4  # the loudest cell of each slice
    assert len(capsys.readouterr().out.splitlines()) >= 4
