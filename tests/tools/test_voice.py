"""tools.voice: from recordings to plans without human voice, with a detector of loudness."""

from pathlib import Path

import polars as pl
import pytest

from tests.small_store import SHORT, build_small_store
from tests.training.inference.voice.detector import write_detector
from tools import show_plan, voice
from tools.cli.command import run
from training.inference.voice import silero

BASE = ["--config", "configs/base.yaml"]


@pytest.mark.slow
def test_voice_is_measured_and_left_out_of_the_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = build_small_store(tmp_path)
    file, detector = tmp_path / "voice.parquet", write_detector(tmp_path / "detector.onnx")
    monkeypatch.setattr(silero, "wheel_file", lambda: detector)
    monkeypatch.setattr(silero, "VOICED", 0.35)
    words = [f"source.root={tmp_path / 'source'}", f"store={store}", f"voice.out={file}"]
    assert run(voice.COMMAND, voice.main, words) == 0
    told = capsys.readouterr().out
    table = pl.read_parquet(file)
    voiced = (table["voice_share"] > 0.5).sum()
    assert 0 < voiced < len(table)
    assert f"{len(table)} slices of 15 recordings, {voiced} with voice" in told
    assert "spec1" in told
    plan = tmp_path / "plan.parquet"
    words = [f"store={store}", f"sampling.voice_file={file}", "sampling.slice_choice=all"]
    words = [*BASE, *words, *SHORT, "--parquet", str(plan)]
    assert run(show_plan.COMMAND, show_plan.main, words) == 0
    planned = pl.read_parquet(plan)
    shares = planned.join(table, on=["recording_id", "row"])["voice_share"]
    assert len(shares) == len(planned) > 0
    assert shares.max() <= 0.5
