"""Audio that is not decoded here is named with the command that converts it."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from storage.audio.integrity import AUDIO_ENDINGS, examine
from storage.audio.kinds import OTHER_AUDIO_ENDINGS
from storage.source.probe import probe_file

HEADS = {
    "MP4": b"\0\0\0\x20ftypM4A \0\0\2\0isom",
    "WMA": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9",
    "WavPack": b"wvpk",
    "AAC": b"\xff\xf1\x50\x80\x2f\xfc" * 500,
    "Monkey": b"MAC \x96\x0f",
    "AMR": b"#!AMR\n",
    "Matroska": b"\x1a\x45\xdf\xa3",
}


@pytest.mark.parametrize(("kind", "head"), HEADS.items(), ids=HEADS)
@pytest.mark.parametrize("ending", [".m4a", ".opus", ".wav"])
def test_other_kinds_are_named_whatever_the_ending(
    kind: str, head: bytes, ending: str, tmp_path: Path
) -> None:
    path = tmp_path / f"memo{ending}"
    path.write_bytes(head + bytes(400))
    problem = probe_file(path).problem or ""
    assert problem.startswith(kind)
    assert f'ffmpeg -i "NAME{ending}" "NAME.flac"' in problem


def test_no_ending_is_of_both_kinds() -> None:
    assert not OTHER_AUDIO_ENDINGS & set(AUDIO_ENDINGS)


@pytest.mark.parametrize(
    ("ending", "kind"),
    [("caf", "CAF"), ("aifc", "AIFF"), ("snd", "AU"), ("rf64", "RF64"), ("voc", "VOC")],
)
def test_what_the_library_decodes_is_taken(ending: str, kind: str, tmp_path: Path) -> None:
    assert f".{ending}" in AUDIO_ENDINGS
    path = tmp_path / f"x.{ending}"
    sound = np.sin(np.arange(16_000)).astype(np.float32)
    soundfile.write(path, sound, 16_000, format=kind, subtype="PCM_16")
    found = probe_file(path)
    assert (found.problem, found.header_s) == (None, 1.0)


@pytest.mark.parametrize(("kind", "ending"), [("VOC", "voc"), ("NIST", "sph"), ("WAV", "wave")])
def test_a_file_that_is_cut_short_is_noticed(kind: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{ending}"
    sound = np.sin(np.arange(16_000)).astype(np.float32)
    soundfile.write(path, sound, 16_000, format=kind, subtype="PCM_16")
    path.write_bytes(path.read_bytes()[:-8_000])
    assert "cut short" in (examine(path).problem or "")
