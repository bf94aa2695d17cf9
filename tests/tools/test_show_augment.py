"""tools.show_augment draws the samples of an epoch, as stored and as training sees them."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from datasets.augment.pipeline import AUGMENTATIONS, AugmentConfig
from tests.paths import ROOT
from tests.small_store import build_small_store
from tools.cli.command import run
from tools.cli.sheets.augment_sheet import SMALL
from tools.cli.sheets.contact_sheet import BOTTOM, DPI, GAP, LEFT, PANEL, RIGHT, TOP
from tools.show_augment import COMMAND, main

DOCS = ROOT / "docs"
ALIGNMENT = 0.003  # two panels of one slice differ by so much, lying between pixels


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_small_store(tmp_path_factory.mktemp("augment"), [3, 4, 5, 3, 4, 5])


def draw(store: Path, *words: str) -> int:
    return run(COMMAND, main, [f"store={store}", "folds.num_folds=2", "train_folds=[0]", *words])


def panels(sheet: Path, columns: int, rows: int, dpi: float = DPI) -> np.ndarray:
    """The pictures of a sheet, [rows, columns, height, width, 3]; checks that it has as many."""
    image = imread(sheet)[:, :, :3]
    width = LEFT + columns * PANEL[0] + (columns - 1) * GAP[0] + RIGHT
    height = TOP + rows * PANEL[1] + (rows - 1) * GAP[1] + BOTTOM
    assert image.shape[:2] == pytest.approx((height * dpi, width * dpi), abs=2)
    size = [round(side * dpi) - 6 for side in PANEL]
    corners = [
        [
            (
                round((TOP + row * (PANEL[1] + GAP[1])) * dpi) + 3,
                round((LEFT + column * (PANEL[0] + GAP[0])) * dpi) + 3,
            )
            for column in range(columns)
        ]
        for row in range(rows)
    ]
    return np.array(
        [[image[y : y + size[1], x : x + size[0]] for y, x in line] for line in corners]
    )


def test_each_augmentation_has_a_row_that_differs_from_the_slices_as_stored(
    store: Path, tmp_path: Path
) -> None:
    sheet = tmp_path / "each.png"
    strong = "augment.background.max_snr_db=0"
    words = ["--each", "--num", "3", "--png", str(sheet), f"background.store={store}", strong]
    assert draw(store, *words) == 0
    shown = panels(sheet, 3, 1 + len(AUGMENTATIONS))
    for row in shown[1:]:
        assert np.abs(row - shown[0]).mean() > ALIGNMENT


@pytest.mark.slow
def test_each_fits_a_sheet_by_itself(store: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "each.png"
    assert draw(store, "--each", "--png", str(sheet)) == 0
    panels(sheet, 5, len(AUGMENTATIONS))  # without background


def test_without_augmentation_training_sees_what_is_stored(store: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "plain.png"
    off = [f"augment.{name}.p=0" for name in AUGMENTATIONS]
    assert draw(store, "--num", "2", "--png", str(sheet), *off) == 0
    stored, seen = panels(sheet, 2, 2)
    assert np.abs(stored - seen).mean() < ALIGNMENT


def test_every_augmentation_has_a_small_picture_and_a_text_in_the_documents() -> None:
    text = (DOCS / "augmentations.md").read_text(encoding="utf-8")
    pictures = {path.stem: path.stat().st_size for path in (DOCS / "augmentations").iterdir()}
    assert set(pictures) == {"images", *AUGMENTATIONS}
    assert max(pictures.values()) < 150_000
    for entry in fields(AugmentConfig):
        assert f"**{entry.name}**: " in text
        assert f"![{entry.name}](augmentations/{entry.name}.png)" in text
    for name in AUGMENTATIONS:
        for key in fields(getattr(AugmentConfig(), name)):
            assert f"`{key.name}`" in text, key.name


def test_a_folder_has_a_small_sheet_of_two_rows_for_each(store: Path, tmp_path: Path) -> None:
    images = "augment.images=[{name: VerticalFlip, p: 1.0}]"
    assert draw(store, "--num", "1", "--folder", str(tmp_path / "new"), images) == 0
    names = {path.stem for path in (tmp_path / "new").iterdir()}
    assert names == {"images", *AUGMENTATIONS} - {"background"}
    stored, seen = panels(tmp_path / "new" / "images.png", 1, 2, dpi=SMALL * DPI)
    assert np.abs(stored - seen).mean() > 10 * ALIGNMENT
    upright = np.array([panel[::-1] for panel in seen])
    assert np.abs(stored - upright).mean() < np.abs(stored - seen).mean() / 2


def test_more_panels_than_a_sheet_has_are_refused(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert draw(store, "--num", "33", "--png", str(tmp_path / "x.png")) == 2
    assert "give --num 1 to 32" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--epoch", "-1"), "--epoch -1 must be at least 0"),
        (("--num", "0"), "--num 0 must be at least 1"),
        (("--folder", f"{__file__}/x"), "cannot be made"),
        (("--png", str(Path(__file__).parent)), "is a folder"),
        (("train_folds=7",), "train_folds takes a list, such as train_folds=[0,1]"),
    ],
)
def test_a_wrong_call_is_one_line(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(COMMAND, main, words) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
