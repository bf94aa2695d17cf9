"""The demo's soundscape: birds where its annotations say, and a picture of what is detected."""

from pathlib import Path

import numpy as np
import polars as pl
import soundfile
from PIL import Image

from storage.recipe import Recipe
from tools.birdsong.recordings import BirdsongConfig
from tools.birdsong.soundscape import DURATION_S, annotations, plan_bouts
from tools.birdsong.species import SPECIES
from tools.birdsong.voices import RATE_HZ, Bout, Singer, synthesise_soundscape
from training.inference.outputs.pictures import write_detection_picture

RECIPE = Recipe()


def test_bouts_are_in_order_with_stretches_without_any() -> None:
    for seed in range(20):
        bouts = plan_bouts(BirdsongConfig(seed=seed, num_species=5))
        assert bouts == plan_bouts(BirdsongConfig(seed=seed, num_species=5))
        starts = [bout.start_s for bout in bouts]
        assert starts == sorted(starts)
        assert all(0 <= bout.start_s < bout.end_s <= DURATION_S for bout in bouts)
        assert sum(bout.end_s - bout.start_s for bout in bouts) < DURATION_S
        assert {bout.singer.species for bout in bouts} <= set(SPECIES[:5])
        assert annotations(bouts)["labels"].to_list() == [b.singer.species.label for b in bouts]


def test_a_bird_is_heard_in_its_bout() -> None:
    tsipper = next(bird for bird in SPECIES if bird.common_name == "Little Tsipper")
    near, far = Singer(tsipper, 8), Singer(tsipper, 1e4)  # one that nobody hears
    heard, alone = (
        synthesise_soundscape([Bout(singer, 4, 8)], 12, seed=3) for singer in (near, far)
    )
    assert np.array_equal(heard, synthesise_soundscape([Bout(near, 4, 8)], 12, seed=3))
    levels = [sound[: 4 * RATE_HZ].std() for sound in (heard, alone)]
    song = heard / levels[0] - alone / levels[1]
    power = (song[: 12 * RATE_HZ].reshape(12, RATE_HZ) ** 2).sum(1)
    assert set(np.flatnonzero(power > 0.05 * power.max())) <= {4, 5, 6, 7, 8}
    assert power[:4].max() < 1e-3 * power.max()


def test_a_picture_has_a_row_for_each_minute_of_the_first_ten(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 8000 * 62).astype(np.float32)
    sizes = []
    for name, length_s in (("short", 3.2), ("long", 62)):
        file = tmp_path / f"{name} $x$.wav"
        soundfile.write(file, noise[: int(8000 * length_s)], 8000)
        found = pl.DataFrame({"start_s": [0.0, 60.0], "end_s": [5.0, 65.0], "score": [0.5, 1.0]})
        found = found.with_columns(common_name=pl.Series(["Owl $1", "Wren"]))
        recipe = Recipe(sample_rate_hz=8000, fmax_hz=4000, n_mels=32)
        write_detection_picture(file, found, recipe, tmp_path / "out" / f"{name}.png")
        write_detection_picture(file, found[:0], recipe, tmp_path / "none.png")
        with Image.open(tmp_path / "out" / f"{name}.png") as image:
            sizes.append(image.size)
    assert sizes[0][0] == sizes[1][0]
    assert sizes[1][1] > 1.5 * sizes[0][1]
