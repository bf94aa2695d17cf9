"""Waveform to decibels, ours against librosa, on the same slices in one process.

python -m tools.benchmarks.building.mel_only RESULT STARTED SOURCE NUM_SLICES ROUNDS
"""

import itertools
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from storage.audio.decode import Decoder
from storage.audio.filterbank import mel_filterbank
from storage.audio.mel import MelTransform
from storage.audio.slicing import cut_slices
from tools.benchmarks.building.librosa_baseline import RECIPE, librosa_db
from tools.benchmarks.harness.process import measure
from tools.benchmarks.harness.recordings import LABEL

SLICES_PER_RECORDING = 10


def compare(source: Path, num_slices: int, rounds: int) -> dict[str, Any]:
    """CPU ms per slice of both, medians over rounds in turn, and the largest difference in dB."""
    torch.set_num_threads(1)
    slices = list(itertools.islice(_slices(source), num_slices))
    transform = MelTransform(RECIPE, mel_filterbank(RECIPE))

    def ours_db(samples_S: np.ndarray) -> np.ndarray:
        db_MT, _ = transform.decibels(transform.power(samples_S))
        return np.asarray(db_MT)

    ways = {"librosa_ms": librosa_db, "ours_ms": ours_db}
    taken_ms: dict[str, list[float]] = {name: [] for name in ways}
    for _, (name, way) in itertools.product(range(rounds), ways.items()):
        began = time.process_time()
        for samples_S in slices:
            way(samples_S)
        taken_ms[name].append((time.process_time() - began) / len(slices) * 1e3)
    return {
        "num_slices": len(slices),
        "difference_db": max(float(abs(ours_db(one) - librosa_db(one)).max()) for one in slices),
        **{name: statistics.median(times) for name, times in taken_ms.items()},
    }


def _slices(source: Path) -> Iterator[np.ndarray]:
    """Yields the samples of the first slices of each recording."""
    for path in sorted((source / LABEL).iterdir()):
        cut = cut_slices(Decoder(path, RECIPE.sample_rate_hz), RECIPE)
        yield from (one.copy() for one in itertools.islice(cut, SLICES_PER_RECORDING))


if __name__ == "__main__":
    root, count, turns = sys.argv[3:]
    measure(sys.argv[1:], lambda: compare(Path(root), int(count), int(turns)))
