"""The frames of an mp3 file: how many there are, and whether one follows the other.

An mp3 is a row of frames between tags. Its length is nowhere, or in a note (Xing or Info) in
the first frame; decoders estimate it from the size otherwise, and silently leave out audio where
they estimate too little. This walks over the frames without decoding them.

Measured: 4 ms for 5 minutes, 2-3 % of the time that decoding takes.
"""

import os
from dataclasses import dataclass
from typing import BinaryIO

PIECE_BYTES = 1 << 18
CHAIN = 4  # frames in a row that make chance unlikely
MAX_FRAME_BYTES = 1441
ID3_HEADER_BYTES = 10
ID3V1_BYTES = 128
APE_HEADER_BYTES = 32
DECODER_DELAY_FRAMES = 4  # delay and padding that a decoder may leave out, at most

_KBPS = {
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_LAYER_3 = 1
_NOTE_BITRATE = 9  # index of a rate whose frames have room for the note at any sample rate


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameHeader:
    """Header of a layer-3 frame: its first 4 bytes, parsed."""

    rate_hz: int
    num_samples: int
    size_bytes: int


@dataclass(slots=True, kw_only=True)
class MpegScan:
    """Result of a scan over the frames.

    The frames begin at `first_at`; the audio lies in [`start`, `end`), `num_frames` frames without
    the one that holds the note. `noted_frames` is what the note says. `damage_at` is where the
    first gap begins: `end` and `num_frames` stop there. `lacks_start`: broken frames are before the
    first. `is_cut`: the file ends inside a frame. `has_junk`: before or after the frames is
    something that is no tag. `is_steady`: all frames have one bit rate.
    """

    first: FrameHeader
    first_bytes: bytes
    first_at: int
    start: int
    end: int
    num_frames: int = 0
    noted_frames: int | None = None
    damage_at: int | None = None
    lacks_start: bool = False
    is_cut: bool = False
    has_junk: bool = False
    is_steady: bool = True

    @property
    def least_s(self) -> float:
        """Duration that decoding must give, s: all frames less the encoder's delay and padding."""
        frames = max(0, self.num_frames - DECODER_DELAY_FRAMES)
        return frames * self.first.num_samples / self.first.rate_hz

    def note(self) -> bytes:
        """A frame of silence that holds the true number of frames, to be put in front."""
        head = bytearray(self.first_bytes[:4])
        head[1] |= 1  # no checksum after the header
        head[2] = (_NOTE_BITRATE << 4) | (head[2] & 0x0C)
        header = parse_header(bytes(head))
        if header is None:
            raise ValueError(f"no layer-3 header: {self.first_bytes[:4].hex()}")
        frame = bytearray(header.size_bytes)
        text = b"Info" + (1).to_bytes(4, "big") + self.num_frames.to_bytes(4, "big")
        frame[: len(head)] = head
        place = _note_place(head)
        frame[place : place + len(text)] = text
        return bytes(frame)


def parse_header(data: bytes) -> FrameHeader | None:
    """The header of a layer-3 frame with a fixed bit rate; None where there is none."""
    if len(data) < 3 or data[0] != 0xFF or data[1] & 0xE0 != 0xE0:
        return None
    version, layer = data[1] >> 3 & 3, data[1] >> 1 & 3
    bitrate, rate = data[2] >> 4, data[2] >> 2 & 3
    if version == 1 or layer != _LAYER_3 or bitrate in (0, 15) or rate == 3:
        return None
    num_samples = 1152 if version == 3 else 576
    bits_per_s = 1000 * _KBPS[3 if version == 3 else 2][bitrate]
    rate_hz = _HZ[version][rate]
    return FrameHeader(
        rate_hz=rate_hz,
        num_samples=num_samples,
        size_bytes=num_samples // 8 * bits_per_s // rate_hz + (data[2] >> 1 & 1),
    )


def scan_mpeg(file: BinaryIO, start: int) -> MpegScan | None:
    """Walks over the frames after `start`; None where no row of frames is found."""
    data = os.pread(file.fileno(), PIECE_BYTES, start)
    place = _find_chain(data, 0, None, least=1)
    first = parse_header(data[place : place + 4]) if place >= 0 else None
    if first is None:
        return None
    at = start + place
    first_bytes = data[place : place + first.size_bytes]
    scan = MpegScan(first=first, first_bytes=first_bytes, first_at=at, start=at, end=at)
    scan.has_junk = place > 0
    scan.lacks_start = place > 0 and _frame_bytes(data[:3], _kind(first_bytes)) > 0
    scan.noted_frames = _noted_frames(first_bytes)
    if scan.noted_frames is not None:
        scan.start = scan.end = at + first.size_bytes
    _walk(file, scan)
    return scan


def id3_bytes(head: bytes) -> int:
    """The size of the ID3v2 tag that begins with these 10 bytes, or 0."""
    if not head.startswith(b"ID3") or len(head) < ID3_HEADER_BYTES:
        return 0
    size = 0
    for byte in head[6:10]:
        size = (size << 7) | (byte & 0x7F)
    return ID3_HEADER_BYTES + size


def _walk(file: BinaryIO, scan: MpegScan) -> None:
    """Counts frames up to the first gap, or to the end; tags between them are passed over."""
    kind = _kind(scan.first_bytes)
    sizes: dict[bytes, int] = {}  # of a frame, by its first 3 bytes; 0: no such frame
    at = scan.end
    while True:
        data = os.pread(file.fileno(), PIECE_BYTES, at)
        place = 0
        while place + 4 <= len(data):
            head = data[place : place + 3]
            size = sizes.get(head)
            if size is None:
                size = sizes[head] = _frame_bytes(head, kind)
            if not size or place + size > len(data):
                break
            place += size
            scan.num_frames += 1
        at += place
        if place:
            scan.end = at
        elif skip := _tag_bytes(data):
            at += skip
        else:
            break
    rates = {head[2] >> 4 for head, size in sizes.items() if size}
    scan.is_steady = len(rates) <= 1
    scan.has_junk = scan.has_junk or len(data) > 0
    if len(data) >= 4 and _frame_bytes(data[:3], kind):
        scan.is_cut = True
    elif _goes_on(file, at, kind):
        scan.damage_at = scan.end


def _goes_on(file: BinaryIO, at: int, kind: bytes) -> bool:
    """True where frames follow after bytes that are no frame."""
    while len(data := os.pread(file.fileno(), PIECE_BYTES, at)) > 4:
        if _find_chain(data, 0, kind, least=2) >= 0:
            return True
        at += len(data) - min(len(data) // 2, CHAIN * MAX_FRAME_BYTES)
    return False


def _find_chain(data: bytes, place: int, kind: bytes | None, *, least: int) -> int:
    """Finds the first `CHAIN` frames of a kind in a row, or `least` and the end; -1: none."""
    while (place := data.find(b"\xff", place)) >= 0:
        wanted = kind or _kind(data[place : place + 3])
        at, count = place, 0
        while count < CHAIN and (size := _frame_bytes(data[at : at + 3], wanted)):
            at += size
            count += at <= len(data)
        if count == CHAIN or (count >= least and at >= len(data)):
            return place
        place += 1
    return -1


def _kind(head: bytes) -> bytes:
    """Version, layer and sample rate: what all frames of a file share."""
    return bytes((head[1] & 0xFE, head[2] & 0x0C)) if len(head) >= 3 else b""


def _frame_bytes(head: bytes, kind: bytes) -> int:
    """The size of the frame that begins with these 3 bytes, or 0 where it is none of the kind."""
    header = parse_header(head)
    return header.size_bytes if header and _kind(head) == kind else 0


def _tag_bytes(data: bytes) -> int:
    """The size of the tag at the start of `data`, or 0: ID3v1, ID3v2, APE."""
    if data.startswith(b"TAG"):
        return ID3V1_BYTES
    if data.startswith(b"APETAGEX") and len(data) >= APE_HEADER_BYTES:
        is_header = data[23] & 0x20
        return APE_HEADER_BYTES + (int.from_bytes(data[12:16], "little") if is_header else 0)
    return id3_bytes(data[:ID3_HEADER_BYTES])


def _note_place(head: bytes | bytearray) -> int:
    """Offset of the encoder's tag in a frame: after the header and the side information."""
    is_version_1, is_mono = head[1] >> 3 & 3 == 3, head[3] >> 6 == 3
    if is_version_1:
        return 21 if is_mono else 36
    return 13 if is_mono else 21


def _noted_frames(frame: bytes) -> int | None:
    """The number of frames that the note in a first frame gives; None without one."""
    place = _note_place(frame)
    name, flags, count = (frame[place + at : place + at + 4] for at in (0, 4, 8))
    if name not in (b"Xing", b"Info") or len(count) < 4 or not flags[3] & 1:
        return None
    return int.from_bytes(count, "big")
