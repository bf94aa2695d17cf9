"""Reads the GUANO metadata that recorders write into wav files: when and where they recorded.

A chunk named `guan` holds UTF-8 text, one `Key: value` a line (GUANO specification 1.0,
https://github.com/riggsd/guano-spec). Song Meters, AudioMoths and most bat detectors write it. The
file may be of any origin: chunks are counted, sizes are limited, values are checked.
"""

import struct
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

MAX_CHUNKS = 1000
MAX_TEXT_BYTES = 2**18
MAX_VALUE = 200  # letters
TIMESTAMP, POSITION = "Timestamp", "Loc Position"
SITES = ("Site", "NABat|Site Name", "WA|Song Meter|Prefix")  # the first that is there


def read_guano(path: Path) -> dict[str, str]:
    """Returns the fields of a wav file by name; none for other files and where there is no GUANO.

    Of a field that is repeated the first counts. A file that cannot be read gives none: decoding
    it says why.
    """
    try:
        with path.open("rb") as file:
            text = _find_text(file)
    except OSError:
        return {}
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and value.strip("\0 \t"):
            fields.setdefault(name.strip(), value.strip("\0 \t")[:MAX_VALUE])
    return fields


def guano_time(fields: dict[str, str]) -> datetime | None:
    """Returns the start of a recording on the recorder's clock, without a time zone."""
    try:
        return datetime.fromisoformat(fields.get(TIMESTAMP, "")).replace(tzinfo=None)
    except ValueError:
        return None


def guano_position(fields: dict[str, str]) -> tuple[float, float] | None:
    """Returns latitude and longitude, degrees (WGS84); None where they are no place on Earth."""
    try:
        latitude, longitude = map(float, fields.get(POSITION, "").replace(",", " ").split())
    except ValueError:
        return None
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):  # so for NaN
        return None
    return latitude, longitude


def guano_site(fields: dict[str, str]) -> str | None:
    """Returns the name of the site or of the recorder."""
    return next((fields[name] for name in SITES if name in fields), None)


def _find_text(file: BinaryIO) -> str:
    """Goes from chunk to chunk; the empty text where there is no GUANO."""
    head = file.read(12)
    if head[:4] not in (b"RIFF", b"RF64", b"BW64") or head[8:12] != b"WAVE":
        return ""
    at, long_size = 12, None
    for _ in range(MAX_CHUNKS):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return ""
        size = struct.unpack_from("<I", head, 4)[0]
        if head[:4] == b"guan":
            file.seek(at + 8)
            return file.read(min(size, MAX_TEXT_BYTES)).decode("utf-8", "replace")
        if head[:4] == b"ds64":  # sizes beyond 32 bits (EBU Tech 3306)
            long_size = _long_size(file, at)
        if head[:4] == b"data" and size == 0xFFFF_FFFF:
            if long_size is None:
                return ""
            size = long_size
        at += 8 + size + size % 2
    return ""


def _long_size(file: BinaryIO, at: int) -> int | None:
    """Size of the audio in a ds64 chunk, which follows that of the file."""
    file.seek(at + 16)
    data = file.read(8)
    size = struct.unpack("<Q", data)[0] if len(data) == 8 else None
    return size if size is not None and size < 2**60 else None
