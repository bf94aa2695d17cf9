"""Little audio is read by the process of the models; more of it by others."""

from pathlib import Path

import pytest

from storage.processes import num_cores
from tests.predicting import write_recordings
from training.inference.config import PredictConfig
from training.inference.reading.inputs import InputRecording, list_inputs
from training.inference.reading.worker_count import MAX_FILES, num_workers

MANY = max(1, num_cores() - 1)


def recordings(folder: Path, lengths_s: list[float]) -> tuple[InputRecording, ...]:
    return list_inputs([str(write_recordings(folder, lengths_s))]).recordings


def test_little_audio_needs_no_process(tmp_path: Path) -> None:
    short = recordings(tmp_path / "short", [140.0, 150.0])
    assert num_workers(PredictConfig(), short) == 0
    assert num_workers(PredictConfig(workers=3), short) == 3
    assert num_workers(PredictConfig(), recordings(tmp_path / "long", [140.0, 170.0])) == MANY
    assert num_workers(PredictConfig(workers=0), recordings(tmp_path / "two", [310.0])) == 0


@pytest.mark.parametrize("path", ["s3://bucket/one.ogg", "https://example.org/one.ogg"])
def test_what_is_not_known_is_taken_for_much(path: str, tmp_path: Path) -> None:
    remote = InputRecording(recording_id="one", path=path)
    assert num_workers(PredictConfig(), (remote,)) == MANY
    gone = InputRecording(recording_id="gone", path=str(tmp_path / "gone.wav"))
    assert num_workers(PredictConfig(), (gone,)) == 0
    assert num_workers(PredictConfig(), (gone,) * (MAX_FILES + 1)) == MANY
