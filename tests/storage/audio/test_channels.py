"""Channels become one: their mean, or one of them; those that cancel are noticed."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from storage.audio.channels import ChannelLevels, check_channel
from storage.audio.decode import Decoder
from storage.errors import AudioError, ConfigError

RATE_HZ = 16_000
BIRD = np.sin(np.arange(RATE_HZ) * 0.9).astype(np.float32)
NOISE = np.random.default_rng(1).standard_normal((2, RATE_HZ)).astype(np.float32)


def decoded(sound: np.ndarray, folder: Path, channel: str = "mean") -> tuple[np.ndarray, Decoder]:
    soundfile.write(folder / "x.wav", sound, RATE_HZ, subtype="FLOAT")
    decoder = Decoder(folder / "x.wav", RATE_HZ, channel)
    return np.concatenate([block.copy() for block in decoder]), decoder


def problem_of(*channels: np.ndarray) -> str | None:
    levels = ChannelLevels()
    for block in np.array_split(np.stack(channels, 1), 5):
        levels.add(block)
    return levels.problem()


@given(gain=st.floats(0.2, 5), noise=st.floats(0, 0.05), offset=st.floats(-1, 1))
def test_channels_that_cancel_are_noticed(gain: float, noise: float, offset: float) -> None:
    gain = np.float32(gain if 0.8 < gain < 1.25 else 1)
    left, right = BIRD + noise * NOISE[0] + offset, -gain * BIRD + noise * NOISE[1]
    assert "channels cancel (correlation -" in (problem_of(left, right) or "")
    assert problem_of(left, -right) is None


@pytest.mark.parametrize(
    "channels",
    [
        (BIRD, BIRD),
        (BIRD, 0 * BIRD),
        (BIRD, -0.1 * BIRD),
        (BIRD, np.roll(BIRD, 2)),
        (NOISE[0], NOISE[1]),
        (0 * BIRD, 0 * BIRD),
        (BIRD,),
        (BIRD, np.full_like(BIRD, np.nan)),
    ],
    ids=["equal", "dead", "weak", "spaced", "noise", "silent", "mono", "nan"],
)
def test_other_channels_are_not(channels: tuple[np.ndarray, ...]) -> None:
    assert problem_of(*channels) is None


@pytest.mark.parametrize(
    ("channel", "gain"),
    [("mean", 0.2), ("left", 0.5), ("right", -0.1), ("0", 0.5), ("1", -0.1), ("loudest", 0.5)],
)
def test_a_channel_is_taken(channel: str, gain: float, tmp_path: Path) -> None:
    sound, decoder = decoded(np.stack([0.5 * BIRD, -0.1 * BIRD], 1), tmp_path, channel)
    assert np.allclose(sound, gain * BIRD, atol=1e-6)
    assert decoder.problem is None


@pytest.mark.parametrize("channel", ["mean", "left", "right", "loudest", "3"])
def test_a_mono_recording_is_taken_as_it_is(channel: str, tmp_path: Path) -> None:
    sound, _ = decoded(BIRD, tmp_path, channel)
    assert np.array_equal(sound, BIRD)


def test_a_cancelling_recording_is_partial_and_a_channel_of_it_whole(tmp_path: Path) -> None:
    pair = np.stack([BIRD, -BIRD], 1)
    assert "source.channel=left, right or loudest" in str(decoded(pair, tmp_path)[1].problem)
    for channel in ("left", "right", "loudest"):
        sound, decoder = decoded(pair, tmp_path, channel)
        assert decoder.problem is None
        assert np.array_equal(np.abs(sound), np.abs(BIRD))


def test_a_channel_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="it has 2 channels"):
        decoded(np.stack([BIRD, BIRD], 1), tmp_path, "2")
    for channel in ("both", "-1", "1.5", ""):
        with pytest.raises(ConfigError, match="is none of mean, loudest, left, right"):
            check_channel(channel)
