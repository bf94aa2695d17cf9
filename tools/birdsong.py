"""Synthesises a folder of birdsong in the layout of BirdCLEF 2025, for the demo and for tests.

    recordings = synthesise_birdsong(Path("data/demo/source"), BirdsongConfig(seed=7))

Sixteen invented species in eight pairs of relatives whose songs differ in pitch, tempo or
direction only. Each session (one recordist, one place, one bird) has a singer with its own voice
and is cut into up to four takes, which share `url`: folds grouped by `url` keep a bird on one side.
Behind the singer: wind, rain, insects and other species, which are named in `secondary_labels`.

Equal seeds give equal bytes on one machine, whatever the number of threads.
Costs about 20 s on 2 cores for the default 250 recordings, one hour of audio in all.
"""

import csv
import io
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from storage.errors import ConfigError
from storage.options import check_at_least, check_between, check_positive, option
from tools.birdsong_species import SPECIES, Species
from tools.birdsong_voices import RATE_HZ, Singer, Waveform, synthesise_take
from tools.cli.progress_bars import bar

CSV_COLUMNS = (
    "primary_label",
    "secondary_labels",
    "type",
    "filename",
    "collection",
    "rating",
    "url",
    "latitude",
    "longitude",
    "scientific_name",
    "common_name",
    "author",
    "license",
)
TAXONOMY_COLUMNS = (
    "primary_label",
    "inat_taxon_id",
    "scientific_name",
    "common_name",
    "class_name",
)
LONGEST_TAIL, SHORTEST_TAIL = 40, 4  # recordings of the commonest and of the rarest species
MIRRORED_BYTES = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True, slots=True, kw_only=True)
class BirdsongConfig:
    """How much sings, and the seed of it all."""

    seed: int = option(0, "random seed of the birdsong")
    num_species: int = option(16, "species that sing, 2 to 16, the commonest first")
    scale: float = option(1.0, "recordings, 1 gives an hour; less is soon too little to learn from")

    def __post_init__(self) -> None:
        check_between(self, "demo", 2, len(SPECIES), "num_species")
        check_at_least(self, "demo", 0, "seed")
        check_positive(self, "demo", "scale")
        check_between(self, "demo", 0, 100, "scale")


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """One planned recording; the first singer is the primary one."""

    number: int
    session: int
    singers: tuple[Singer, ...]
    calls: bool
    duration_s: float
    latitude: float
    longitude: float
    author: str

    @property
    def filename(self) -> str:
        """Path below `train_audio`, as in train.csv."""
        return f"{self.singers[0].species.label}/SYN{100_000 + self.number}.ogg"

    def row(self) -> dict[str, str]:
        """The line of train.csv."""
        bird = self.singers[0].species
        rating = np.clip(5.5 - self.singers[0].distance_m / 15, 1.0, 5.0)
        values = (
            bird.label,
            str([s.species.label for s in self.singers[1:]] or [""]),
            str(["call", "song"] if self.calls else ["song"]),
            self.filename,
            "SYN",
            str(round(float(rating) * 2) / 2),
            f"https://birdsong.invalid/session/{self.session}",
            f"{self.latitude:.4f}",
            f"{self.longitude:.4f}",
            bird.scientific_name,
            bird.common_name,
            self.author,
            "cc0 1.0",
        )
        return dict(zip(CSV_COLUMNS, values, strict=True))


def synthesise_birdsong(folder: Path, config: BirdsongConfig) -> int:
    """Writes `train_audio/`, `taxonomy.csv` and, last, `train.csv`; returns the recordings.

    A folder that is whole already is left alone; raises ConfigError if it holds something else.
    """
    takes = plan_takes(config)
    table = _csv_text(CSV_COLUMNS, [take.row() for take in takes])
    target = folder / "train.csv"
    if target.exists():
        if target.read_text(encoding="utf-8") != table:
            raise ConfigError(
                f"{target} lists other recordings than demo.seed={config.seed}, num_species="
                f"{config.num_species} and scale={config.scale:g} ask for: choose another demo.root"
            )
        return len(takes)
    for take in takes:
        (folder / "train_audio" / take.filename).parent.mkdir(parents=True, exist_ok=True)
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        bar("synthesise", len(takes), "recordings") as step,
    ):
        for _ in pool.map(lambda take: _write_take(folder, take, config.seed), takes):
            step(1)
    (folder / "taxonomy.csv").write_text(_taxonomy(config.num_species), encoding="utf-8")
    unfinished = folder / "train.csv.part"
    unfinished.write_text(table, encoding="utf-8")
    unfinished.replace(target)
    return len(takes)


def plan_takes(config: BirdsongConfig) -> list[Take]:
    """All recordings of a demo folder, in the order of train.csv; a pure function."""
    rng = np.random.default_rng(config.seed)
    birds = SPECIES[: config.num_species]
    tail = np.geomspace(LONGEST_TAIL, SHORTEST_TAIL, len(birds)) * config.scale
    takes: list[Take] = []
    session = 0
    for bird, wanted in zip(birds, np.maximum(1, tail.round()).astype(int).tolist(), strict=True):
        left = wanted
        while left:
            size = min(left, int(rng.integers(1, 1 + np.clip(wanted // 5, 1, 4))))
            session += 1
            takes += _plan_session(rng, bird, birds, session, range(len(takes), len(takes) + size))
            left -= size
    return sorted(takes, key=lambda take: take.filename)


def _plan_session(
    rng: np.random.Generator,
    bird: Species,
    birds: tuple[Species, ...],
    session: int,
    numbers: range,
) -> Iterator[Take]:
    """The takes of one bird at one place on one morning."""
    others = [other for other in birds if other is not bird]
    author = f"Recordist {chr(ord('A') + int(12 * rng.random() ** 2))}"
    latitude, longitude = rng.uniform(5.6, 7.9), rng.uniform(-75.9, -73.4)
    usual_m = rng.lognormal(2.9, 0.6)
    for number in numbers:
        distance_m = float(np.clip(usual_m * rng.uniform(0.7, 1.4), 5, 70))
        singers = [Singer(species=bird, voice=session, distance_m=distance_m)]
        num_others = min(len(others), int(rng.choice(3, p=[0.6, 0.3, 0.1])))
        for other in rng.choice(len(others), num_others, replace=False).tolist():
            away_m = float(distance_m * rng.uniform(1.3, 3.0))
            singers.append(Singer(species=others[other], voice=session, distance_m=away_m))
        yield Take(
            number=number,
            session=session,
            singers=tuple(singers),
            calls=bool(rng.random() < 0.3),
            duration_s=round(float(np.clip(rng.lognormal(2.5, 0.6), 3, 40)), 2),
            latitude=latitude,
            longitude=longitude,
            author=author,
        )


def _write_take(folder: Path, take: Take, seed: int) -> None:
    sound = synthesise_take(
        take.singers,
        duration_s=take.duration_s,
        seed=seed,
        place=take.session,
        take=take.number,
        calls=take.calls,
    )
    (folder / "train_audio" / take.filename).write_bytes(encode_ogg(sound, serial=take.number))


def encode_ogg(sound: Waveform, *, serial: int) -> bytes:
    """Ogg Vorbis at 32,000 Hz, mono; equal sound and `serial` give equal bytes.

    libsndfile numbers each stream at random; the number is replaced, as are the page checksums.
    """
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, RATE_HZ, format="OGG", subtype="VORBIS")
    data = bytearray(buffer.getvalue())
    start = 0
    while start < len(data):  # page header as in RFC 3533, section 6
        lacing = data[start + 27 : start + 27 + data[start + 26]]
        end = start + 27 + len(lacing) + sum(lacing)
        data[start + 14 : start + 18] = serial.to_bytes(4, "little")
        data[start + 22 : start + 26] = bytes(4)
        data[start + 22 : start + 26] = _ogg_crc(data[start:end]).to_bytes(4, "little")
        start = end
    return bytes(data)


def _ogg_crc(page: bytearray) -> int:
    """Ogg's checksum: the polynomial of zlib's crc32, highest bit first, not inverted."""
    mirrored = zlib.crc32(page.translate(MIRRORED_BYTES), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def _taxonomy(num_species: int) -> str:
    """taxonomy.csv; invented birds have no iNaturalist number."""
    birds = sorted(SPECIES[:num_species], key=lambda bird: bird.label)
    rows = [(bird.label, "", bird.scientific_name, bird.common_name, "Aves") for bird in birds]
    return _csv_text(
        TAXONOMY_COLUMNS, [dict(zip(TAXONOMY_COLUMNS, row, strict=True)) for row in rows]
    )


def _csv_text(columns: Sequence[str], rows: Iterable[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
