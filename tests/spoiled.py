"""Sound files as bytes, and what can go wrong with them: small, seeded, made by hand.

CASES["ogg-cut"].make() -> bytes
"""

import io
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

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


ID3V1 = b"TAG" + bytes(125)


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


def with_samples(values: dict[int, float]) -> bytes:
    """A wav of float samples in which some have other values."""
    samples = sound()
    for place, value in values.items():
        samples[place] = value
    return _encode("wav-float", samples)


def half(kind: str) -> bytes:
    """The first half of a file."""
    return encoded(kind)[: len(encoded(kind)) // 2]


vorbis, opus, mp3, flac, wav = (
    partial(encoded, kind) for kind in ("vorbis", "opus", "mp3", "flac", "wav")
)


def _vbr() -> bytes:
    return mp3(sound()[::-1], bitrate_mode="VARIABLE", compression_level=0.5)  # loud first


def _swapped_pages() -> bytes:
    pages = ogg_pages(vorbis())
    pages[3], pages[4] = pages[4], pages[3]
    return b"".join(pages)


def _unknown() -> bytes:
    """An ogg stream of one page, whole, of a kind that no decoder knows."""
    head = b"OggS\0" + bytes([6]) + bytes(8) + b"melb" + bytes(4)
    body = bytes([1, 9]) + b"\x80something"[:9]
    checksum = ogg_crc32(head + bytes(4) + body)
    return head + checksum.to_bytes(4, "little") + body


@dataclass(frozen=True, kw_only=True)
class Case:
    """A file: its ending, its bytes, and what must become of it."""

    ending: str
    make: Callable[[], bytes]
    status: str
    length_s: float = 0.0
    word: str = ""


WHOLE = {  # name -> ending, length in s, bytes
    **{f"whole-{kind}": (".ogg", 3.0, partial(encoded, kind)) for kind in FORMATS},
    "no-ending": ("", 3.0, lambda: vorbis(sound(seed=1))),
    "stereo": (".ogg", 3.0, lambda: vorbis(sound(channels=2))),
    "six-channels": (".wav", 3.0, lambda: wav(sound(channels=6))),
    "one-sample": (".wav", 1 / RATE_HZ, lambda: wav(sound(1 / RATE_HZ))),
    "silence": (".flac", 3.0, lambda: flac(0 * sound())),
    "constant": (".flac", 3.0, lambda: flac(0 * sound() + 0.5)),
    "clipped": (".wav", 3.0, lambda: wav(np.sign(sound()))),
    "float-beyond-1": (".wav", 3.0, lambda: encoded("wav-float", 1e6 * sound())),
    "ogg-garbage-behind": (".ogg", 3.0, lambda: vorbis() + noise(300_000)),
    "ogg-zeros-behind": (".ogg", 3.0, lambda: vorbis() + bytes(1_000_000)),
    "ogg-behind-tags": (".ogg", 3.0, lambda: id3_tag(500) + id3_tag(9) + vorbis()),
    "ogg-chained": (".ogg", 6.0, lambda: 2 * vorbis()),
    "ogg-chained-unlike": (".ogg", 6.0, lambda: vorbis(sound(channels=2)) + noise(99) + opus()),
    "mp3-no-note": (".mp3", 3.0, lambda: mp3_frames(mp3())),
    "mp3-no-note-variable": (".mp3", 3.0, lambda: mp3_frames(_vbr())),
    "mp3-joined": (".mp3", 6.0, lambda: 2 * mp3()),
    "mp3-joined-tagged": (".mp3", 6.0, lambda: 2 * (id3_tag(3000) + mp3() + ID3V1)),
    "mp3-tagged": (".mp3", 3.0, lambda: id3_tag(90) + id3_tag(9) + mp3() + ape_tag(700) + ID3V1),
    "mp3-zeros-before": (".mp3", 3.0, lambda: bytes(3000) + mp3()),
    "mp3-zeros-behind": (".mp3", 3.0, lambda: mp3() + bytes(1_000_000)),
    "mp3-garbage-behind": (".mp3", 3.0, lambda: mp3() + noise(300_000)),
    "wav-open-length": (".wav", 3.0, lambda: wav_with_sizes(0xFFFF_FFFF, 0xFFFF_FFFF)),
    "wav-garbage-behind": (".wav", 3.0, lambda: wav() + noise(5000)),
    "wav-twice": (".wav", 3.0, lambda: 2 * wav()),
    "flac-open-length": (".flac", 3.0, lambda: flac_with_total(0)),
}
IN_PART = {  # name -> ending, a word of the reason, length of what is stored in s, bytes
    "ogg-cut": (".ogg", "no end mark", 0.94, lambda: half("vorbis")),
    "ogg-cut-at-page": (".ogg", "no end mark", 1.86, lambda: b"".join(ogg_pages(vorbis())[:-2])),
    "ogg-last-byte": (".ogg", "no end mark", 2.8, lambda: vorbis()[:-1]),
    "ogg-changed": (".ogg", "damaged at", 0.94, lambda: flipped(vorbis(), 9000)),
    "ogg-zeros-inside": (".ogg", "damaged at", 0.94, lambda: replaced(vorbis(), 8000, bytes(3000))),
    "ogg-page-missing": (".ogg", "damaged at", 0.94, lambda: removed(vorbis(), 7683, 11869)),
    "ogg-pages-swapped": (".ogg", "out of order", 0.94, _swapped_pages),
    "chained-first-cut": (
        ".ogg",
        "no end mark",
        5.8,
        lambda: b"".join(ogg_pages(vorbis())[:-1]) + vorbis(),
    ),
    "chained-2nd-changed": (".ogg", "damaged at", 3.94, lambda: vorbis() + flipped(vorbis(), 9000)),
    "chained-2nd-unreadable": (".ogg", "damaged at", 3.0, lambda: vorbis() + flipped(vorbis(), 99)),
    "chained-unknown": (".ogg", "stopped after 3.00", 3.0, lambda: vorbis() + _unknown() + opus()),
    "opus-cut": (".opus", "no end mark", 1.0, lambda: half("opus")),
    "flac-cut": (".flac", "decoder stopped", 1.5, lambda: half("flac")),
    "flac-changed": (".flac", "decoder stopped", 1.54, lambda: flipped(flac(), 45_000)),
    "flac-names-more": (".flac", "header names 60.00 s", 3.0, lambda: flac_with_total(960_000)),
    "mp3-cut": (".mp3", "mp3 frames are there", 1.4, lambda: half("mp3")),
    "mp3-cut-no-note": (".mp3", "inside an mp3 frame", 2.0, lambda: mp3_frames(mp3())[:8001]),
    "mp3-zeros-inside": (".mp3", "damaged at", 1.2, lambda: replaced(mp3(), 5000, bytes(2000))),
    "mp3-bytes-missing": (".mp3", "damaged at", 1.2, lambda: removed(mp3(), 5000, 6001)),
    "mp3-far-hole": (".mp3", "damaged at", 1.2, lambda: mp3()[:5000] + bytes(10**6) + mp3()[6000:]),
    "mp3-start-broken": (".mp3", "damaged before", 2.77, lambda: replaced(mp3(), 90, noise(1500))),
    **{
        f"{kind}-cut": (f".{kind[:3]}", "bytes of audio are there", 1.5, partial(half, kind))
        for kind in ("wav", "wav-float", "wav-adpcm", "rf64", "w64", "aiff", "au")
    },
    "wav-unfinished": (".wav", "never finished", 3.0, lambda: wav_with_sizes(0, 0)),
    "not-a-number": (".wav", "NaN", 3.0, lambda: with_samples({5: np.nan, 700: -np.inf})),
    "absurdly-loud": (".wav", "beyond 1e+10", 3.0, lambda: with_samples({9: 1e30})),
}
NOTHING = {  # name -> ending, a word of the reason, bytes
    "empty": (".ogg", "empty", bytes),
    "text": (".ogg", "text file", lambda: b"404: Not Found\n\n"),
    "page": (".mp3", "web page", lambda: b"\n<!DOCTYPE html><html></html>"),
    "pointer": (".flac", "git lfs pull", lambda: b"version https://git-lfs.github.com/spec/v1\n"),
    "link": (".ogg", "symbolic link", lambda: b"../other/XC1.ogg"),
    "jpeg": (".mp3", "image", lambda: b"\xff\xd8\xff\xe0\0\x10JFIF" + noise(4000)),
    "no-samples": (".wav", "0 samples", lambda: wav(np.zeros((0, 1)))),
    "no-samples-left": (".wav", "0 of 96,000 bytes", lambda: wav()[:44]),
    "ogg-headers-only": (".ogg", "no end mark", lambda: vorbis()[:3000]),
    "ogg-no-sound-page": (".ogg", "no sound", lambda: vorbis()[:3446]),
    "ogg-first-page-changed": (".ogg", "damaged at", lambda: flipped(vorbis(), 30)),
    "flac-header-only": (".flac", "not readable", lambda: flac()[:40]),
    "flac-no-frame": (".flac", "no sound", lambda: flac()[:5000]),
    "mp3-one-frame-cut": (".mp3", "not readable", lambda: mp3()[:150]),
    "noise": (".mp3", "not readable", lambda: noise(50_000)),
    "zeros": (".wav", "not readable", lambda: bytes(50_000)),
}
CASES = {
    **{
        name: Case(status="stored", ending=ending, length_s=length_s, make=make)
        for name, (ending, length_s, make) in WHOLE.items()
    },
    **{
        name: Case(status="partial", ending=ending, word=word, length_s=length_s, make=make)
        for name, (ending, word, length_s, make) in IN_PART.items()
    },
    **{
        name: Case(status="rejected", ending=ending, word=word, make=make)
        for name, (ending, word, make) in NOTHING.items()
    },
}
