"""The demo, whole, as a newcomer runs it."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from storage.maintenance.verify import verify_store
from storage.store import open_store
from tests.paths import ROOT


@pytest.mark.slow
def test_the_demo_learns_its_birds(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tools.demo", f"demo.root={tmp_path / 'demo'}"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    demo = tmp_path / "demo"
    scores = json.loads((demo / "preds/exp_001/scores.json").read_text())
    assert scores["overall"]["roc_auc"] > 0.9
    assert len(scores["folds"]) == 3
    assert open_store(str(demo / "store")).recordings()["primary_label"].n_unique() >= 12
    assert verify_store(str(demo / "store")).findings == []
    assert (demo / "sheet.png").read_bytes().startswith(b"\x89PNG")
    found = demo / "predictions" / "exp_001"
    assert (found / "pictures" / "SYN_20250601_053000.png").read_bytes().startswith(b"\x89PNG")
    track = (found / "audacity" / "SYN_20250601_053000.txt").read_text().splitlines()
    detections = pl.read_csv(found / "detections.csv")
    assert len(track) == len(detections)
    bouts = pl.read_csv(demo / "soundscapes" / "annotations.csv")
    heard = [
        detections.filter(
            (pl.col("label") == label) & (pl.col("start_s") < end) & (pl.col("end_s") > start)
        ).height
        for start, end, label in bouts.select("start_s", "end_s", "labels").iter_rows()
    ]
    assert sum(map(bool, heard)) >= len(bouts) / 2
    for name in ("source", "store", "shards", "sheet.png"):
        assert str(demo / name) in done.stdout
    assert f"python -m tools.explore store={demo / 'store'}" in done.stdout
