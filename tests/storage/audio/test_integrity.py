"""Nothing that is missing goes unnoticed, and what is stored of a spoiled file is its beginning."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.audio.decode import Decoder, read_header
from storage.audio.integrity import examine
from storage.audio.mp3 import scan_mpeg
from storage.audio.ogg import PIECE_BYTES, ogg_crc32, read_pages
from storage.errors import AudioError
from tests.spoiled import FORMATS, LENGTH_S, RATE_HZ, decoded, encoded, noise, ogg_pages, removed

MAX_MISSING_S = 0.5
CHECKED = ("vorbis", "opus", "flac")  # every byte of sound is under a checksum
OVERLAP = 4096  # samples at the end of what is left, which the lost rest would have changed
STORED, PARTIAL, REJECTED = "stored", "partial", "rejected"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Outcome of a file, with the samples at its rate, and its length for the plan."""

    status: str
    samples: np.ndarray
    header_s: float = 0.0
    reason: str = ""

    @property
    def missing_s(self) -> float:
        return LENGTH_S - len(self.samples) / RATE_HZ


Judge = Callable[[bytes], Outcome]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """Decodes bytes as the builder does. The file's ending says nothing."""
    path = tmp_path_factory.mktemp("spoiled") / "sound"

    def of(data: bytes) -> Outcome:
        path.write_bytes(data)
        decoder = Decoder(path, RATE_HZ)
        try:
            header_s = read_header(path).duration_s
            samples = np.concatenate([block.copy() for block in decoder])
        except AudioError as error:
            return Outcome(status=REJECTED, samples=np.zeros(0, np.float32), reason=str(error))
        return Outcome(
            status=PARTIAL if decoder.problem else STORED,
            samples=samples,
            header_s=header_s,
            reason=decoder.problem or "",
        )

    return of


def is_beginning(samples: np.ndarray, whole: np.ndarray) -> bool:
    sure = max(0, len(samples) - OVERLAP)
    return len(samples) <= len(whole) and np.allclose(samples[:sure], whole[:sure], atol=1e-6)


@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=60)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_gives_its_beginning_and_is_noticed(
    judge: Judge, kind: str, share: float
) -> None:
    data = encoded(kind)
    found = judge(data[: int(share * len(data))])
    assert found.status != STORED or found.missing_s <= MAX_MISSING_S
    assert is_beginning(found.samples, decoded(data)[:, 0])
    assert found.status == STORED or found.reason


@pytest.mark.parametrize("kind", ["vorbis", "opus", "mp3"])
def test_one_lost_byte_at_the_end_is_noticed(judge: Judge, kind: str) -> None:
    assert judge(encoded(kind)[:-1]).status == PARTIAL


@pytest.mark.parametrize("kind", CHECKED)
@settings(max_examples=60)
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_turned_bit_is_noticed_where_there_are_checksums(
    judge: Judge, kind: str, share: float, bit: int
) -> None:
    data = bytearray(encoded(kind))
    start = len(data) // 2 if kind == "flac" else 0  # before it: tags, which change no sound
    data[start + int(share * (len(data) - start))] ^= 1 << bit
    found = judge(bytes(data))
    assert found.status != STORED
    assert is_beginning(found.samples, decoded(encoded(kind))[:, 0])


@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=40)
@given(
    share=st.floats(0, 1, exclude_max=True), num_bytes=st.integers(1, 9000), how=st.integers(0, 2)
)
def test_a_hole_raises_nothing_and_never_hides_half_a_second(
    judge: Judge, kind: str, share: float, num_bytes: int, how: int
) -> None:
    data = encoded(kind)
    start = int(share * len(data))
    end = min(len(data), start + num_bytes)
    between = (b"", bytes(end - start), noise(end - start))[how]
    found = judge(data[:start] + between + data[end:])
    starts_late = kind == "mp3" and start == 0  # nothing says that there was more before
    assert starts_late or found.status != STORED or found.missing_s <= MAX_MISSING_S


@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=25)
@given(share=st.floats(0, 1), num_pages=st.integers(1, 3))
def test_the_planned_length_bounds_what_is_decoded(
    judge: Judge, kind: str, share: float, num_pages: int
) -> None:
    data = num_pages * encoded(kind)
    found = judge(data[: int(share * len(data))])
    assert len(found.samples) / RATE_HZ <= found.header_s + 1e-3


def test_only_some_whole_bytes_of_pcm_may_be_missing_unnoticed(judge: Judge) -> None:
    data = encoded("wav")
    assert judge(data[:-64]).status == STORED
    assert judge(data[:-65]).status == PARTIAL


@given(data=st.binary(max_size=300))
def test_the_checksum_of_ogg_is_that_of_its_definition(data: bytes) -> None:
    remainder = 0
    for byte in data:
        remainder ^= byte << 24
        for _ in range(8):
            carry = remainder & 0x8000_0000
            remainder = (remainder << 1 & 0xFFFF_FFFF) ^ (0x04C1_1DB7 if carry else 0)
    assert ogg_crc32(data) == remainder


def test_pages_are_found_between_junk_whatever_the_size_of_the_pieces(tmp_path: Path) -> None:
    pages = ogg_pages(encoded("vorbis"))
    parts = [noise(70_000), *pages, b"OggS" * 40, *pages * 40, noise(9), *pages[:-1]]
    path = tmp_path / "many.ogg"
    path.write_bytes(b"".join([*parts, pages[-1][:99]]))
    assert path.stat().st_size > 2 * PIECE_BYTES
    ends = np.cumsum([len(part) for part in parts]).tolist()
    with path.open("rb") as file:
        found = [(page.start, page.end) for page in read_pages(file)]
    assert found == [
        (end - len(part), end) for part, end in zip(parts, ends, strict=True) if part in pages
    ]


def test_the_pieces_of_an_mp3_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "long.mp3"
    frames = encoded("mp3")
    path.write_bytes(frames * 60)
    with path.open("rb") as file:
        scan = scan_mpeg(file, 0)
    assert path.stat().st_size > 2 * PIECE_BYTES
    assert scan.num_frames == 60 * (scan.noted_frames + 1) - 1
    assert (scan.damage_at, scan.is_cut, scan.has_junk) == (None, False, False)


@pytest.mark.parametrize("kind", ["vorbis", "opus", "mp3"])
def test_sound_files_are_decoded_as_they_are(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "sound"
    path.write_bytes(encoded(kind))
    assert examine(path).spans == ()


def test_a_live_stream_may_jump_behind_its_headers(judge: Judge) -> None:
    pages = ogg_pages(encoded("vorbis"))
    joined = b"".join([*pages[:2], *pages[3:]])
    found = judge(joined)
    assert found.status == STORED
    assert 0 < found.missing_s < LENGTH_S


def test_audio_behind_a_lost_page_is_left_out(judge: Judge) -> None:
    pages = ogg_pages(encoded("vorbis"))
    found = judge(b"".join([*pages[:4], *pages[5:]]))
    assert found.status == PARTIAL
    assert is_beginning(found.samples, decoded(encoded("vorbis"))[:, 0])
    assert "damaged at" in found.reason


def test_a_changed_tail_of_a_joined_mp3_leaves_the_first_part(judge: Judge) -> None:
    data = encoded("mp3")
    found = judge(data + removed(data, 5000, 6001))
    assert found.status == PARTIAL
    assert LENGTH_S < len(found.samples) / RATE_HZ < 2 * LENGTH_S
