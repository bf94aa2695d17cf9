"""Small synthetic recordings, seeded, in the layout of BirdCLEF."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import soundfile

RATE_HZ = 32_000
LONG_S = 20.0


def chirps(seconds: float, rng: np.random.Generator, rate_hz: int = RATE_HZ) -> np.ndarray:
    """Chirps over pink-like noise, float32 [S]: something at every frequency and level."""
    if seconds > LONG_S:  # the same again and again
        once = chirps(LONG_S, rng, rate_hz)
        return np.resize(once, round(seconds * rate_hz))
    num = max(1, round(seconds * rate_hz))
    time_s = np.arange(num) / rate_hz
    noise = np.cumsum(rng.standard_normal(num)) * 1e-3 + rng.standard_normal(num) * 1e-3
    sound = noise - noise.mean()
    for _ in range(1 + int(seconds)):
        start, length = rng.uniform(0, seconds), rng.uniform(0.05, 0.4)
        pitch_hz, slope = rng.uniform(500, 12_000), rng.uniform(-4000, 4000)
        inside = np.clip((time_s - start) / length, 0, 1)
        phase = 2 * np.pi * (pitch_hz * time_s + slope * (time_s - start) ** 2)
        sound += 0.3 * np.sin(np.pi * inside) ** 2 * np.sin(phase)
    return (0.7 * sound / max(1.0, np.abs(sound).max())).astype(np.float32)


def write_source(
    root: Path, seconds: Sequence[float], rng: np.random.Generator, *, ending: str = "ogg"
) -> Path:
    """A folder in BirdCLEF layout with one recording of each length; returns it."""
    rows = []
    for number, length_s in enumerate(seconds):
        label = f"spec{number % 3}"
        name = f"{label}/XC{number:04d}.{ending}"
        path = root / "train_audio" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, chirps(length_s, rng), RATE_HZ)
        rows.append(
            {
                "primary_label": label,
                "secondary_labels": "['spec1']" if number % 4 == 0 and label != "spec1" else "['']",
                "filename": name,
                "rating": 0.5 * (number % 10),
                "author": f"author {number % 5}",
            }
        )
    pl.DataFrame(rows).write_csv(root / "train.csv")
    return root
