"""Excerpts of detections: selection, names, samples."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from storage.errors import ConfigError
from tests.training.inference.outputs.small_run import NASTY, small_run, windows, write
from training.inference.outputs.config import DetectConfig, ExcerptConfig
from training.inference.outputs.excerpt_choice import ExcerptChoice
from training.inference.outputs.excerpts import read_wav
from training.inference.predictions import WindowPredictions

RATE_HZ = 8000


def recording(path: Path, duration_s: float = 20, subtype: str = "PCM_16") -> np.ndarray:
    """A ramp in one channel, noise in the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = round(duration_s * RATE_HZ)
    noise = np.random.default_rng(0).normal(0, 500, size)
    samples = np.stack([np.arange(size) % 30_000, noise], 1).astype(np.int16)
    soundfile.write(path, samples, RATE_HZ, subtype=subtype)
    return samples


def run(tmp_path: Path) -> list[WindowPredictions]:
    recording(tmp_path / "in/A.wav")
    scores = [[0.9, 0.2, 0.6], [0.8, 0.5, 0.0], [0.55, 0.7, 0.3], [0.6, 0.5, 0.1]]
    return [windows(scores, "A", path=str(tmp_path / "in/A.wav"))]


def excerpts(tmp_path: Path, **config: Any) -> list[str]:
    write(tmp_path / "out", "excerpts", run=run(tmp_path), excerpts=ExcerptConfig(**config))
    found = sorted((tmp_path / "out/excerpts").rglob("*.wav"))
    names = [str(path.relative_to(tmp_path / "out/excerpts")) for path in found]
    with (tmp_path / "out/excerpts/excerpts.csv").open(encoding="utf-8", newline="") as file:
        assert sorted(row["file"] for row in csv.DictReader(file)) == names
    return names


def test_names_hold_label_score_file_and_time(tmp_path: Path) -> None:
    assert excerpts(tmp_path, choice="all") == [
        "a,_b_c_d_é/0.600_A_0-5.wav",
        "robin/0.500_A_15-20.wav",
        "robin/0.500_A_5-10.wav",
        "robin/0.700_A_10-15.wav",
        "wren/0.550_A_10-15.wav",
        "wren/0.600_A_15-20.wav",
        "wren/0.800_A_5-10.wav",
        "wren/0.900_A_0-5.wav",
    ]


def test_the_highest_scores_of_a_class_are_selected(tmp_path: Path) -> None:
    names = excerpts(tmp_path, choice="top", n=1)
    assert [name.split("_A")[0] for name in names][1:] == ["robin/0.700", "wren/0.900"]


def test_bands_are_filled_evenly(tmp_path: Path) -> None:
    names = excerpts(tmp_path, choice="bands", n=1, bands=[0.6, 0.75])
    wrens = [float(name.split("/")[1][:5]) for name in names if name.startswith("wren")]
    assert len(wrens) == 3
    assert wrens[:2] == [0.55, 0.6]


def test_a_later_selection_takes_the_place_of_the_earlier_one(tmp_path: Path) -> None:
    excerpts(tmp_path, choice="all")
    mine = tmp_path / "out/excerpts/wren/mine.wav"
    mine.write_bytes(b"kept")
    names = excerpts_without_table(tmp_path)
    assert len(names) == 4
    assert mine.read_bytes() == b"kept"


def excerpts_without_table(tmp_path: Path) -> list[Path]:
    write(
        tmp_path / "out",
        "excerpts",
        run=run(tmp_path),
        excerpts=ExcerptConfig(choice="top", n=1),
    )
    return list((tmp_path / "out/excerpts").rglob("*.wav"))


def test_a_table_of_anyone_deletes_nothing_outside(tmp_path: Path) -> None:
    outside = tmp_path / "out/x.wav"
    (tmp_path / "out/excerpts").mkdir(parents=True)
    outside.write_bytes(b"kept")
    table = "file\n../x.wav\n../../in/A.wav\n/etc/x.wav\na/../../x.wav\n"
    (tmp_path / "out/excerpts/excerpts.csv").write_text(table, encoding="utf-8")
    excerpts(tmp_path, choice="top", n=1)
    assert outside.read_bytes() == b"kept"
    assert (tmp_path / "in/A.wav").is_file()


def test_samples_rate_and_channels_are_those_of_the_recording(tmp_path: Path) -> None:
    samples = recording(tmp_path / "in/A.wav")
    excerpts(tmp_path, choice="all", context_s=1.5)
    found, rate_hz = soundfile.read(tmp_path / "out/excerpts/wren/0.800_A_5-10.wav", dtype="int16")
    assert rate_hz == RATE_HZ
    np.testing.assert_array_equal(found, samples[int(3.5 * RATE_HZ) : int(11.5 * RATE_HZ)])
    found, _ = soundfile.read(tmp_path / "out/excerpts/wren/0.900_A_0-5.wav", dtype="int16")
    assert len(found) == 6.5 * RATE_HZ


def test_a_long_excerpt_is_cut(tmp_path: Path) -> None:
    excerpts(tmp_path, choice="all", max_s=2)
    path = tmp_path / "out/excerpts/wren/0.800_A_5-10.wav"
    assert soundfile.info(path).duration == 2


def test_sound_above_full_scale_is_scaled_down(tmp_path: Path) -> None:
    path = tmp_path / "loud.wav"
    soundfile.write(path, np.array([0.5, 2.0, -1.0, np.nan]), RATE_HZ, subtype="FLOAT")
    (tmp_path / "part.wav").write_bytes(read_wav(path, 0, 1))
    found, _ = soundfile.read(tmp_path / "part.wav", dtype="int16")
    assert found.tolist() == [8192, 32767, -16384, 0]


def test_a_recording_that_is_gone_is_a_note(tmp_path: Path) -> None:
    summary = write(tmp_path, "excerpts", run=small_run())
    assert "could not be read from their recordings" in summary.notes[-1]
    assert list(tmp_path.rglob("*.wav")) == []


def test_names_that_would_be_equal_stay_apart(tmp_path: Path) -> None:
    recording(tmp_path / "in/x/A.wav")
    recording(tmp_path / "in/y/a.wav")
    predicted = [
        windows([[0.9, 0, 0]], "x/A", path=str(tmp_path / "in/x/A.wav")),
        windows([[0.9, 0, 0]], "y/a", path=str(tmp_path / "in/y/a.wav")),
    ]
    write(tmp_path / "out", "excerpts", run=predicted)
    names = {path.name for path in (tmp_path / "out").rglob("*.wav")}
    assert names == {"0.900_A_0-5.wav", "0.900_a_0-5_2.wav"}


def test_a_selection_is_independent_of_the_order_and_follows_the_seed() -> None:
    rows = [
        {"recording_id": f"r{n}", "start_s": 5.0 * n, "label": NASTY, "score": n / 100}
        for n in range(100)
    ]

    def chosen(given: list[dict[str, Any]], seed: int) -> set[str]:
        choice = ExcerptChoice(ExcerptConfig(choice="random", n=8, seed=seed))
        for row in given:
            choice.add(row)
        return {row["recording_id"] for row in choice.chosen()}

    assert chosen(rows, 0) == chosen(rows[::-1], 0)
    assert len(chosen(rows, 0)) == 8
    assert chosen(rows, 0) != chosen(rows, 1)


@pytest.mark.parametrize(
    "config", [{"choice": "best"}, {"n": 0}, {"bands": [0.5, 0.5]}, {"bands": [1.5]}, {"max_s": 0}]
)
def test_impossible_settings_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"output\.excerpts"):
        ExcerptConfig(**config)


def test_equal_bytes_on_every_run(tmp_path: Path) -> None:
    names = excerpts(tmp_path, choice="bands", n=1)
    first = [(tmp_path / "out/excerpts" / name).read_bytes() for name in names]
    assert excerpts(tmp_path, choice="bands", n=1) == names
    assert [(tmp_path / "out/excerpts" / name).read_bytes() for name in names] == first
    assert DetectConfig().threshold == 0.5


@pytest.mark.parametrize("kind", ["ogg", "mp3", "flac"])
def test_excerpts_of_any_file_are_the_sound_of_their_times(tmp_path: Path, kind: str) -> None:
    """Also near the end of an ogg stream, where libsndfile seeks to another place."""
    generator = np.random.default_rng(3)
    for _ in range(4):
        count = int(generator.integers(3 * 22_050, 30 * 22_050))
        path = tmp_path / f"sound.{kind}"
        time_s = np.arange(count) / 22_050
        sweep = 0.3 * np.sin(2 * np.pi * (300 + 50 * time_s) * time_s)
        soundfile.write(path, sweep.astype(np.float32), 22_050)
        whole, rate_hz = soundfile.read(path, dtype="float32")
        last_s = len(whole) / rate_hz
        for start_s in (int(last_s), 0.0, float(generator.uniform(0, last_s - 1))):
            wav = read_wav(path, start_s, start_s + 2)
            found = soundfile.read(io.BytesIO(wav), dtype="float32")[0]
            first = round(start_s * rate_hz)
            expected = whole[first : round((start_s + 2) * rate_hz)]
            assert found.shape == expected.shape
            assert np.abs(found - expected).max(initial=0) < 1e-3
