"""Small labelled recordings and backgrounds, for test beds."""

from pathlib import Path

import numpy as np
import polars as pl
import soundfile

from tests.sounds import RATE_HZ


def write_recordings(root: Path, num_classes: int, num_recordings: int) -> Path:
    """A folder in BirdCLEF layout: tones of one pitch per class, in bursts over faint noise."""
    rng = np.random.default_rng(5)
    rows = []
    for class_no in range(num_classes):
        for number in range(num_recordings):
            name = f"bird{class_no}/XC{100 * class_no + number}.ogg"
            path = root / "train_audio" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, burst(1000 * (class_no + 1), 2.0, rng), RATE_HZ)
            several = number == num_recordings - 1 and class_no > 0
            rows.append(
                {
                    "primary_label": f"bird{class_no}",
                    "secondary_labels": "['bird0']" if several else "['']",
                    "filename": name,
                    "author": f"author {number // 2}",
                    "common_name": f"Bird {class_no}",
                }
            )
    pl.DataFrame(rows).write_csv(root / "train.csv")
    return root


def burst(pitch_hz: float, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """A tone in the middle third of a stretch of faint noise, float32 [S]."""
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    inside = (time_s > seconds / 3) & (time_s < 2 * seconds / 3)
    tone = 0.5 * np.sin(2 * np.pi * pitch_hz * time_s) * inside
    return (tone + 1e-4 * rng.standard_normal(len(time_s))).astype(np.float32)


def write_backgrounds(root: Path, number: int, seconds: float = 3.0) -> Path:
    """A flat folder of recordings of noise."""
    rng = np.random.default_rng(6)
    root.mkdir(parents=True, exist_ok=True)
    for place in range(number):
        noise = 0.05 * rng.standard_normal(round(seconds * RATE_HZ))
        soundfile.write(root / f"noise_{place}.wav", noise.astype(np.float32), RATE_HZ)
    return root
