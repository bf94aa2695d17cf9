"""Declared size and offset of the audio in a wav, aiff, au or w64 file.

libsndfile takes what is there and says nothing. Only the few bytes in front of the audio are
read. Formats: Microsoft's multimedia data standards (RIFF), EBU Tech 3306 (RF64), Apple's AIFF
1.3, the Sun audio header, Sony's Wave64.
"""

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

MAX_CHUNKS = 1000
WAVE64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
WAVE64_DATA = bytes.fromhex("64617461f3acd3118cd100c04f8edb8a")


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioBytes:
    """Offset of the audio, its declared size and the size of the file, bytes.

    `promised` is None where the writer did not know. `outer_end` is where the whole container
    says that it ends, None where it says nothing.
    """

    start: int
    promised: int | None
    total: int
    outer_end: int | None = None

    @property
    def available(self) -> int:
        """Size of the audio that is there, bytes."""
        return max(0, self.total - self.start)

    @property
    def is_unfinished(self) -> bool:
        """True for a wav that was never closed: no size was filled in, but there are bytes."""
        if self.promised or self.outer_end is None:
            return False
        return self.outer_end <= self.start < self.start + self.available - 1


def find_audio_bytes(file: BinaryIO) -> AudioBytes | None:
    """The audio of a file of one of these formats; None for others and where none is found."""
    total = os.fstat(file.fileno()).st_size
    head = os.pread(file.fileno(), 40, 0)
    kind = head[:4]
    if kind in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return _riff(file, total, "<", b"data", 0)
    if kind == b"RIFX" and head[8:12] == b"WAVE":
        return _riff(file, total, ">", b"data", 0)
    if kind == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _riff(file, total, ">", b"SSND", 8)
    if kind in (b".snd", b"dns.") and len(head) >= 12:
        start, size = struct.unpack_from(">II" if kind == b".snd" else "<II", head, 4)
        return AudioBytes(start=start, promised=_known(size), total=total)
    if head.startswith(WAVE64_RIFF):
        return _wave64(file, total)
    return None


def _known(size: int) -> int | None:
    """A 32-bit size, or None for those that programs write when they cannot know the length."""
    return None if size >= 0xFFFF_0000 or 0x7FFF_F000 <= size <= 0x8000_0000 else size


def _riff(
    file: BinaryIO, total: int, order: str, name: bytes, lead_bytes: int
) -> AudioBytes | None:
    """Goes from chunk to chunk to the one with the audio, which begins `lead_bytes` inside."""
    outer = _known(struct.unpack(f"{order}I", os.pread(file.fileno(), 8, 0)[4:])[0])
    outer_end = None if outer is None else outer + 8
    at, long_size = 12, None
    for _ in range(MAX_CHUNKS):
        head = os.pread(file.fileno(), 24, at)
        if len(head) < 8:
            return None
        size = struct.unpack_from(f"{order}I", head, 4)[0]
        if head[:4] == b"ds64" and len(head) == 24:
            long_size = struct.unpack_from("<Q", head, 16)[0]
        if head[:4] == name:
            if size == 0xFFFF_FFFF and long_size is not None:
                return AudioBytes(start=at + 8, promised=long_size, total=total)
            start, promised = at + 8 + lead_bytes, _known(max(0, size - lead_bytes))
            return AudioBytes(start=start, promised=promised, total=total, outer_end=outer_end)
        at += 8 + size + size % 2
    return None


def _wave64(file: BinaryIO, total: int) -> AudioBytes | None:
    at = 40
    for _ in range(MAX_CHUNKS):
        head = os.pread(file.fileno(), 24, at)
        if len(head) < 24:
            return None
        size = struct.unpack_from("<Q", head, 16)[0]  # with these 24 bytes
        if head.startswith(WAVE64_DATA):
            return AudioBytes(start=at + 24, promised=max(0, size - 24), total=total)
        at += max(24, (size + 7) // 8 * 8)
    return None
