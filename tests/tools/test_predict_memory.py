"""Memory of a prediction does not grow with the length or the rate of a recording."""

import os
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.predicting import write_checkpoint

MOST_BYTES = 150e6  # above that with a short recording


def write_long_wav(path: Path, seconds: int, rate_hz: int) -> Path:
    """A wav of zeros, which takes no space on most disks."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate_hz, seconds * rate_hz, "NONE", ""))
        file.writeframesraw(b"\0\0")
        size = file._datawritten
    data = path.read_bytes()[:-size]
    size = 2 * seconds * rate_hz
    header = data[:4] + (len(data) - 8 + size).to_bytes(4, "little") + data[8:-4]
    path.write_bytes(header + size.to_bytes(4, "little"))
    os.truncate(path, len(data) + size)
    return path


def peak_bytes(lab: Path, sound: Path) -> int:
    """Peak memory of the command, which decodes in its own process."""
    words = [
        f"predict.from={lab / 'model.ckpt'}",
        f"predict.input={sound}",
        f"predict.out={lab / sound.stem}",
        "predict.workers=0",
        "predict.threads=1",
        "detect.threshold=0.9",  # untrained, half of all classes would be found in each window
    ]
    call = [sys.executable, "-m", "tools.predict", *words]
    with subprocess.Popen(call, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss * 1024


@pytest.mark.slow
def test_a_recording_of_ten_hours_takes_no_more_memory_than_one_of_a_minute(
    tmp_path: Path,
) -> None:
    write_checkpoint(tmp_path / "model.ckpt", labels=[f"class {number}" for number in range(50)])
    short = peak_bytes(tmp_path, write_long_wav(tmp_path / "short.wav", 60, 16_000))
    long = peak_bytes(tmp_path, write_long_wav(tmp_path / "long.wav", 36_000, 16_000))
    assert long - short < MOST_BYTES
    bat = peak_bytes(tmp_path, write_long_wav(tmp_path / "bat.wav", 600, 256_000))
    assert bat - short < MOST_BYTES
