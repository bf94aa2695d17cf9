"""Synthesises a soundscape of three minutes, and its annotations.

synthesise_soundscape(root / "soundscapes", config)

SYN_20250601_053000.ogg    birds by turns, two at a time in places, and stretches without any
annotations.csv            file, start_s, end_s, labels: the bouts of song
"""

from pathlib import Path

import numpy as np
import polars as pl

from tools.birdsong import voices
from tools.birdsong.recordings import BirdsongConfig
from tools.birdsong.species import SPECIES
from tools.birdsong.voices import RATE_HZ, Bout, Singer
from tools.testbed.ogg_files import write_ogg

NAME, ANNOTATIONS = "SYN_20250601_053000.ogg", "annotations.csv"
DURATION_S = 180.0
BOUT_S, PAUSE_S = (9.0, 17.0), (-3.0, 9.0)  # a pause below 0: the next bird begins earlier


def synthesise_soundscape(folder: Path, config: BirdsongConfig) -> Path:
    """Writes the recording and, last, its annotations, unless they are there; returns its path."""
    recording, table = folder / NAME, annotations(plan_bouts(config)).write_csv()
    target = folder / ANNOTATIONS
    if not (target.exists() and target.read_text(encoding="utf-8") == table):
        sound = voices.synthesise_soundscape(plan_bouts(config), DURATION_S, config.seed)
        write_ogg(recording, sound, RATE_HZ, serial=1)
        unfinished = folder / f".{ANNOTATIONS}.part"  # hidden, in a folder of recordings
        unfinished.write_text(table, encoding="utf-8")
        unfinished.replace(target)
    return recording


def plan_bouts(config: BirdsongConfig) -> list[Bout]:
    """Plans who sings when, in order of time; a pure function of the config."""
    rng = np.random.default_rng([config.seed, 7])
    bouts: list[Bout] = []
    at = 4.0
    while at + BOUT_S[0] < DURATION_S:
        end = min(DURATION_S, at + rng.uniform(*BOUT_S))
        bird = SPECIES[rng.integers(config.num_species)]
        bouts.append(Bout(Singer(bird, rng.uniform(8, 25)), round(at, 2), round(end, 2)))
        at = end + rng.uniform(*PAUSE_S)
    return bouts


def annotations(bouts: list[Bout]) -> pl.DataFrame:
    """Returns the bouts as a table of annotations."""
    return pl.DataFrame(
        {
            "file": [NAME for _ in bouts],
            "start_s": [bout.start_s for bout in bouts],
            "end_s": [bout.end_s for bout in bouts],
            "labels": [bout.singer.species.label for bout in bouts],
        }
    )
