"""The synthetic birdsong: its layout, its long tail, what is heard, and that it is repeatable."""

import csv
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest
import soundfile

from storage.errors import ConfigError
from tools.birdsong import (
    CSV_COLUMNS,
    BirdsongConfig,
    encode_ogg,
    plan_takes,
    synthesise_birdsong,
)
from tools.birdsong_species import SPECIES
from tools.birdsong_voices import RATE_HZ, Singer, synthesise_take

SMALL = BirdsongConfig(seed=3, num_species=12, scale=0.03)
TINY = BirdsongConfig(seed=5, num_species=2, scale=0.04)
BY_LABEL = {bird.label: bird for bird in SPECIES}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("birdsong")
    assert synthesise_birdsong(folder, SMALL) == len(plan_takes(SMALL))
    return folder


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def sing(*singers, **changes):
    values = {"duration_s": 6, "seed": 0, "place": 1, "take": 1, "calls": False}
    birds = tuple(
        Singer(species=BY_LABEL[label], voice=1, distance_m=distance_m)
        for label, distance_m in singers
    )
    return synthesise_take(birds, **(values | changes))


def band_power(sound, low_hz, high_hz):
    power = np.abs(np.fft.rfft(sound.astype(np.float64))) ** 2
    frequency_hz = np.fft.rfftfreq(len(sound), 1 / RATE_HZ)
    return power[(frequency_hz >= low_hz) & (frequency_hz < high_hz)].sum() / power.sum()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_default_demo_is_an_hour_of_a_long_tail(seed):
    takes = plan_takes(BirdsongConfig(seed=seed))
    counts = [count for _, count in Counter(t.singers[0].species for t in takes).most_common()]
    assert len(counts) >= 12
    assert (counts[0], counts[-1]) == (40, 4)
    assert sum(counts[:4]) > 0.4 * sum(counts)
    assert 240 <= len(takes) <= 270
    assert 55 <= sum(take.duration_s for take in takes) / 60 <= 70
    assert all(3 <= take.duration_s <= 40 for take in takes)


def test_plan_depends_on_the_seed_alone():
    assert plan_takes(BirdsongConfig(seed=1)) == plan_takes(BirdsongConfig(seed=1))
    assert plan_takes(BirdsongConfig(seed=1)) != plan_takes(BirdsongConfig(seed=2))


def test_takes_of_a_session_share_url_bird_place_and_recordist():
    sessions = defaultdict(list)
    for take in plan_takes(BirdsongConfig()):
        sessions[take.row()["url"]].append(take.row())
    for rows in sessions.values():
        for name in ("primary_label", "latitude", "longitude", "author"):
            assert len({row[name] for row in rows}) == 1
    sizes = Counter(len(rows) for rows in sessions.values())
    assert max(sizes) == 4
    assert sizes[1] < sum(sizes.values())


def test_every_species_has_enough_sessions_for_folds():
    sessions = defaultdict(set)
    for take in plan_takes(BirdsongConfig()):
        sessions[take.row()["primary_label"]].add(take.session)
    assert min(len(found) for found in sessions.values()) >= 4


def test_overlapping_species_are_secondary_labels():
    takes = plan_takes(BirdsongConfig())
    overlapped = [take for take in takes if len(take.singers) > 1]
    assert 0.25 < len(overlapped) / len(takes) < 0.55
    for take in takes:
        labels = [singer.species.label for singer in take.singers]
        assert len(set(labels)) == len(labels)
        assert take.row()["secondary_labels"] == str(labels[1:] or [""])


def test_secondary_species_is_heard():
    alone, together = sing(("stocaw1", 15)), sing(("stocaw1", 15), ("siltsi1", 30))
    assert band_power(together, 7000, 9500) > 5 * band_power(alone, 7000, 9500)


def test_distance_takes_level_and_treble():
    near, far = sing(("marcaw1", 6)), sing(("marcaw1", 70))
    assert band_power(far, 0, 500) > 5 * band_power(near, 0, 500)  # wind, beside a weaker song
    near_treble = band_power(near, 4000, 7000) / band_power(near, 700, 1000)
    far_treble = band_power(far, 4000, 7000) / band_power(far, 700, 1000)
    assert far_treble < 0.5 * near_treble


def test_two_birds_of_a_species_differ_and_one_bird_keeps_its_voice():
    def pitch_hz(voice, take):
        bird = Singer(species=BY_LABEL["siltsi1"], voice=voice, distance_m=5)
        sound = synthesise_take((bird,), duration_s=6, seed=0, place=1, take=take, calls=False)
        power = np.abs(np.fft.rfft(sound)) ** 2
        band = slice(6000 * 6, 11_000 * 6)  # bins of 1/6 Hz
        return np.average(np.arange(band.start, band.stop) / 6, weights=power[band])

    of_voice = np.array([[pitch_hz(voice, take) for take in range(2)] for voice in range(5)])
    assert np.ptp(of_voice, axis=1).max() < 0.5 * np.ptp(of_voice.mean(axis=1))


@pytest.mark.parametrize("bird", SPECIES, ids=lambda bird: bird.label)
def test_every_species_sings_above_the_wind(bird):
    sound = sing((bird.label, 8))
    lowest = min(min(phrase.contour_hz) for phrase in bird.song)
    assert band_power(sound, 0.7 * lowest, RATE_HZ / 2) > 0.5


def test_species_have_names_of_their_own():
    for name in ("label", "common_name", "scientific_name", "song"):
        assert len({getattr(bird, name) for bird in SPECIES}) == len(SPECIES)


def test_folder_is_laid_out_as_birdclef(source, real_data):
    rows = read_csv(source / "train.csv")
    with (real_data("birds_british") / "train.csv").open(encoding="utf-8") as file:
        assert file.readline().strip().split(",") == list(rows[0]) == list(CSV_COLUMNS)
    with (real_data("birds_british") / "taxonomy.csv").open(encoding="utf-8") as file:
        taxonomy = read_csv(source / "taxonomy.csv")
        assert file.readline().strip().split(",") == list(taxonomy[0])


def test_tables_and_files_agree(source):
    rows = read_csv(source / "train.csv")
    taxonomy = {row["primary_label"]: row for row in read_csv(source / "taxonomy.csv")}
    files = {str(path.relative_to(source / "train_audio")) for path in source.rglob("*.ogg")}
    assert {row["filename"] for row in rows} == files
    assert {row["primary_label"] for row in rows} == set(taxonomy)
    assert len(taxonomy) == 12
    for row in rows:
        assert row["filename"].split("/")[0] == row["primary_label"]
        assert row["scientific_name"] == taxonomy[row["primary_label"]]["scientific_name"]
        assert 1 <= float(row["rating"]) <= 5
        assert (2 * float(row["rating"])).is_integer()
    assert all(a["filename"] < b["filename"] for a, b in pairwise(rows))


def test_audio_is_mono_ogg_of_planned_length_finite_and_not_clipped(source):
    for take in plan_takes(SMALL):
        path = source / "train_audio" / take.filename
        info = soundfile.info(path)
        assert (info.format, info.subtype) == ("OGG", "VORBIS")
        assert (info.samplerate, info.channels) == (RATE_HZ, 1)
        assert info.frames == round(take.duration_s * RATE_HZ)
        sound, _ = soundfile.read(path, dtype="float32")
        assert np.isfinite(sound).all()
        assert 0.05 < np.abs(sound).max() < 1


def test_equal_seeds_give_equal_bytes(tmp_path):
    for name in ("one", "two"):
        synthesise_birdsong(tmp_path / name, TINY)
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.*"))
    assert len(files) == len(plan_takes(TINY)) + 2
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_ogg_serial_changes_no_sample(tmp_path):
    sound = sing(("pallan1", 10))
    decoded = []
    for serial in (1, 2**32 - 1):
        path = tmp_path / f"{serial}.ogg"
        path.write_bytes(encode_ogg(sound, serial=serial))
        assert path.read_bytes()[14:18] == serial.to_bytes(4, "little")
        decoded.append(soundfile.read(path, dtype="float32")[0])
    soundfile.write(tmp_path / "plain.ogg", sound, RATE_HZ)
    plain, _ = soundfile.read(tmp_path / "plain.ogg", dtype="float32")
    assert len(plain) == len(sound)
    assert np.array_equal(decoded[0], plain)
    assert np.array_equal(decoded[1], plain)


def test_whole_folder_is_left_alone_and_another_refused(tmp_path):
    synthesise_birdsong(tmp_path, TINY)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert synthesise_birdsong(tmp_path, TINY) == len(plan_takes(TINY))
    with pytest.raises(ConfigError, match=r"choose another demo\.root"):
        synthesise_birdsong(tmp_path, BirdsongConfig(seed=6, num_species=2, scale=0.04))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_interrupted_synthesis_is_finished(tmp_path):
    synthesise_birdsong(tmp_path, TINY)
    whole = {path: path.read_bytes() for path in tmp_path.rglob("*.ogg")}
    (tmp_path / "train.csv").unlink()
    next(iter(whole)).write_bytes(b"OggS")
    synthesise_birdsong(tmp_path, TINY)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.ogg")} == whole
    assert (tmp_path / "train.csv").exists()


@pytest.mark.parametrize(
    "values",
    [
        {"num_species": 1},
        {"num_species": 17},
        {"scale": 0.0},
        {"scale": float("nan")},
        {"seed": -1},
    ],
    ids=str,
)
def test_impossible_demo_is_refused(values):
    with pytest.raises(ConfigError, match=r"demo\."):
        BirdsongConfig(**values)
