"""Audio file -> mono float32 blocks at the recipe's rate.

Channels are averaged, or one is taken; soxr HQ resamples. Files are decoded in sequence and in
blocks, so memory does not grow with their length. Samples stay float: ordinary ogg files peak at up
to 1.45 of full scale, which integers would clip. What is stored, stored in part or rejected: see
integrity.py.

Measured: decoding ogg takes about 1.5 ms per 5-s slice and core.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import soxr

from storage.audio.channels import LOUDEST, MEAN, ChannelLevels, channel_number
from storage.audio.integrity import MAX_ABS, Soundness, Span, examine, verdict
from storage.audio.kinds import CONVERT, other_kind
from storage.audio.sound_stream import SoundStream
from storage.errors import AudioError, check_machine

BLOCK_VALUES = 1 << 20  # 4 MB, 33 s: decoding and cutting disturb each other in the caches
FINE_BLOCK_FRAMES = 1 << 10
MAX_FRAMES = 1 << 40  # more than a year; headers that leave the length open say more
_OPENING = threading.Lock()  # libsndfile keeps why a file did not open in one place for all threads


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioHeader:
    """Properties that a file declares, all its streams together, at the rate of the first.

    `num_frames` is what the decoder expects: wrong in damaged files, 0 where it is left open.
    """

    sample_rate_hz: int
    num_channels: int
    num_frames: int

    @property
    def duration_s(self) -> float:
        """Length as the header gives it, s."""
        return self.num_frames / self.sample_rate_hz


def read_header(path: Path) -> AudioHeader:
    """The header of an audio file; raises AudioError with a reason that users can act on."""
    try:
        return _read_header(path, _examine(path, check_crc=False))
    except AudioError:  # the checksums may tell why
        return _read_header(path, _examine(path))


class Decoder:
    """Iterates once over a file's mono blocks at `sample_rate_hz`; then knows what it met.

    `channel`: mean, left, right, loudest or a number. `header`: what the file said. `duration_s`:
    what was decoded, s. `problem`: why the recording is partial, in words that users can act on;
    None where it is whole. Raises AudioError where there is no sound at all.
    """

    def __init__(self, path: Path, sample_rate_hz: int, channel: str = MEAN) -> None:
        self._path = path
        self._target_hz = sample_rate_hz
        self._channel = channel
        self._levels = ChannelLevels()
        self._soundness = Soundness()
        self._headers: list[AudioHeader] = []
        self._num_unusable = 0
        self._stopped_by: str | None = None
        self.duration_s = 0.0
        self.problem: str | None = None

    @property
    def header(self) -> AudioHeader | None:
        """Declared properties of the file; None before it was opened."""
        return _joined(self._headers) if self._headers else None

    def __iter__(self) -> Iterator[np.ndarray]:
        self._soundness = _examine(self._path)
        if self._channel == LOUDEST:
            self._channel = self._loudest()
        num_samples = 0
        for span in self._soundness.spans or (None,):
            for block in self._span_blocks(span):
                num_samples += len(block)
                yield block
            if self._stopped_by:
                break
        if not num_samples:
            reason = self._soundness.problem or self._stopped_by or "its header names 0 samples"
            raise AudioError(f"it holds no sound ({reason}): get it again, or take it off the list")
        self.problem = verdict(
            self._soundness,
            decoded_s=self.duration_s,
            header_s=_joined(self._headers).duration_s,
            num_unusable=self._num_unusable,
            stopped_by=self._stopped_by,
        )
        if cancelling := self._levels.problem():
            self.problem = "; ".join(filter(None, (self.problem, cancelling)))

    def _loudest(self) -> str:
        """The number of the loudest channel, by decoding all of them once before."""
        if read_header(self._path).num_channels == 1:
            return MEAN
        first = Decoder(self._path, self._target_hz)
        for _ in first:
            pass
        return str(first._levels.loudest())

    def _span_blocks(self, span: Span | None) -> Iterator[np.ndarray]:
        """One stream, resampled. Those after the first may be unreadable: that ends it there."""
        try:
            with _open(self._path, span, self._soundness) as file:
                header = _header(file)
                channel_number(self._channel, header.num_channels)  # or AudioError, at once
                self._headers.append(header)
                blocks = self._mono_blocks(self._read(file, span), header.sample_rate_hz)
                yield from _resample(blocks, header.sample_rate_hz, self._target_hz)
        except AudioError:
            if not self._headers:
                raise
            self._stopped_by = "the next stream in the file is of an unknown kind"

    def _read(self, file: soundfile.SoundFile, span: Span | None) -> Iterator[np.ndarray]:
        """Blocks [n, channels] up to the end, or to where the decoder stops with an error.

        All in one buffer: each block is there until the next one is asked for.
        """
        num_read = 0
        buffer = np.empty((max(1, BLOCK_VALUES // file.channels), file.channels), np.float32)
        try:
            while len(block := file.read(out=buffer)):
                num_read += len(block)
                yield block
        except soundfile.LibsndfileError as error:
            self._stopped_by = _plain(error)
        if self._stopped_by:  # the block with the error was lost whole
            with _open(self._path, span, self._soundness) as again:
                yield from _fine_blocks(again, num_read)

    def _mono_blocks(self, blocks: Iterator[np.ndarray], rate_hz: int) -> Iterator[np.ndarray]:
        before_s, num_frames = self.duration_s, 0
        for block in blocks:
            num_frames += len(block)
            self.duration_s = before_s + num_frames / rate_hz
            channel = channel_number(self._channel, block.shape[1])
            if channel is None and block.shape[1] > 1:
                self._levels.add(block)
            mono = _mono(block) if channel is None else block[:, channel]
            if not -MAX_ABS <= mono.min() <= mono.max() <= MAX_ABS:  # so for NaN
                usable = np.abs(mono) <= MAX_ABS
                self._num_unusable += int(len(mono) - usable.sum())
                mono = np.where(usable, mono, np.float32(0))
            yield mono


def _read_header(path: Path, soundness: Soundness) -> AudioHeader:
    headers: list[AudioHeader] = []
    for span in soundness.spans or (None,):
        try:
            with _open(path, span, soundness) as file:
                headers.append(_header(file))
        except AudioError:
            if not headers:
                raise
            break
    return _joined(headers)


class _Window:
    """One span of a file, as much like a file as soundfile needs it."""

    def __init__(self, path: Path, span: Span) -> None:
        self._file = path.open("rb", buffering=0)
        self._span = span
        self._size = len(span.head) + span.end - span.start
        self._place = 0

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: bytearray | memoryview) -> int:
        view = memoryview(buffer).cast("B")
        if head := self._span.head[self._place : self._place + len(view)]:
            view[: len(head)] = head
            count = len(head)
        else:
            view = view[: max(0, self._size - self._place)]
            at = self._span.start + self._place - len(self._span.head)
            count = os.preadv(self._file.fileno(), [view], at) if len(view) else 0
        self._place += count
        return count

    def close(self) -> None:
        self._file.close()


@contextmanager
def _open(path: Path, span: Span | None, soundness: Soundness) -> Iterator[soundfile.SoundFile]:
    with ExitStack() as stack:
        try:
            where: bytes | _Window = os.fsencode(path)
            if span is not None:
                where = stack.enter_context(closing(_Window(path, span)))
            with _OPENING:
                file = SoundStream(where)
        except (soundfile.LibsndfileError, TypeError) as error:
            reason = soundness.problem or f"damaged or of an unknown format: {_plain(error)}"
            raise AudioError(f"not readable as audio ({reason}): get the file again") from error
        yield stack.enter_context(file)


def _examine(path: Path, *, check_crc: bool = True) -> Soundness:
    """Scans a file before it is opened; raises AudioError on what is no audio.

    A build does so twice: for the length that the plan needs (no checksums), and before decoding,
    by then maybe in another process, since the file may have changed in between.
    """
    try:
        if not path.exists():
            raise AudioError(f"there is no such file: {path.name}")
        if not path.is_file():
            raise AudioError("it is not a regular file")
        with path.open("rb", buffering=0) as file:
            head = file.read(1024)
        if problem := _no_audio(head, path):
            raise AudioError(problem)
        return examine(path, check_crc=check_crc)
    except OSError as error:
        check_machine(error)
        raise AudioError(f"it cannot be read: {error.strerror}") from error


def _fine_blocks(file: soundfile.SoundFile, num_known: int) -> Iterator[np.ndarray]:
    """Yields the samples between `num_known` and the error."""
    num_read = 0
    with suppress(soundfile.LibsndfileError):
        while len(block := file.read(FINE_BLOCK_FRAMES, dtype="float32", always_2d=True)):
            num_read += len(block)
            if num_read > num_known:
                yield block[-(num_read - num_known) :]
                num_known = num_read


def _mono(block: np.ndarray) -> np.ndarray:
    """The mean of the channels; column by column, which is 10 times as fast as `mean(axis=1)`."""
    mono: np.ndarray = block[:, 0]
    with np.errstate(invalid="ignore", over="ignore"):  # what is no number is dealt with later
        for channel in range(1, block.shape[1]):
            mono = mono + block[:, channel]
    return mono / np.float32(block.shape[1]) if block.shape[1] > 1 else mono


def _resample(blocks: Iterator[np.ndarray], from_hz: int, to_hz: int) -> Iterator[np.ndarray]:
    if from_hz == to_hz:
        yield from blocks
        return
    stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _header(file: soundfile.SoundFile) -> AudioHeader:
    if not 1000 <= file.samplerate <= 1_000_000 or file.channels < 1:
        raise AudioError(
            f"the header gives {file.samplerate} Hz and {file.channels} channels, which no "
            "recorder makes: the file is damaged"
        )
    return AudioHeader(
        sample_rate_hz=file.samplerate,
        num_channels=file.channels,
        num_frames=file.frames if 0 < file.frames < MAX_FRAMES else 0,
    )


def _joined(headers: list[AudioHeader]) -> AudioHeader:
    total_s = sum(header.duration_s for header in headers)
    return replace(headers[0], num_frames=round(total_s * headers[0].sample_rate_hz))


def _plain(error: Exception) -> str:
    """libsndfile's own words, without the path it repeats."""
    words = str(getattr(error, "error_string", error)).strip().rstrip(".")
    if words.startswith("File does not exist"):  # its words for a file without an mp3 frame
        return "no frame of sound was found"
    return words.removeprefix("Error : ")


def _no_audio(head: bytes, path: Path) -> str | None:
    """Names the kind of a file whose first bytes are no audio; None where they may be."""
    text = head.strip().lower()
    if not head:
        return "the file is empty (0 bytes): download it again"
    if text.startswith(b"version https://git-lfs"):
        return "a git-LFS pointer, not the recording: run `git lfs pull`"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "a web page, not a recording: download it again"
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"\0\0\1\0")):
        return "an image, not a recording: download it again"
    if kind := other_kind(head):
        command = CONVERT.format(ending=path.suffix)
        return f"{kind} is not decoded here: convert it, as with: {command}"
    if not head.isascii() or b"\0" in head:
        return None
    if b"\n" not in text and Path(text.decode()).suffix == path.suffix.lower():
        return f"a symbolic link checked out as text: get the file that it names, {head.decode()}"
    return "a text file, not a recording: download it again"
