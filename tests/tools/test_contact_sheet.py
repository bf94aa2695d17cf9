"""The contact sheet: frequencies and times are where the axes say, and any title can be drawn."""

import librosa
import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.image import imread

from storage.audio.mel_axis import band_of_hz
from storage.recipe import Recipe
from tools.cli.output_files import MAX_PANELS
from tools.cli.sheets.contact_sheet import (
    BOTTOM,
    DPI,
    LEFT,
    PANEL,
    TOP,
    shorten_title,
    write_contact_sheet,
)

RECIPE = Recipe()
ODD = Recipe(sample_rate_hz=24_000, n_mels=64, fmin_hz=150, fmax_hz=9000, slice_s=3, hop=320)


def panel_of(path):
    """The cells of a sheet of one slice, top row first, brightness from 0 to 1."""
    picture = imread(path)[:, :, :3].mean(axis=2)
    top, left = round(TOP * DPI), round(LEFT * DPI)
    bottom = len(picture) - round(BOTTOM * DPI)
    return picture[top + 2 : bottom - 2, left + 2 : left + round(PANEL[0] * DPI) - 2]


@pytest.mark.parametrize("recipe", [RECIPE, ODD], ids=["default", "odd"])
def test_bands_lie_at_their_centre_frequencies(recipe):
    centres_hz = librosa.mel_frequencies(
        recipe.n_mels + 2, fmin=recipe.fmin_hz, fmax=recipe.fmax_hz
    )[1:-1]
    bands = [band_of_hz(frequency_hz, recipe) for frequency_hz in centres_hz]
    np.testing.assert_allclose(bands, np.arange(recipe.n_mels), atol=1e-9)


@pytest.mark.parametrize("recipe", [RECIPE, ODD], ids=["default", "odd"])
def test_tone_and_click_are_drawn_where_they_are(recipe, tmp_path):
    band, frame = recipe.n_mels // 4, recipe.num_frames // 3
    cells = np.zeros((1, *recipe.slice_shape), np.uint8)
    cells[0, band] = 255
    cells[0, :, frame] = 255
    write_contact_sheet(cells, recipe, ["tone and click"], tmp_path / "sheet.png")
    panel = panel_of(tmp_path / "sheet.png")
    height, width = panel.shape
    from_below = height - 1 - panel.sum(axis=1).argmax()
    assert from_below / height == pytest.approx((band + 0.5) / recipe.n_mels, abs=0.01)
    time_s = panel.sum(axis=0).argmax() / width * recipe.slice_s
    assert time_s == pytest.approx(frame * recipe.hop / recipe.sample_rate_hz, abs=0.03)


def test_louder_cells_are_brighter(tmp_path):
    steps = np.linspace(0, 1, RECIPE.num_frames, dtype=np.float32)
    cells = np.broadcast_to(steps, (1, *RECIPE.slice_shape))
    write_contact_sheet(cells, RECIPE, ["ramp"], tmp_path / "sheet.png")
    brightness = panel_of(tmp_path / "sheet.png").mean(axis=0)
    assert (np.diff(brightness[::10]) > 0).all()


def test_bytes_and_fractions_give_the_same_picture(tmp_path):
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 256, (3, *RECIPE.slice_shape), np.uint8)
    titles = ["a", "b", "c"]
    write_contact_sheet(cells, RECIPE, titles, tmp_path / "bytes.png")
    write_contact_sheet(cells.astype(np.float32) / 255, RECIPE, titles, tmp_path / "floats.png")
    assert np.array_equal(imread(tmp_path / "bytes.png"), imread(tmp_path / "floats.png"))


@pytest.mark.parametrize(("num_panels", "lit"), [(1, 0), (2, 1), (12, 7), (MAX_PANELS, 63)])
def test_every_slice_has_a_panel(num_panels, lit, tmp_path):
    cells = np.zeros((num_panels, *RECIPE.slice_shape), np.uint8)
    cells[lit] = 255
    write_contact_sheet(cells, RECIPE, [""] * num_panels, tmp_path / "lit.png")
    image = np.round(imread(tmp_path / "lit.png") * 255)
    for number in (lit, (lit + 1) % num_panels):
        colour = np.array(colormaps["magma"](1.0 if number == lit else 0.0)) * 255
        area = (np.abs(image - colour) < 1).all(axis=2).sum() / (PANEL[0] * PANEL[1] * DPI**2)
        assert area == pytest.approx(1 if number == lit else num_panels - 1, rel=0.05)


@pytest.mark.parametrize(
    "title",
    ["$x_", "100 % $a$\\frac{", "one\ntwo\nthree", "long " * 60, "Zeisig, Müller", ""],
    ids=["dollar", "tex", "lines", "long", "umlaut", "empty"],
)
def test_any_title_is_drawn(title, tmp_path):
    cells = np.zeros((1, *RECIPE.slice_shape), np.uint8)
    write_contact_sheet(cells, RECIPE, [title], tmp_path / "new" / "sheet.png")
    assert imread(tmp_path / "new" / "sheet.png").shape[2] == 4


def test_long_titles_keep_their_beginning():
    assert shorten_title("SYN100046  2.5 s") == "SYN100046  2.5 s"
    short = shorten_title("0123456789" * 9)
    assert short == "0123456789" * 3 + "012345678…"
