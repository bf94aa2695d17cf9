"""Recordings in a bucket and on a web server: the same predictions as of local files."""

from pathlib import Path

import pytest

from tests.predicting import write_checkpoint, write_recordings
from tests.remote_sources import upload_folder
from tests.s3_server import S3
from tests.static_server import StaticServer
from training.inference.config import PredictConfig
from training.inference.model_files import find_models
from training.inference.predictor import predict_recordings
from training.inference.reading.inputs import list_inputs
from training.inference.results import Results


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    folder = write_recordings(tmp_path / "sounds", [2.0, 1.2])
    (folder / "list.csv").write_text("filename\n01.wav\n00.wav\nnone.wav\n")
    return folder


def predicted(tmp_path: Path, *given: str) -> tuple[dict[str, list], list[str]]:
    """Probabilities by recording, and the reasons of the rejects."""
    file = write_checkpoint(tmp_path / "model.ckpt")
    out = tmp_path / f"out {len(list(tmp_path.iterdir()))}"
    config = PredictConfig(from_=[str(file)], input=list(given), out=str(out), workers=0, threads=1)
    predict_recordings(config, find_models(config.from_, tmp_path), list_inputs(config.input))
    results = Results(out)
    found = {raw.recording.recording_id: raw.probabilities.tolist() for raw in results.iterate()}
    return found, [one.reason for one in results.rejects()]


def test_a_web_server_and_a_csv_on_it(sounds: Path, tmp_path: Path) -> None:
    expected, _ = predicted(tmp_path, str(sounds))
    assert set(expected) == {"00", "01"}
    with StaticServer(sounds) as server:
        found, rejects = predicted(tmp_path, f"{server.endpoint}/list.csv")
        assert found == expected
        assert rejects == ["there is no such file: none.wav"]
        found, _ = predicted(tmp_path, f"{server.endpoint}/00.wav", str(sounds / "01.wav"))
        assert found == expected
        url = f"{server.endpoint}/00.wav"
        inputs = list_inputs([url])
    assert inputs.recordings[0].version == f"{(sounds / '00.wav').stat().st_size} bytes"


def test_a_folder_of_a_bucket(sounds: Path, tmp_path: Path, s3: S3) -> None:
    expected, _ = predicted(tmp_path, str(sounds))
    upload_folder(sounds, s3.url("new"))
    found, rejects = predicted(tmp_path, s3.url("new"))
    assert (found, rejects) == (expected, [])
