"""Declared size and offset of the audio in a wav, aiff, au, w64, voc or sphere file.

libsndfile takes what is there and says nothing. Only the few bytes in front of the audio are
read. Formats: Microsoft's multimedia data standards (RIFF), EBU Tech 3306 (RF64), Apple's AIFF
1.3, the Sun audio header, Sony's Wave64, Creative's Voice file, NIST's SPHERE header.
"""

import math
import os
import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

MAX_CHUNKS = 1000
MAX_SPHERE_BYTES = 4096
VOICE = b"Creative Voice File\x1a"
VOICE_SAMPLES = (1, 2, 9)  # kinds of blocks: with a header, going on, and of more than 8 bits
SPHERE_NUMBER = re.compile(rb"^(\w+) -i (\d{1,18})$", re.MULTILINE)
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
    if head.startswith(VOICE):
        return _voice(file, total, struct.unpack_from("<H", head, len(VOICE))[0])
    if head.startswith(b"NIST_1A\n"):
        return _sphere(os.pread(file.fileno(), MAX_SPHERE_BYTES, 0), total)
    return None


def _voice(file: BinaryIO, total: int, at: int) -> AudioBytes | None:
    """The last block of samples of a voice file, whose blocks follow each other to the end."""
    found = None
    for _ in range(MAX_CHUNKS):
        head = os.pread(file.fileno(), 4, at)
        if len(head) < 4 or head[0] == 0:  # the block that ends a file is one byte
            break
        size = int.from_bytes(head[1:], "little")
        if head[0] in VOICE_SAMPLES:
            found = AudioBytes(start=at + 4, promised=size, total=total)
        at += 4 + size
    return found


def _sphere(header: bytes, total: int) -> AudioBytes | None:
    """The samples after a SPHERE header of lines `name -i value`; None where it counts none."""
    numbers = {name: int(value) for name, value in SPHERE_NUMBER.findall(header)}
    start = header[8:16].strip()
    try:
        sizes = [numbers[name] for name in (b"sample_count", b"channel_count", b"sample_n_bytes")]
    except KeyError:
        return None
    if not start.isdigit():
        return None
    return AudioBytes(start=int(start), promised=math.prod(sizes), total=total)


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
