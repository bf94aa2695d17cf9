"""The recordings of a benchmark: a folder of links to real ones, or of ones joined to a length."""

import itertools
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import soundfile

from storage.audio.decode import Decoder, read_header
from storage.errors import AudioError, ConfigError
from storage.source.table import SourceConfig, read_source

RATE_HZ = 32_000
LABEL = "benchmark"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recordings:
    """A folder with one label's folder of recordings in it; durations in s, shortest first."""

    root: Path
    durations_s: tuple[float, ...]
    joined: bool

    @property
    def files(self) -> list[Path]:
        """All recordings, in order."""
        return sorted((self.root / LABEL).iterdir())

    @property
    def audio_s(self) -> float:
        """All durations together, s."""
        return sum(self.durations_s)

    def summary(self) -> str:
        """Description for the report."""
        kind = "joined, 32-kHz mono ogg" if self.joined else "as they are"
        median_s = statistics.median(self.durations_s)
        return (
            f"{len(self.durations_s)} recordings ({kind}), {self.audio_s / 3600:.2f} h, "
            f"{self.durations_s[0]:.1f} to {self.durations_s[-1]:.1f} s, median {median_s:.1f} s"
        )


def link_recordings(
    files: list[Path], root: Path, repeat: int, *, joined: bool = False
) -> Recordings:
    """Makes a folder in which each file appears `repeat` times, as links."""
    folder = root / LABEL
    folder.mkdir(parents=True)
    durations_s: list[float] = []
    for number, file in enumerate(files):
        durations_s += repeat * [read_header(file).duration_s]
        for copy in range(repeat):
            (folder / f"{copy:03d}_{number:05d}{file.suffix}").symlink_to(file.resolve())
    return Recordings(root=root, durations_s=tuple(sorted(durations_s)), joined=joined)


def join_recordings(files: list[Path], root: Path, join_s: float, repeat: int) -> Recordings:
    """Joins recordings to at least `join_s` each, as 32-kHz mono ogg: what BirdCLEF's are."""
    folder = root / "joined"
    folder.mkdir(parents=True)
    joined = []
    for number, samples in enumerate(_joined(files, join_s)):
        joined.append(folder / f"{number:05d}.ogg")
        with soundfile.SoundFile(
            joined[-1], "w", RATE_HZ, 1, format="OGG", subtype="VORBIS"
        ) as ogg:
            for start in range(0, len(samples), RATE_HZ):  # libsndfile overflows on long blocks
                ogg.write(samples[start : start + RATE_HZ])
    if not joined:
        raise ConfigError(f"all recordings together are shorter than benchmark.join_s={join_s:g}")
    return link_recordings(joined, root / "links", repeat, joined=True)


def find_recordings(source_root: str, limit: int | None) -> list[Path]:
    """Returns the readable recordings of a source folder, at most `limit` of them."""
    source = read_source(SourceConfig(root=source_root, id="filename"))
    paths = map(Path, source.recordings.filter(pl.col("reason").is_null())["path"])
    found = list(itertools.islice(filter(_is_readable, paths), limit))
    if not found:
        raise ConfigError(f"benchmark.source_root={source_root} has no readable recordings")
    return found


def _is_readable(path: Path) -> bool:
    try:
        return read_header(path).duration_s > 0
    except AudioError:
        return False


def _joined(files: list[Path], join_s: float) -> Iterator[np.ndarray]:
    held: list[np.ndarray] = []
    for file in files:
        held += [block.copy() for block in Decoder(file, RATE_HZ)]
        if sum(map(len, held)) >= join_s * RATE_HZ:
            yield np.concatenate(held)
            held = []
