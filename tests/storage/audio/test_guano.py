"""GUANO metadata of wav files: read where it is, never an error."""

import struct
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.audio.guano import guano_position, guano_site, guano_time, read_guano

TEXT = """GUANO|Version: 1.0
Timestamp: 2024-06-01T05:30:00-07:00
Loc Position: 47.5 -122.25
WA|Song Meter|Prefix: Märsh
Note: a: b
Timestamp: 2000-01-01 00:00:00
"""


def chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def wav(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.wav"


@pytest.mark.parametrize("before", [(), (chunk(b"fmt ", bytes(16)), chunk(b"data", bytes(7)))])
def test_fields_are_read_wherever_the_chunk_is(file: Path, before: tuple[bytes, ...]) -> None:
    file.write_bytes(wav(*before, chunk(b"guan", TEXT.encode() + b"\0")))
    fields = read_guano(file)
    assert fields["Note"] == "a: b"
    assert guano_time(fields) == datetime(2024, 6, 1, 5, 30)
    assert guano_position(fields) == (47.5, -122.25)
    assert guano_site(fields) == "Märsh"


def test_audio_beyond_32_bits_is_skipped_by_its_long_size(file: Path) -> None:
    long = chunk(b"ds64", struct.pack("<QQQI", 0, 6, 3, 0))
    audio = b"data\xff\xff\xff\xff" + bytes(6)
    file.write_bytes(wav(long, audio, chunk(b"guan", TEXT.encode())))
    assert guano_site(read_guano(file)) == "Märsh"


@pytest.mark.parametrize("text", ["", "91 0", "nan nan", "1", "1 2 3", "north 3", "0 -181"])
def test_positions_that_are_no_place_are_none(text: str) -> None:
    assert guano_position({"Loc Position": text}) is None


def test_other_files_have_none(file: Path) -> None:
    assert read_guano(file) == {}
    for data in (b"", b"OggS" * 9, wav(), wav(chunk(b"data", b""))):
        file.write_bytes(data)
        assert read_guano(file) == {}


@given(st.binary(max_size=200))
def test_no_bytes_are_an_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.wav"
    path.write_bytes(wav(data))
    fields = read_guano(path)
    guano_time(fields), guano_position(fields), guano_site(fields)
