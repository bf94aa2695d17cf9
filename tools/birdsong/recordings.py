"""Synthesises a folder of recordings in the layout of BirdCLEF 2025.

A session (one recordist, one place, one bird) has up to three recordings, which share `url`: folds
grouped by `url` keep a bird in one fold. Other species sing farther away and are named in
`secondary_labels`. Equal seeds give equal bytes on one machine, for any number of threads.
Costs about 50 s of CPU for the default 257 recordings, one hour of audio.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from storage.errors import ConfigError
from storage.options import check_at_least, check_between, check_positive, option
from tools.birdsong.species import SPECIES, Species
from tools.birdsong.voices import RATE_HZ, Singer, Take, synthesise_audio
from tools.cli.progress_bars import bar
from tools.testbed.ogg_files import write_ogg


@dataclass(frozen=True, slots=True, kw_only=True)
class BirdsongConfig:
    """Amount of synthetic birdsong, and its seed."""

    seed: int = option(0, "random seed of the birdsong")
    num_species: int = option(16, "number of species, 2 to 16; the first are the most common")
    scale: float = option(1.0, "factor on the number of recordings; 1 gives an hour of audio")

    def __post_init__(self) -> None:
        check_between(self, "demo", 2, len(SPECIES), "num_species")
        check_between(self, "demo", 0, 100, "scale")
        check_positive(self, "demo", "scale")
        check_at_least(self, "demo", 0, "seed")


def synthesise_birdsong(folder: Path, config: BirdsongConfig) -> int:
    """Writes `train_audio/`, `taxonomy.csv` and, last, `train.csv`; returns the recordings.

    Leaves a complete folder alone; raises ConfigError if it holds other recordings.
    """
    takes = plan_takes(config)
    table = pl.DataFrame([csv_row(take) for take in takes])
    target = folder / "train.csv"
    if target.exists():
        if target.read_text(encoding="utf-8") == table.write_csv():
            return len(takes)
        raise ConfigError(f"{target} is not what {config} makes: choose another demo.root")

    def write_audio(take: Take, name: str) -> None:
        sound = synthesise_audio(take, config.seed)
        write_ogg(folder / "train_audio" / name, sound, RATE_HZ, serial=take.number)

    with ThreadPoolExecutor() as pool, bar("synthesise", len(takes), "recordings") as step:
        for _ in pool.map(write_audio, takes, table["filename"]):
            step(1)
    taxonomy = table.select("primary_label", "scientific_name", "common_name")
    taxonomy = taxonomy.with_columns(class_name=pl.lit("Aves"))
    taxonomy.unique().sort("primary_label").write_csv(folder / "taxonomy.csv")
    unfinished = folder / "train.csv.part"
    table.write_csv(unfinished)
    unfinished.replace(target)
    return len(takes)


def plan_takes(config: BirdsongConfig) -> list[Take]:
    """Returns all recordings, 40 of the most common species, 4 of the rarest; a pure function."""
    birds = SPECIES[: config.num_species]
    counts = np.maximum(1, np.round(np.geomspace(40, 4, len(birds)) * config.scale)).astype(int)
    takes: list[Take] = []
    session = 0
    for bird, count in zip(birds, counts.tolist(), strict=True):
        others = [other for other in birds if other is not bird]
        per_session = min(3, max(1, count // 10))
        for number in range(count):
            session += number % per_session == 0
            takes.append(_plan_take(config.seed, len(takes), session, bird, others))
    return takes


def _plan_take(seed: int, number: int, session: int, bird: Species, others: list[Species]) -> Take:
    rng = np.random.default_rng([seed, 3, number])
    distance_m = float(np.clip(rng.lognormal(2.9, 0.6), 5, 70))
    num_others = min(len(others), int(rng.choice(3, p=[0.6, 0.3, 0.1])))
    overlapping = [
        Singer(others[index], distance_m * rng.uniform(1.3, 3.0))
        for index in rng.choice(len(others), num_others, replace=False)
    ]
    duration_s = round(float(np.clip(rng.lognormal(2.5, 0.6), 3, 40)), 2)
    return Take(number, session, (Singer(bird, distance_m), *overlapping), duration_s)


def csv_row(take: Take) -> dict[str, object]:
    """Returns the row of train.csv; the rating falls with the distance of the singer."""
    bird, distance_m = take.singers[0]
    return {
        "primary_label": bird.label,
        "secondary_labels": str([singer.species.label for singer in take.singers[1:]] or [""]),
        "filename": f"{bird.label}/SYN{100_000 + take.number}.ogg",
        "rating": round(2 * float(np.clip(5.5 - distance_m / 15, 1, 5))) / 2,
        "url": f"https://birdsong.invalid/session/{take.session}",
        "scientific_name": bird.scientific_name,
        "common_name": bird.common_name,
        "author": f"Recordist {take.session % 12}",
    }
