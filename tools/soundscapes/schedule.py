"""Plans soundscapes: sites, backgrounds, singers and the times of their calls.

A pure function of the config and of the split; the audio is not looked at. Classes take turns, so
that each is about equally often in each role.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.random import Generator

from tools.soundscapes.config import MIXED, ROLES, MixConfig

FIRST_DAY = datetime(2025, 5, 1)
HOURS = (4, 5, 6, 7, 8, 17, 18, 19, 20, 21)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCall:
    """A call to come: where it is cut from, when it begins, how far away it sounds.

    `place` in [0, 1]: of its start, in what the length of the call leaves of the soundscape.
    """

    label: str
    filename: str  # of the recording
    path: str
    length_s: float
    place: float
    snr_db: float
    echo_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSoundscape:
    """A soundscape to come; `number` counts through all roles."""

    number: int
    role: str
    name: str
    duration_s: float
    seed: int
    noise_dbfs: float
    backgrounds: tuple[str, ...]  # paths
    calls: tuple[PlannedCall, ...]


def plan_soundscapes(
    config: MixConfig, recordings: pl.DataFrame, backgrounds: pl.DataFrame
) -> list[PlannedSoundscape]:
    """Plans the soundscapes of all roles, in order; tables as of `split`."""
    planned: list[PlannedSoundscape] = []
    site_no = 0
    for role in MIXED:
        rng = np.random.default_rng([config.seed, 2, ROLES.index(role)])
        sites = _sites(backgrounds.filter(pl.col("role") == role), config.sites)
        singers = _Singers(recordings.filter(pl.col("role") == role), rng)
        for number in range(config.num_soundscapes(role)):
            site = number % len(sites)
            time = FIRST_DAY + timedelta(days=number // len(sites), hours=int(rng.choice(HOURS)))
            stamp = f"{time + timedelta(minutes=10 * int(rng.integers(6))):%Y%m%d_%H%M%S}"
            name = f"MIX_{role.capitalize()}_{number:04d}_S{site_no + site + 1:02d}_{stamp}.ogg"
            planned.append(
                PlannedSoundscape(
                    number=len(planned),
                    role=role,
                    name=name,
                    duration_s=config.duration_s,
                    seed=config.seed,
                    noise_dbfs=float(rng.uniform(config.min_noise_dbfs, config.max_noise_dbfs)),
                    backgrounds=sites[site],
                    calls=tuple(_plan_calls(config, singers, rng)),
                )
            )
        site_no += len(sites)
    return planned


class _Singers:
    """Recordings of one role, whose classes take turns in an order that is drawn for each round."""

    def __init__(self, recordings: pl.DataFrame, rng: Generator) -> None:
        by_label = recordings.group_by("primary_label", maintain_order=True).agg("filename", "path")
        self._of_label = {
            label: list(zip(names, paths, strict=True))
            for label, names, paths in by_label.iter_rows()
        }
        self._rng = rng
        self._left: list[str] = []

    def draw(self, number: int) -> list[tuple[str, str, str]]:
        """Draws recordings of different classes: label, filename, path."""
        drawn: list[tuple[str, str, str]] = []
        skipped: list[str] = []
        while len(drawn) < min(number, len(self._of_label)):
            if not self._left:
                labels = sorted(self._of_label)
                self._left = [labels[index] for index in self._rng.permutation(len(labels))]
            label = self._left.pop()
            if any(label == other for other, _, _ in drawn):
                skipped.append(label)
                continue
            takes = self._of_label[label]
            drawn.append((label, *takes[int(self._rng.integers(len(takes)))]))
        self._left += skipped
        return drawn


def _sites(backgrounds: pl.DataFrame, number: int) -> list[tuple[str, ...]]:
    """Shares the groups of backgrounds of one role out to sites, kinds by turns."""
    by_group = backgrounds.sort("kind", "group", "path").group_by(
        "kind", "group", maintain_order=True
    )
    groups = by_group.agg("path")["path"].to_list()
    num_sites = min(number, len(groups))
    sites: list[list[str]] = [[] for _ in range(num_sites)]
    for place, paths in enumerate(groups):
        sites[place % num_sites] += paths
    return [tuple(paths) for paths in sites]


def _plan_calls(config: MixConfig, singers: _Singers, rng: Generator) -> Iterator[PlannedCall]:
    """Plans the calls of one soundscape; all of a singer have one distance: level and echo."""
    per_minute = rng.uniform(config.min_calls, config.max_calls)
    num_calls = int(np.floor(per_minute * config.duration_s / 60 + rng.uniform()))
    if not num_calls:
        return
    num_singers = int(rng.integers(1, min(config.max_species, num_calls) + 1))
    drawn = singers.draw(num_singers)
    distances = [
        (
            float(rng.uniform(config.min_snr_db, config.max_snr_db)),
            float(rng.uniform(0, config.max_echo_s)),
        )
        for _ in drawn
    ]
    for number in range(num_calls):
        singer = number if number < len(drawn) else int(rng.integers(len(drawn)))
        label, filename, path = drawn[singer]
        snr_db, echo_s = distances[singer]
        yield PlannedCall(
            label=label,
            filename=filename,
            path=path,
            length_s=float(rng.uniform(config.min_call_s, config.max_call_s)),
            place=float(rng.uniform()),
            snr_db=snr_db,
            echo_s=echo_s,
        )
