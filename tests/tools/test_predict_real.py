"""Real soundscapes and damaged files in every format, with a sample submission made from them."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import tools.predict
from storage.audio.decode import Decoder
from storage.audio.slicing import num_slices
from storage.errors import AudioError
from storage.recipe import Recipe
from tests.paths import ROOT
from tests.predicting import LABELS, write_checkpoint
from tests.storage.build.test_nasty import REAL_FILES
from tools.cli.command import run
from training.inference.outputs.config import FORMATS
from training.inference.reading.inputs import list_inputs

DATA = ROOT.parent / "shared" / "data"
FOLDERS = [DATA / "soundscapes", DATA / "nasty"]
MODEL = Recipe(slice_step_s=5.0)


def num_windows(path: Path) -> int:
    """Windows of 5 s in a file; one, which nothing predicts, where it cannot be read."""
    decoder = Decoder(path, MODEL.sample_rate_hz)
    try:
        num_samples = sum(map(len, decoder))
    except AudioError:
        return 1
    return num_slices(num_samples, MODEL)


def write_sample(target: Path) -> pl.DataFrame:
    """A sample submission of all recordings, the last ones first and the classes turned."""
    recordings = list_inputs([str(folder) for folder in FOLDERS]).recordings
    row_ids = [
        f"{one.recording_id.rpartition('/')[2]}_{5 * (number + 1)}"
        for one in reversed(recordings)
        for number in range(num_windows(Path(one.path)))
    ]
    columns = {"row_id": row_ids, **dict.fromkeys(reversed(LABELS), 0.5)}
    frame = pl.DataFrame(columns)
    frame.write_csv(target)
    return frame


@pytest.mark.slow
@pytest.mark.skipif(not FOLDERS[1].is_dir(), reason="the shared recordings are not here")
def test_real_and_damaged_recordings_in_every_format(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "weights" / "exp_001" / "fold_0.ckpt", recipe=MODEL)
    sample, out = write_sample(tmp_path / "sample.csv"), tmp_path / "new"
    words = [
        f"experiment.root={tmp_path}",
        "predict.from=exp_001",
        f"predict.input=[{','.join(map(str, FOLDERS))}]",
        f"predict.out={out}",
        f"output.formats=[{','.join(FORMATS)}]",
        f"output.sample_submission={tmp_path / 'sample.csv'}",
        "output.fill_missing=0",
        "output.excerpts.choice=top",
        "detect.threshold=null",
        "detect.top_k=1",
    ]
    config = ["--config", str(ROOT / "configs" / "base.yaml")]
    assert run(tools.predict.COMMAND, tools.predict.main, [*config, *words]) == 0
    check_submission(pl.read_csv(out / "submission.csv"), sample)
    check_rejects(pl.read_csv(out / "rejects.csv"))
    check_formats(out)


def check_submission(found: pl.DataFrame, sample: pl.DataFrame) -> None:
    assert found.columns == sample.columns
    assert found["row_id"].equals(sample["row_id"])
    values = found.drop("row_id").to_numpy()
    assert np.isfinite(values).all()
    assert (values >= 0).all()
    assert (values <= 1).all()
    unread = [name.partition(".")[0] for name, outcome, *_ in REAL_FILES if outcome == "rejected"]
    is_zero = (values == 0).all(axis=1)
    assert sorted(found["row_id"].filter(is_zero)) == sorted(f"{name}_5" for name in unread)


def check_rejects(rejects: pl.DataFrame) -> None:
    wanted = {
        (name, outcome == "partial") for name, outcome, *_ in REAL_FILES if outcome != "stored"
    }
    found = zip(rejects["path"], rejects["partial"], strict=True)
    assert sorted((Path(path).name, partial) for path, partial in found) == sorted(wanted)
    for name, _, _, word in REAL_FILES:
        reasons = rejects.filter(pl.col("path").str.ends_with(name))["reason"].to_list()
        assert all(word in reason for reason in reasons)


def check_formats(out: Path) -> None:
    windows = pl.read_parquet(out / "predictions.parquet")
    detections = pl.read_parquet(out / "detections.parquet")
    assert len(windows) == len(detections)
    assert len(pl.read_csv(out / "detections.csv", infer_schema=False)) == len(detections)
    assert len(pl.read_csv(out / "kaleidoscope.csv", infer_schema=False)) == len(detections)
    assert pl.read_csv(out / "presence.csv")["num_detections"].sum() == len(detections)
    text: dict[str, Any] = {"separator": "\t", "quote_char": None, "infer_schema": False}
    assert len(pl.read_csv(out / "all.selections.txt", **text)) == len(detections)
    for recording_id in windows["recording_id"].unique():
        count = (detections["recording_id"] == recording_id).sum()
        table = pl.read_csv(out / "raven" / f"{recording_id}.selections.txt", **text)
        labels = (out / "audacity" / f"{recording_id}.txt").read_text().splitlines()
        assert (len(table), len(labels)) == (count, count)
        assert (out / "pictures" / f"{recording_id}.png").stat().st_size > 0
    excerpts = pl.read_csv(out / "excerpts" / "excerpts.csv")["file"]
    assert len(excerpts) > 0
    assert all((out / "excerpts" / name).is_file() for name in excerpts)
