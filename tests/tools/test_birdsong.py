"""Synthetic birdsong: layout, long tail, audible species, repeatability."""

import csv
from collections import Counter, defaultdict

import numpy as np
import pytest
import soundfile

from storage.audio.ogg import read_pages
from storage.errors import ConfigError
from tools.birdsong.recordings import BirdsongConfig, csv_row, plan_takes, synthesise_birdsong
from tools.birdsong.species import SPECIES
from tools.birdsong.voices import RATE_HZ, Singer, Take, synthesise_audio

SMALL = BirdsongConfig(seed=3, num_species=12, scale=0.03)
TINY = BirdsongConfig(seed=5, num_species=2, scale=0.04)
BY_NAME = {bird.common_name: bird for bird in SPECIES}


def sing(*singers, session=1, number=1):
    birds = tuple(Singer(BY_NAME[name], distance_m) for name, distance_m in singers)
    return synthesise_audio(Take(number, session, birds, duration_s=6), seed=0)


def power_share(sound, low_hz, high_hz):
    power = np.abs(np.fft.rfft(sound.astype(np.float64))) ** 2
    frequency_hz = np.fft.rfftfreq(len(sound), 1 / RATE_HZ)
    return power[(frequency_hz >= low_hz) & (frequency_hz < high_hz)].sum() / power.sum()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_default_demo_is_an_hour_of_a_long_tail(seed):
    takes = plan_takes(BirdsongConfig(seed=seed))
    counts = Counter(take.singers[0].species for take in takes).most_common()
    assert len(counts) == 16
    assert (counts[0][1], counts[-1][1]) == (40, 4)
    assert 55 <= sum(take.duration_s for take in takes) / 60 <= 70
    assert 0.25 < np.mean([len(take.singers) > 1 for take in takes]) < 0.55
    assert takes != plan_takes(BirdsongConfig(seed=seed + 1))


def test_sessions_keep_a_bird_together_and_suffice_for_folds():
    sessions, of_bird = defaultdict(list), defaultdict(set)
    for take in plan_takes(BirdsongConfig()):
        row = csv_row(take)
        sessions[row["url"]].append(row)
        of_bird[row["primary_label"]].add(row["url"])
    assert all(len({(r["primary_label"], r["author"]) for r in s}) == 1 for s in sessions.values())
    assert max(len(rows) for rows in sessions.values()) == 3
    assert min(len(urls) for urls in of_bird.values()) >= 4


def test_secondary_species_is_heard():
    alone = sing(("Great Cawlet", 15))
    together = sing(("Great Cawlet", 15), ("Little Tsipper", 30))
    assert power_share(together, 7000, 10_500) > 5 * power_share(alone, 7000, 10_500)


def test_distance_takes_level_and_treble():
    near, far = sing(("Little Cawlet", 6)), sing(("Little Cawlet", 70))
    assert power_share(far, 0, 500) > 5 * power_share(near, 0, 500)  # wind against a weaker song
    near_treble = power_share(near, 4000, 7000) / power_share(near, 700, 1000)
    assert power_share(far, 4000, 7000) / power_share(far, 700, 1000) < 0.5 * near_treble


def test_two_birds_of_a_species_differ_and_one_bird_keeps_its_voice():
    def pitch_hz(session, number):
        sound = sing(("Little Tsipper", 5), session=session, number=number)
        band = slice(6000 * 6, 12_000 * 6)  # bins of 1/6 Hz
        power = np.abs(np.fft.rfft(sound)) ** 2
        return np.average(np.arange(band.start, band.stop) / 6, weights=power[band])

    of_voice = np.array([[pitch_hz(session, take) for take in range(2)] for session in range(5)])
    assert np.ptp(of_voice, axis=1).max() < 0.5 * np.ptp(of_voice.mean(axis=1))


@pytest.mark.parametrize("bird", SPECIES, ids=lambda bird: bird.label)
def test_every_species_sings_above_the_wind(bird):
    lowest_hz = bird.pitch * min(min(phrase.contour_hz) for phrase in bird.song)
    assert power_share(sing((bird.common_name, 8)), 0.7 * lowest_hz, RATE_HZ / 2) > 0.5


def test_species_have_different_names():
    for name in ("label", "common_name", "scientific_name"):
        assert len({getattr(bird, name) for bird in SPECIES}) == len(SPECIES)


def test_tables_and_audio_agree_with_the_plan(tmp_path):
    takes = plan_takes(SMALL)
    assert synthesise_birdsong(tmp_path, SMALL) == len(takes)
    with (tmp_path / "train.csv").open(encoding="utf-8") as file:
        rows = {row["filename"]: row for row in csv.DictReader(file)}
    with (tmp_path / "taxonomy.csv").open(encoding="utf-8") as file:
        taxonomy = {row["primary_label"]: row for row in csv.DictReader(file)}
    audio = tmp_path / "train_audio"
    assert set(rows) == {path.relative_to(audio).as_posix() for path in audio.rglob("*.ogg")}
    assert {row["primary_label"] for row in rows.values()} == set(taxonomy)
    assert len(taxonomy) == 12
    for take, (filename, row) in zip(takes, rows.items(), strict=True):
        labels = [singer.species.label for singer in take.singers]
        assert filename.split("/")[0] == row["primary_label"] == labels[0]
        assert row["secondary_labels"] == str(labels[1:] or [""])
        assert row["common_name"] == taxonomy[labels[0]]["common_name"]
        assert 1 <= float(row["rating"]) <= 5
        sound, rate_hz = soundfile.read(audio / filename, dtype="float32")
        assert soundfile.info(audio / filename).subtype == "VORBIS"
        assert (rate_hz, sound.shape) == (RATE_HZ, (round(take.duration_s * RATE_HZ),))
        assert 0.05 < np.abs(sound).max() < 1
        with (audio / filename).open("rb") as file:
            pages = list(read_pages(file))
        sizes = [page.end - page.start for page in pages]
        assert sum(sizes) == (audio / filename).stat().st_size  # so all checksums are correct
        assert {page.serial for page in pages} == {take.number}


def test_equal_seeds_give_equal_bytes_also_after_an_interruption(tmp_path):
    written = []
    for name in ("one", "two", "one"):
        synthesise_birdsong(tmp_path / name, TINY)
        files = sorted((tmp_path / name).rglob("*.*"))
        written.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
        (tmp_path / name / "train.csv").unlink()
        next((tmp_path / name).rglob("*.ogg")).write_bytes(b"OggS")
    assert len(written[0]) == len(plan_takes(TINY)) + 2
    assert written[0] == written[1] == written[2]


def test_complete_folder_is_left_alone_and_another_refused(tmp_path):
    synthesise_birdsong(tmp_path, TINY)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert synthesise_birdsong(tmp_path, TINY) == len(plan_takes(TINY))
    with pytest.raises(ConfigError, match=r"choose another demo\.root"):
        synthesise_birdsong(tmp_path, BirdsongConfig(seed=6, num_species=2, scale=0.04))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    "values",
    [{"num_species": 1}, {"num_species": 17}, {"scale": 0.0}, {"scale": np.nan}, {"seed": -1}],
    ids=str,
)
def test_impossible_demo_is_refused(values):
    with pytest.raises(ConfigError, match=r"demo\."):
        BirdsongConfig(**values)
