"""Audio file -> mono float32 blocks at the recipe's rate.

Channels are averaged, soxr HQ resamples. Files are decoded in sequence and in blocks, so memory
does not grow with their length. Samples stay float: ordinary ogg files peak at up to 1.45 of full
scale, which integers would clip.

Measured: decoding ogg takes about 1.5 ms per 5-s slice and core.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from storage.errors import AudioError

BLOCK_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioHeader:
    """What a file says of itself; `num_frames` may be wrong in damaged files."""

    sample_rate_hz: int
    num_channels: int
    num_frames: int
    format: str

    @property
    def duration_s(self) -> float:
        """Length as the header gives it, s."""
        return self.num_frames / self.sample_rate_hz


def read_header(path: Path) -> AudioHeader:
    """The header of an audio file; raises AudioError with a reason that a person can act on."""
    with _open(path) as file:
        return _header(file)


class Decoder:
    """Iterates over one file's mono blocks at `sample_rate_hz`; afterwards knows what it met."""

    def __init__(self, path: Path, sample_rate_hz: int) -> None:
        self._path = path
        self._target_hz = sample_rate_hz
        self.header: AudioHeader | None = None
        self.num_frames = 0
        self.num_nonfinite = 0
        self.stopped_by: str | None = None

    def __iter__(self) -> Iterator[np.ndarray]:
        with _open(self._path) as file:
            self.header = _header(file)
            yield from _resample(
                self._mono_blocks(file), self.header.sample_rate_hz, self._target_hz
            )

    @property
    def duration_s(self) -> float:
        """Length of what was decoded so far, s."""
        return self.num_frames / self.header.sample_rate_hz if self.header else 0.0

    def _mono_blocks(self, file: soundfile.SoundFile) -> Iterator[np.ndarray]:
        size = max(1, round(BLOCK_S * file.samplerate))
        while True:
            try:
                block = file.read(size, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                self.stopped_by = f"the decoder stopped after {self.duration_s:.1f} s: {error}"
                return
            if not len(block):
                return
            self.num_frames += len(block)
            mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
            finite = np.isfinite(mono)
            if not finite.all():
                self.num_nonfinite += int(len(mono) - finite.sum())
                mono = np.where(finite, mono, np.float32(0))
            yield np.ascontiguousarray(mono, dtype=np.float32)


def _resample(blocks: Iterator[np.ndarray], from_hz: int, to_hz: int) -> Iterator[np.ndarray]:
    if from_hz == to_hz:
        yield from blocks
        return
    stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _open(path: Path) -> soundfile.SoundFile:
    if not path.exists():
        raise AudioError(f"there is no such file: {path.name}")
    if not path.is_file():
        raise AudioError("it is not a regular file")
    if path.stat().st_size == 0:
        raise AudioError("the file is empty (0 bytes): download it again")
    try:
        return soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, TypeError) as error:
        raise AudioError(f"{_first_words(path)} ({_plain(error)})") from error


def _header(file: soundfile.SoundFile) -> AudioHeader:
    if not 1000 <= file.samplerate <= 1_000_000 or file.channels < 1:
        raise AudioError(
            f"the header gives {file.samplerate} Hz and {file.channels} channels, which no "
            "recorder makes: the file is damaged"
        )
    return AudioHeader(
        sample_rate_hz=file.samplerate,
        num_channels=file.channels,
        num_frames=max(0, file.frames),
        format=f"{file.format}/{file.subtype}",
    )


def _plain(error: Exception) -> str:
    """libsndfile's own words, without the path it repeats."""
    return str(getattr(error, "error_string", error)).strip().rstrip(".")


def _first_words(path: Path) -> str:
    """What a file that is no audio seems to be."""
    with path.open("rb") as file:
        head = file.read(200)
    text = head.lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        return "a git-LFS pointer, not the recording: run `git lfs pull`"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "a web page, not a recording: download it again"
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8")):
        return "an image, not a recording"
    if head.isascii() and b"\0" not in head:
        return "a text file, not a recording: download it again"
    return "not readable as audio: damaged or of an unknown format"
