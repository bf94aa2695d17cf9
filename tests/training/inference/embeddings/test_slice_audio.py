"""training.inference.embeddings.slice_audio: windows of waveform models in slices."""

import numpy as np
import pytest
import soundfile

from storage.errors import StoreError
from training.inference.embeddings.slice_audio import WaveformInput, read_windows

RATE_HZ = 1000


def write(path, num_samples):
    samples = (np.arange(num_samples) % 1000 / 2000).astype(np.float32)
    soundfile.write(path, samples, RATE_HZ, subtype="FLOAT")
    return samples


@pytest.mark.parametrize(
    ("slice_s", "window", "expected"),
    [
        (3.0, 3000, [2500]),
        (5.0, 3000, [2500, 4500]),
        (6.0, 3000, [2500, 5500]),
        (10.0, 3000, [2500, 4833, 7167, 9500]),
        (1.0, 3000, [1500]),
    ],
    ids=["equal", "two", "two side by side", "four", "longer than the slice"],
)
def test_a_slice_is_covered_by_as_few_windows_as_can(slice_s, window, expected):
    takes = WaveformInput(sample_rate_hz=RATE_HZ, window_samples=window)
    assert takes.window_starts(2.5, slice_s) == expected


def test_a_window_begins_no_earlier_than_the_recording():
    takes = WaveformInput(sample_rate_hz=RATE_HZ, window_samples=3000)
    assert takes.window_starts(0.5, 1.0) == [0]


def test_windows_are_the_samples_of_the_recording_and_zeros_after_its_end(tmp_path):
    samples = write(tmp_path / "a.wav", 7400)
    takes = WaveformInput(sample_rate_hz=RATE_HZ, window_samples=3000)
    found = list(read_windows(tmp_path / "a.wav", "mean", takes, [0.0, 2.5, 5.0], 5.0))
    assert [len(windows) for windows in found] == [2, 2, 2]
    padded = np.pad(samples, (0, 5000))
    for start, windows in zip((0, 2500, 5000), found, strict=True):
        for place, window in zip((start, start + 2000), windows, strict=True):
            np.testing.assert_array_equal(window, padded[place : place + 3000])


def test_windows_without_any_sound_of_the_recording_are_left_out(tmp_path):
    write(tmp_path / "a.wav", 1500)
    takes = WaveformInput(sample_rate_hz=RATE_HZ, window_samples=3000)
    found = list(read_windows(tmp_path / "a.wav", "mean", takes, [0.0], 5.0))
    assert [len(windows) for windows in found] == [1]


def test_a_file_that_is_not_the_recording_of_the_store_is_named(tmp_path):
    write(tmp_path / "a.wav", 1500)
    takes = WaveformInput(sample_rate_hz=RATE_HZ, window_samples=3000)
    with pytest.raises(StoreError, match=r"a\.wav ends before the slice at 2\.5 s"):
        list(read_windows(tmp_path / "a.wav", "mean", takes, [0.0, 2.5], 3.0))
    (tmp_path / "b.wav").write_bytes(b"")
    with pytest.raises(StoreError, match=r"b\.wav: .*empty"):
        list(read_windows(tmp_path / "b.wav", "mean", takes, [0.0], 3.0))
