"""Recordings as WAV, of which any range of bytes can be read without decoding the rest.

    sounds = SoundFiles(remote)
    part = sounds.part("data/XC1.ogg", 5.0, 10.0)
    part.size, b"".join(part.read(0, part.size))

16-bit PCM with the rate and channels of the recording. Samples beyond full scale are clipped. A
file that ends before its header says goes on with silence.
"""

import io
import threading
import wave
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from storage.audio.sound_stream import SoundStream
from storage.errors import ObjectMissingError, StoreError
from storage.objects.client import RemoteConfig
from storage.objects.urls import is_remote
from storage.source.files import RecordingFiles

BLOCK_FRAMES = 1 << 16
KEPT_COPIES = 4  # of files in buckets
MAX_BYTES = 2**32 - 1024  # of a WAV
SAMPLE_BYTES = 2
FULL_SCALE = 2**15 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WavPart:
    """A stretch of a recording, from `first` on, `frames` long, as a WAV file of `size` bytes."""

    path: Path
    first: int
    frames: int
    rate_hz: int
    channels: int

    @property
    def header(self) -> bytes:
        """The bytes before the samples."""
        file = io.BytesIO()
        with wave.open(file, "wb") as writer:
            writer.setnchannels(self.channels)
            writer.setsampwidth(SAMPLE_BYTES)
            writer.setframerate(self.rate_hz)
            writer.setnframes(self.frames)
            writer.writeframesraw(b"")
        return _with_length(file.getvalue(), self.frames * self.frame_bytes)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return self.channels * SAMPLE_BYTES

    @property
    def size(self) -> int:
        """Bytes of the whole WAV."""
        return len(self.header) + self.frames * self.frame_bytes

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """Yields the bytes from `start` up to `end`."""
        header = self.header
        if start < len(header):
            yield header[start : min(end, len(header))]
        start, end = max(0, start - len(header)), end - len(header)
        if start >= end:
            return
        skipped = start % self.frame_bytes
        place = start // self.frame_bytes
        left = end - start
        with SoundStream(self.path) as file:
            is_sound = _go_to(file, min(self.first + place, file.frames))
            while left > 0:
                count = min(BLOCK_FRAMES, -(-(left + skipped) // self.frame_bytes))
                data = _block(file, count) if is_sound else bytes(count * self.frame_bytes)
                data = data[skipped : skipped + left]
                skipped = 0
                left -= len(data)
                yield data


def _go_to(file: SoundStream, place: int) -> bool:
    """Goes to a frame; False where the file is damaged before it."""
    try:
        file.go_to(place)
    except soundfile.LibsndfileError:
        return False
    return True


def _with_length(header: bytes, num_bytes: int) -> bytes:
    """The header of a WAV whose samples take so many bytes."""
    riff = (len(header) - 8 + num_bytes).to_bytes(4, "little")
    return header[:4] + riff + header[8:-4] + num_bytes.to_bytes(4, "little")


def _block(file: soundfile.SoundFile, count: int) -> bytes:
    """The next `count` frames as 16-bit samples; zeros where the file has ended."""
    try:
        if file.subtype == "PCM_16":  # stays as it is
            exact: np.ndarray = file.read(count, dtype="int16", always_2d=True, fill_value=0)
            return bytes(exact.astype("<i2").tobytes())
        samples = file.read(count, dtype="float32", always_2d=True, fill_value=0.0)
    except soundfile.LibsndfileError:  # damaged from here on
        samples = np.zeros((count, file.channels), np.float32)
    samples = np.clip(np.nan_to_num(samples), -1.0, 1.0)
    return bytes(np.rint(samples * FULL_SCALE).astype("<i2").tobytes())


class SoundFiles:
    """Opens parts of recordings; keeps copies of the last ones that are in buckets."""

    def __init__(self, remote: RemoteConfig) -> None:
        self._files = RecordingFiles(remote)
        self._lock = threading.Lock()
        self._copies: OrderedDict[str, tuple[Path, ExitStack]] = OrderedDict()

    def part(self, path: str, start_s: float, end_s: float | None) -> WavPart:
        """A stretch of a recording; up to its end without `end_s`.

        Raises ObjectMissingError where there is no such file, StoreError where it is no sound, or
        too long for one WAV.
        """
        local = self._local(path)
        try:
            with soundfile.SoundFile(local) as file:
                rate_hz, channels, frames = file.samplerate, file.channels, file.frames
        except (soundfile.LibsndfileError, OSError) as error:
            if not local.is_file():
                raise ObjectMissingError(f"the recording {path} is not there") from error
            raise StoreError(f"the recording {path} cannot be decoded") from error
        first = min(round(start_s * rate_hz), frames)
        last = frames if end_s is None else min(round(end_s * rate_hz), frames)
        part = WavPart(
            path=local,
            first=first,
            frames=max(0, last - first),
            rate_hz=rate_hz,
            channels=channels,
        )
        if part.size > MAX_BYTES:
            raise StoreError(f"the recording {path} is too long for a WAV: listen to its slices")
        return part

    def close(self) -> None:
        """Deletes the copies."""
        with self._lock:
            for _, stack in self._copies.values():
                stack.close()
            self._copies.clear()

    def _local(self, path: str) -> Path:
        if not is_remote(path):
            return Path(path)
        with self._lock:
            if path not in self._copies:
                stack = ExitStack()
                self._copies[path] = (stack.enter_context(self._files.open(path)), stack)
                while len(self._copies) > KEPT_COPIES:
                    self._copies.popitem(last=False)[1][1].close()
            self._copies.move_to_end(path)
            return self._copies[path][0]
