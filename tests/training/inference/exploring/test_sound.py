"""training.inference.exploring.sound: parts of recordings are the sound of their times."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from storage.objects.client import RemoteConfig
from training.inference.exploring.sound import SoundFiles

RATE_HZ = 22_050


def write_sweep(path: Path, duration_s: float) -> None:
    time_s = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    sweep = 0.3 * np.sin(2 * np.pi * (300 + 50 * time_s) * time_s)
    soundfile.write(path, sweep.astype(np.float32), RATE_HZ)


def samples_of(wav: bytes) -> np.ndarray:
    samples: np.ndarray = soundfile.read(io.BytesIO(wav), dtype="float32")[0]
    return samples


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("start_s", [0.0, 5.3, 20.0])
def test_a_part_is_that_of_the_whole(tmp_path: Path, kind: str, start_s: float) -> None:
    path = tmp_path / f"sound.{kind}"
    write_sweep(path, 21.7)
    whole = soundfile.read(path, dtype="float32")[0]
    part = SoundFiles(RemoteConfig()).part(str(path), start_s, None)
    data = b"".join(part.read(0, part.size))
    assert len(data) == part.size
    found, expected = samples_of(data), whole[round(start_s * RATE_HZ) :]
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-3
    later = b"".join(part.read(1001, part.size))
    assert np.abs(_values(later[1:]) - _values(data[1002:])).max() < 20


def _values(data: bytes) -> np.ndarray:
    return np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(int)


@pytest.mark.parametrize("kind", ["flac", "ogg", "mp3", "wav"])
def test_a_file_that_ends_early_goes_on_with_silence(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"sound.{kind}"
    write_sweep(path, 30.0)
    part = SoundFiles(RemoteConfig()).part(str(path), 25.0, 28.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    data = b"".join(part.read(0, part.size))
    assert len(data) == part.size
    assert not samples_of(data).any()
