"""Decoding in blocks gives what decoding at once gives, for every format, rate and name."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st

from storage.audio.decode import BLOCK_VALUES, FINE_BLOCK_FRAMES, Decoder, read_header
from storage.errors import AudioError
from storage.source.probe import probe_file
from tests.paths import ROOT
from tests.spoiled import (
    FORMATS,
    LENGTH_S,
    RATE_HZ,
    decoded,
    encoded,
    flac_with_total,
    flipped,
    ogg_pages,
    sound,
    with_samples,
)

LONG_S = 2.2 * BLOCK_VALUES / RATE_HZ


def decode(path: Path, rate_hz: int = RATE_HZ) -> np.ndarray:
    return np.concatenate([block.copy() for block in Decoder(path, rate_hz)])


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", FORMATS)
def test_blocks_joined_are_the_samples_of_one_read(kind: str, tmp_path: Path) -> None:
    data = encoded(kind, sound(LONG_S))
    decoder = Decoder(write(tmp_path / "long", data), RATE_HZ)
    blocks = [block.copy() for block in decoder]
    assert len(blocks) > 2
    assert max(len(block) for block in blocks) <= BLOCK_VALUES
    rounding = 3e-7 if kind == "mp3" else 0  # its decoder rounds otherwise after a seek
    assert np.abs(np.concatenate(blocks) - decoded(data)[:, 0]).max() <= rounding


@pytest.mark.parametrize("channels", [2, 6])
def test_channels_are_averaged(channels: int, tmp_path: Path) -> None:
    data = encoded("wav-float", sound(channels=channels))
    samples = decode(write(tmp_path / "many.wav", data))
    assert np.allclose(samples, decoded(data).mean(axis=1), atol=1e-7)


@pytest.mark.parametrize("rate_hz", [8000, 22_050, 32_000, 44_100, 44_150, 96_000, 256_000])
def test_resampling_in_blocks_is_resampling_at_once(rate_hz: int, tmp_path: Path) -> None:
    path = tmp_path / "rate.wav"
    whole = sound(LONG_S)[:, 0]
    soundfile.write(path, whole, rate_hz, subtype="FLOAT")
    expected = soxr.resample(whole, rate_hz, 32_000, quality="HQ")
    assert np.allclose(decode(path, 32_000), expected, atol=1e-5)


def test_float_peaks_beyond_full_scale_survive(tmp_path: Path) -> None:
    samples = decode(write(tmp_path / "loud.wav", encoded("wav-float", 4 * sound())))
    assert np.abs(samples).max() > 1.2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e11])
def test_unusable_samples_become_0_and_the_others_stay(value: float, tmp_path: Path) -> None:
    decoder = Decoder(write(tmp_path / "x.wav", with_samples({0: value, 999: value})), RATE_HZ)
    samples = np.concatenate([block.copy() for block in decoder])
    expected = sound()[:, 0].copy()
    expected[[0, 999]] = 0
    assert np.array_equal(samples, expected)
    assert decoder.problem.startswith("samples that are NaN")
    assert " 2;" in decoder.problem


def test_channels_that_cancel_to_no_number_become_0(tmp_path: Path) -> None:
    samples = sound(channels=2)
    samples[7] = np.inf, -np.inf
    samples[8] = np.finfo(np.float32).max
    decoder = Decoder(write(tmp_path / "x.wav", encoded("wav-float", samples)), RATE_HZ)
    assert (np.concatenate([block.copy() for block in decoder])[7:9] == 0).all()
    assert " 2;" in decoder.problem


def test_chained_streams_follow_each_other(tmp_path: Path) -> None:
    first, second = encoded("vorbis", sound(seed=1)), encoded("vorbis", sound(seed=2, channels=2))
    path = write(tmp_path / "chained.ogg", first + second)
    expected = np.concatenate([decoded(first)[:, 0], decoded(second).mean(axis=1)])
    assert np.allclose(decode(path), expected, atol=1e-7)
    assert read_header(path).duration_s == 2 * LENGTH_S


def test_chained_streams_of_other_rates_are_resampled_each(tmp_path: Path) -> None:
    parts = []
    for rate_hz in (16_000, 44_100, 8000):
        soundfile.write(tmp_path / "part.ogg", sound(2.0, seed=rate_hz)[:rate_hz], rate_hz)
        parts.append((tmp_path / "part.ogg").read_bytes())
    path = write(tmp_path / "chained.ogg", b"".join(parts))
    decoder = Decoder(path, 32_000)
    num_samples = sum(len(block) for block in decoder)
    assert decoder.problem is None
    assert num_samples == pytest.approx(32_000 * decoder.duration_s, abs=3)
    assert decoder.duration_s == pytest.approx(read_header(path).duration_s, abs=1e-4)


def test_all_before_a_decoder_error_is_kept(tmp_path: Path) -> None:
    data = encoded("flac", sound(LONG_S))
    decoder = Decoder(write(tmp_path / "x.flac", flipped(data, len(data) * 3 // 4)), RATE_HZ)
    samples = np.concatenate([block.copy() for block in decoder])
    frame = 4096
    assert len(samples) % FINE_BLOCK_FRAMES == 0
    assert 0.72 * LONG_S * RATE_HZ - 2 * frame < len(samples) < 0.78 * LONG_S * RATE_HZ
    assert np.array_equal(samples, decoded(data)[: len(samples), 0])
    assert "the decoder stopped" in decoder.problem


NAMES = [
    "a b (2).ogg",
    "Tränings data \u2013 鳥の声.ogg",
    "%41.x.ogg",
    "-.ogg",
    "noending",
    "é\n.ogg",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_do_not_matter(name: str, tmp_path: Path) -> None:
    assert len(decode(write(tmp_path / name, encoded("vorbis")))) == LENGTH_S * RATE_HZ


@pytest.mark.skipif(sys.platform == "darwin", reason="its file names must be Unicode")
def test_names_need_not_be_unicode(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.ogg"))
    assert len(decode(write(path, encoded("vorbis")))) == LENGTH_S * RATE_HZ


@pytest.mark.parametrize("reader", [read_header, decode])
def test_what_is_no_file_says_so(reader: object, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no such file"):
        reader(tmp_path / "none.ogg")
    with pytest.raises(AudioError, match="not a regular file"):
        reader(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "x.ogg", encoded("vorbis"))
    path.chmod(0)
    with pytest.raises(AudioError, match="cannot be read: Permission denied"):
        decode(path)


def test_a_decoder_knows_what_it_met(tmp_path: Path) -> None:
    decoder = Decoder(write(tmp_path / "x.ogg", encoded("vorbis", sound(channels=2))), 32_000)
    assert decoder.header is None
    assert sum(len(block) for block in decoder) == 32_000 * LENGTH_S
    assert decoder.header == read_header(tmp_path / "x.ogg")
    assert (decoder.header.num_channels, decoder.header.sample_rate_hz) == (2, RATE_HZ)
    assert decoder.header.num_frames == 48_000
    assert decoder.duration_s == LENGTH_S
    assert decoder.problem is None


@pytest.mark.parametrize("total", [0, 2**36 - 1], ids=["open", "absurd"])
def test_a_length_that_no_header_tells_is_counted(total: int, tmp_path: Path) -> None:
    path = write(tmp_path / "x.flac", flac_with_total(total))
    assert read_header(path).duration_s in (0, (2**36 - 1) / RATE_HZ)
    assert probe_file(path).header_s == LENGTH_S


def test_looking_at_a_file_says_what_decoding_would(tmp_path: Path) -> None:
    headers_only = b"".join(ogg_pages(encoded("vorbis"))[:1])
    found = probe_file(write(tmp_path / "x.ogg", headers_only))
    with pytest.raises(AudioError) as error:
        decode(tmp_path / "x.ogg")
    assert found.problem == str(error.value)
    assert found.size_bytes == len(headers_only)
    assert found.header_s == 0


@given(cut=st.integers(0, 200))
def test_any_first_bytes_are_named_or_decoded(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(tmp_path_factory.getbasetemp() / "head.mp3", encoded("mp3")[:cut])
    with pytest.raises(AudioError) as error:
        decode(path)
    assert "again" in str(error.value)


MEMORY = """
import resource, sys
from pathlib import Path
from storage.audio.decode import Decoder
from storage.recipe import Recipe
from storage.audio.slicing import cut_slices
count = sum(1 for _ in cut_slices(Decoder(Path(sys.argv[1]), 32000), Recipe()))
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_memory(path: Path) -> tuple[int, float]:
    """Number of slices of a file, and the peak memory of a fresh process that makes them, MB."""
    command = [sys.executable, "-c", MEMORY, str(path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    count, peak = map(int, result.stdout.split())
    return count, peak / (1024 if sys.platform != "darwin" else 1 << 20)


def write_long(path: Path, hours: float) -> Path:
    """Noise of any length at 8 kHz, written in pieces."""
    minute = 0.01 * np.random.default_rng(1).standard_normal(60 * 8000)
    with soundfile.SoundFile(path, "w", 8000, 1) as file:
        for _ in range(round(60 * hours)):
            file.write(minute)
    return path


LONG = [pytest.param(ending, 3, marks=pytest.mark.slow) for ending in ("flac", "ogg", "mp3", "wav")]


@pytest.mark.parametrize(("ending", "hours"), [("flac", 0.5), *LONG])
def test_memory_does_not_grow_with_length(ending: str, hours: float, tmp_path: Path) -> None:
    few, short_mb = peak_memory(write_long(tmp_path / f"short.{ending}", 0.05))
    many, long_mb = peak_memory(write_long(tmp_path / f"long.{ending}", hours))
    assert many > 9 * few
    assert long_mb - short_mb < 12


NOTES = """
import ctypes, sys, warnings
import soundfile
from pathlib import Path
from storage.audio.decode import Decoder

libc = ctypes.CDLL(None)
if sys.argv[2] == "theirs":
    try:
        soundfile.read(sys.argv[1])
    except soundfile.LibsndfileError:
        pass
else:
    for block in Decoder(Path(sys.argv[1]), 32_000):
        print("python", file=sys.stderr)
    libc.fputs(b"c library", ctypes.c_void_p.in_dll(libc, "stderr"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc's stderr can be set")
def test_notes_of_the_mp3_decoder_stay_off_the_terminal(tmp_path: Path) -> None:
    data = bytearray(encoded("mp3", sound(20)))
    for place in np.random.default_rng(1).integers(2000, len(data), 60):
        data[place] ^= 0x55
    path = write(tmp_path / "noisy.mp3", bytes(data))

    def printed(who: str) -> str:
        call = [sys.executable, "-c", NOTES, str(path), who]
        return subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True).stderr

    assert "mpg123" in printed("theirs")
    ours = printed("ours")
    assert "mpg123" not in ours
    assert ours.startswith("python")
    assert ours.endswith("c library")
