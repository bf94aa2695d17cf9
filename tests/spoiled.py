"""Sound files as bytes, and what can go wrong with them: small, seeded, made by hand.

CASES["ogg-cut"].make() -> bytes
"""

import io
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import soundfile

from storage.audio.mp3 import scan_mpeg
from storage.audio.ogg import ogg_crc32

RATE_HZ = 16_000
LENGTH_S = 3.0
FORMATS = {  # id -> libsndfile's format and subtype
    "vorbis": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "flac": ("FLAC", "PCM_16"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "wav": ("WAV", "PCM_16"),
    "wav-float": ("WAV", "FLOAT"),
    "wav-adpcm": ("WAV", "IMA_ADPCM"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
}


def sound(seconds: float = LENGTH_S, *, seed: int = 7, channels: int = 1) -> np.ndarray:
    """Noise that swells over a tone, float32 [S, C]; the channels differ."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    columns = []
    for channel in range(channels):
        tone = 0.3 * np.sin(2 * np.pi * (440.0 + 100 * channel) * time_s)
        noise = 0.1 * rng.standard_normal(len(time_s)) * (0.2 + time_s / seconds)
        columns.append(tone + noise)
    return np.stack(columns, axis=1).astype(np.float32)


def encoded(kind: str, samples: np.ndarray | None = None, **how: object) -> bytes:
    """A sound file of one of FORMATS; `how` goes to the encoder."""
    if samples is None and not how:
        return _encoded_sound(kind)
    return _encode(kind, sound() if samples is None else samples, **how)


@cache
def _encoded_sound(kind: str) -> bytes:
    return _encode(kind, sound())


def _encode(kind: str, samples: np.ndarray, **how: object) -> bytes:
    data = io.BytesIO()
    name, subtype = FORMATS[kind]
    with soundfile.SoundFile(
        data, "w", RATE_HZ, samples.shape[1], format=name, subtype=subtype, **how
    ) as file:
        for start in range(0, len(samples), RATE_HZ):  # libsndfile crashes on long blocks of ogg
            file.write(samples[start : start + RATE_HZ])
    return data.getvalue()


def decoded(data: bytes) -> np.ndarray:
    """Samples as libsndfile decodes them in one go, float32 [S, C]."""
    samples, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    return samples


def flipped(data: bytes, place: int, bit: int = 0) -> bytes:
    """One bit turned."""
    return replaced(data, place, bytes([data[place] ^ 1 << bit]))


def replaced(data: bytes, place: int, new: bytes) -> bytes:
    """Bytes overwritten in place."""
    return data[:place] + new + data[place + len(new) :]


def removed(data: bytes, start: int, end: int) -> bytes:
    """Bytes taken out."""
    return data[:start] + data[end:]


def noise(num_bytes: int, seed: int = 3) -> bytes:
    """Random bytes."""
    return np.random.default_rng(seed).bytes(num_bytes)


def ogg_pages(data: bytes) -> list[bytes]:
    """The pages of an ogg file."""
    pages, place = [], 0
    while place < len(data):
        segments = data[place + 26]
        end = place + 27 + segments + sum(data[place + 27 : place + 27 + segments])
        pages.append(data[place:end])
        place = end
    return pages


def mp3_frames(data: bytes) -> bytes:
    """An mp3 without the frame that notes the number of frames."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        scan = scan_mpeg(file, 0)
    return data[scan.start : scan.end]


def id3_tag(num_bytes: int) -> bytes:
    """An ID3v2 tag with `num_bytes` after its header."""
    size = bytes(num_bytes >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x04\x00\x00" + size + bytes(num_bytes)


def ape_tag(num_bytes: int) -> bytes:
    """An APE tag with header and footer."""
    size = struct.pack("<III", 2000, num_bytes + 32, 0)
    header, footer = (
        b"APETAGEX" + size + struct.pack("<I", flags) + bytes(8) for flags in (0xA0000000, 0)
    )
    return header + noise(num_bytes) + footer


def wav_with_sizes(outer: int, inner: int) -> bytes:
    """A wav whose two sizes are overwritten."""
    data = encoded("wav")
    place = data.index(b"data") + 4
    return replaced(replaced(data, 4, struct.pack("<I", outer)), place, struct.pack("<I", inner))


def flac_with_total(total: int) -> bytes:
    """A flac whose header names another number of samples; 0: unknown."""
    data = encoded("flac")
    high = data[21] & 0xF0 | total >> 32
    return replaced(data, 21, bytes([high]) + struct.pack(">I", total & 0xFFFF_FFFF))


def with_samples(kind: str, values: dict[int, float]) -> bytes:
    """A file in which some samples have other values."""
    samples = sound()
    for place, value in values.items():
        samples[place] = value
    return _encode(kind, samples)


def _half(kind: str) -> bytes:
    data = encoded(kind)
    return data[: len(data) // 2]


def _vbr() -> bytes:
    loud_first = sound()[::-1]
    return encoded("mp3", loud_first, bitrate_mode="VARIABLE", compression_level=0.5)


def _swapped_pages() -> bytes:
    pages = ogg_pages(encoded("vorbis"))
    pages[3], pages[4] = pages[4], pages[3]
    return b"".join(pages)


def _unknown_stream() -> bytes:
    """An ogg stream of one page, whole, of a kind that no decoder knows."""
    head = b"OggS\0" + bytes([6]) + bytes(8) + b"melb" + bytes(4)
    body = bytes([1, 9]) + b"\x80something"[:9]
    checksum = ogg_crc32(head + bytes(4) + body)
    return head + checksum.to_bytes(4, "little") + body


@dataclass(frozen=True, kw_only=True)
class Case:
    """A file: its ending, its bytes, and what must become of it."""

    make: Callable[[], bytes]
    status: str
    length_s: float = 0.0
    word: str = ""
    ending: str = ".ogg"


def _stored(ending: str, make: Callable[[], bytes], length_s: float = LENGTH_S) -> Case:
    return Case(make=make, status="stored", length_s=length_s, ending=ending)


def _partial(ending: str, word: str, length_s: float, make: Callable[[], bytes]) -> Case:
    return Case(make=make, status="partial", length_s=length_s, word=word, ending=ending)


def _rejected(ending: str, word: str, make: Callable[[], bytes]) -> Case:
    return Case(make=make, status="rejected", word=word, ending=ending)


WHOLE = {
    **{f"whole-{kind}": _stored(".ogg", lambda kind=kind: encoded(kind)) for kind in FORMATS},
    "no-ending": _stored("", lambda: encoded("vorbis", sound(seed=1))),
    "stereo": _stored(".ogg", lambda: encoded("vorbis", sound(channels=2))),
    "six-channels": _stored(".wav", lambda: encoded("wav", sound(channels=6))),
    "one-sample": _stored(".wav", lambda: encoded("wav", sound(1 / RATE_HZ)), 1 / RATE_HZ),
    "silence": _stored(".flac", lambda: encoded("flac", 0 * sound())),
    "constant": _stored(".flac", lambda: encoded("flac", 0 * sound() + 0.5)),
    "clipped": _stored(".wav", lambda: encoded("wav", np.sign(sound()))),
    "float-beyond-1": _stored(".wav", lambda: encoded("wav-float", 1e6 * sound())),
    "ogg-garbage-behind": _stored(".ogg", lambda: encoded("vorbis") + noise(300_000)),
    "ogg-zeros-behind": _stored(".ogg", lambda: encoded("vorbis") + bytes(1_000_000)),
    "ogg-behind-tags": _stored(".ogg", lambda: id3_tag(500) + id3_tag(9) + encoded("vorbis")),
    "ogg-chained": _stored(".ogg", lambda: 2 * encoded("vorbis"), 2 * LENGTH_S),
    "ogg-chained-unlike": _stored(
        ".ogg",
        lambda: encoded("vorbis", sound(channels=2)) + noise(99) + encoded("opus"),
        2 * LENGTH_S,
    ),
    "mp3-no-note": _stored(".mp3", lambda: mp3_frames(encoded("mp3"))),
    "mp3-no-note-variable": _stored(".mp3", lambda: mp3_frames(_vbr())),
    "mp3-joined": _stored(".mp3", lambda: 2 * encoded("mp3"), 2 * LENGTH_S),
    "mp3-joined-tagged": _stored(
        ".mp3", lambda: 2 * (id3_tag(3000) + encoded("mp3") + b"TAG" + bytes(125)), 2 * LENGTH_S
    ),
    "mp3-tagged": _stored(
        ".mp3",
        lambda: id3_tag(90) + id3_tag(9) + encoded("mp3") + ape_tag(700) + b"TAG" + bytes(125),
    ),
    "mp3-zeros-before": _stored(".mp3", lambda: bytes(3000) + encoded("mp3")),
    "mp3-zeros-behind": _stored(".mp3", lambda: encoded("mp3") + bytes(1_000_000)),
    "mp3-garbage-behind": _stored(".mp3", lambda: encoded("mp3") + noise(300_000)),
    "wav-open-length": _stored(".wav", lambda: wav_with_sizes(0xFFFF_FFFF, 0xFFFF_FFFF)),
    "wav-garbage-behind": _stored(".wav", lambda: encoded("wav") + noise(5000)),
    "wav-twice": _stored(".wav", lambda: 2 * encoded("wav")),
    "flac-open-length": _stored(".flac", lambda: flac_with_total(0)),
}
IN_PART = {
    "ogg-cut": _partial(".ogg", "no end mark", 0.94, lambda: _half("vorbis")),
    "ogg-cut-at-page": _partial(
        ".ogg", "no end mark", 1.86, lambda: b"".join(ogg_pages(encoded("vorbis"))[:-2])
    ),
    "ogg-last-byte": _partial(".ogg", "no end mark", 2.8, lambda: encoded("vorbis")[:-1]),
    "ogg-changed": _partial(".ogg", "damaged at", 0.94, lambda: flipped(encoded("vorbis"), 9000)),
    "ogg-zeros-inside": _partial(
        ".ogg", "damaged at", 0.94, lambda: replaced(encoded("vorbis"), 8000, bytes(3000))
    ),
    "ogg-page-missing": _partial(
        ".ogg", "damaged at", 0.94, lambda: removed(encoded("vorbis"), 7683, 11869)
    ),
    "ogg-pages-swapped": _partial(".ogg", "out of order", 0.94, _swapped_pages),
    "ogg-chained-first-cut": _partial(
        ".ogg",
        "no end mark",
        2.8 + LENGTH_S,
        lambda: b"".join(ogg_pages(encoded("vorbis"))[:-1]) + encoded("vorbis"),
    ),
    "ogg-chained-second-changed": _partial(
        ".ogg",
        "damaged at",
        LENGTH_S + 0.94,
        lambda: encoded("vorbis") + flipped(encoded("vorbis"), 9000),
    ),
    "ogg-chained-second-unreadable": _partial(
        ".ogg", "damaged at", LENGTH_S, lambda: encoded("vorbis") + flipped(encoded("vorbis"), 99)
    ),
    "ogg-chained-unknown-between": _partial(
        ".ogg",
        "decoder stopped after 3.00",
        LENGTH_S,
        lambda: encoded("vorbis") + _unknown_stream() + encoded("opus"),
    ),
    "opus-cut": _partial(".opus", "no end mark", 1.0, lambda: _half("opus")),
    "flac-cut": _partial(".flac", "decoder stopped", 1.5, lambda: _half("flac")),
    "flac-changed": _partial(
        ".flac", "decoder stopped", 1.54, lambda: flipped(encoded("flac"), 45_000)
    ),
    "flac-names-more": _partial(
        ".flac", "header names 60.00 s", 3.0, lambda: flac_with_total(60 * RATE_HZ)
    ),
    "mp3-cut": _partial(".mp3", "mp3 frames are there", 1.4, lambda: _half("mp3")),
    "mp3-cut-no-note": _partial(
        ".mp3", "inside an mp3 frame", 2.0, lambda: mp3_frames(encoded("mp3"))[:8001]
    ),
    "mp3-zeros-inside": _partial(
        ".mp3", "damaged at", 1.2, lambda: replaced(encoded("mp3"), 5000, bytes(2000))
    ),
    "mp3-bytes-missing": _partial(
        ".mp3", "damaged at", 1.2, lambda: removed(encoded("mp3"), 5000, 6001)
    ),
    "mp3-wide-hole": _partial(
        ".mp3",
        "damaged at",
        1.2,
        lambda: encoded("mp3")[:5000] + bytes(1_000_000) + encoded("mp3")[6000:],
    ),
    "mp3-start-broken": _partial(
        ".mp3", "damaged before", 2.77, lambda: replaced(encoded("mp3"), 90, noise(1500))
    ),
    **{
        f"{kind}-cut": _partial(
            f".{kind[:3]}", "bytes of audio are there", 1.5, lambda k=kind: _half(k)
        )
        for kind in ("wav", "wav-float", "wav-adpcm", "rf64", "w64", "aiff", "au")
    },
    "wav-unfinished": _partial(".wav", "never finished", 3.0, lambda: wav_with_sizes(0, 0)),
    "not-a-number": _partial(
        ".wav", "NaN", 3.0, lambda: with_samples("wav-float", {5: np.nan, 700: -np.inf})
    ),
    "absurdly-loud": _partial(
        ".wav", "beyond 1e+10", 3.0, lambda: with_samples("wav-float", {9: 1e30})
    ),
}
NOTHING = {
    "empty": _rejected(".ogg", "empty", lambda: b""),
    "text": _rejected(".ogg", "text file", lambda: b"404: Not Found\n\n"),
    "page": _rejected(".mp3", "web page", lambda: b"\n<!DOCTYPE html><html></html>"),
    "pointer": _rejected(
        ".flac", "git lfs pull", lambda: b"version https://git-lfs.github.com/spec/v1\nsize 12\n"
    ),
    "link": _rejected(".ogg", "symbolic link", lambda: b"../other/XC1.ogg"),
    "jpeg": _rejected(".mp3", "image", lambda: b"\xff\xd8\xff\xe0\0\x10JFIF" + noise(4000)),
    "no-samples": _rejected(".wav", "0 samples", lambda: encoded("wav", np.zeros((0, 1)))),
    "no-samples-left": _rejected(".wav", "0 of 96,000 bytes", lambda: encoded("wav")[:44]),
    "ogg-headers-only": _rejected(".ogg", "no end mark", lambda: encoded("vorbis")[:3000]),
    "ogg-no-sound-page": _rejected(".ogg", "no sound", lambda: encoded("vorbis")[:3446]),
    "ogg-first-page-changed": _rejected(
        ".ogg", "damaged at", lambda: flipped(encoded("vorbis"), 30)
    ),
    "flac-header-only": _rejected(".flac", "not readable", lambda: encoded("flac")[:40]),
    "flac-no-frame": _rejected(".flac", "no sound", lambda: encoded("flac")[:5000]),
    "mp3-one-frame-cut": _rejected(".mp3", "not readable", lambda: encoded("mp3")[:150]),
    "noise": _rejected(".mp3", "not readable", lambda: noise(50_000)),
    "zeros": _rejected(".wav", "not readable", lambda: bytes(50_000)),
}
CASES = {**WHOLE, **IN_PART, **NOTHING}
