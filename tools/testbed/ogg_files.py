"""Writes Ogg Vorbis files of which equal sounds have equal bytes."""

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from storage.audio.ogg import ogg_crc32, read_pages

WRITE_S = 40  # libsndfile's encoder keeps what it is given on the stack

Waveform = np.ndarray[Any, np.dtype[np.float32]]


def write_ogg(path: Path, sound: Waveform, rate_hz: int, *, serial: int) -> None:
    """Writes mono Ogg Vorbis; equal sound and `serial` give equal bytes.

    libsndfile numbers each stream at random: this replaces the number and the page checksums.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(path, "w", rate_hz, 1, format="OGG", subtype="VORBIS") as ogg:
        for start in range(0, len(sound), WRITE_S * rate_hz):
            ogg.write(sound[start : start + WRITE_S * rate_hz])
    data = bytearray(path.read_bytes())
    with path.open("rb") as file:
        for page in read_pages(file):  # header fields as in RFC 3533, section 6
            number = slice(page.start + 14, page.start + 18)
            checksum = slice(page.start + 22, page.start + 26)
            data[number], data[checksum] = serial.to_bytes(4, "little"), bytes(4)
            data[checksum] = ogg_crc32(bytes(data[page.start : page.end])).to_bytes(4, "little")
    path.write_bytes(data)
