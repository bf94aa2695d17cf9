"""Every outcome of a file that is not what it should be, through a whole build."""

import csv
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from storage.audio.slicing import num_slices
from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.build.report import BuildReport
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.paths import ROOT
from tests.spoiled import CASES

REAL = ROOT.parent / "shared" / "data" / "nasty"
RECIPE = Recipe()

REAL_FILES = [  # name, outcome, slices, a word of the reason
    ("01_empty.ogg", "rejected", 0, "empty"),
    ("02_truncated_half.ogg", "partial", 1, "no end mark"),
    ("03_header_only.ogg", "rejected", 0, "not readable"),
    ("04_corrupt_middle.ogg", "partial", 1, "damaged at byte 20,394"),
    ("05_text.ogg", "rejected", 0, "text file"),
    ("06_symlink_blob.ogg", "rejected", 0, "symbolic link"),
    ("07_git_lfs_pointer.mp3", "rejected", 0, "git lfs pull"),
    ("08_stereo.mp3", "stored", 7, ""),
    ("09_8kHz.mp3", "stored", 3, ""),
    ("10_96kHz.ogg", "stored", 9, ""),
    ("11_256kHz_bat.wav", "stored", 2, ""),
    ("12_odd_rate_44150.wav", "stored", 3, ""),
    ("13_all_silence.mp3", "stored", 1, ""),
    ("14_all_silence.ogg", "stored", 1, ""),
    ("15_very_short_22ms.wav", "stored", 1, ""),
    ("16_very_short_35ms.mp3", "stored", 1, ""),
    ("17_zero_frames.wav", "rejected", 0, "no sound"),
    ("18_long_334s.mp3", "stored", 133, ""),
    ("19_one_hour_mono_16k.ogg", "stored", 1439, ""),
    ("20 Tränings data \u2013 鳥の声 (2).ogg", "stored", 1, ""),
    ("21 Cinciallegra_28_5_2012_Riserva Naturale Torbiere del Sebino.mp3", "stored", 8, ""),
    ("22_wav_inside.mp3", "stored", 2, ""),
    ("23_vorbis_inside.wav", "stored", 1, ""),
    ("24_chained.ogg", "stored", 3, ""),
    ("25_nan_inf.wav", "partial", 1, "NaN"),
    ("26_six_channels.wav", "stored", 1, ""),
    ("27_truncated.wav", "partial", 1, "bytes of audio are there"),
    ("28_8bit_unsigned.wav", "stored", 1, ""),
    ("29_tiny_float_stereo.wav", "stored", 1, ""),
    ("30_jpeg.mp3", "rejected", 0, "image"),
    ("31_dc_only.flac", "stored", 1, ""),
    ("32_clipped.flac", "stored", 1, ""),
    ("33_trailing_garbage.ogg", "stored", 1, ""),
    ("34_no_extension", "stored", 1, ""),
]


@dataclass(frozen=True, kw_only=True)
class Built:
    """A store of spoiled files."""

    url: str
    report: BuildReport
    recordings: pl.DataFrame
    rejects: pl.DataFrame

    def outcome(self, filename: str) -> tuple[str, int, str]:
        """(stored, partial or rejected; slices; the reason, if any) of one file."""
        kept = self.recordings.filter(pl.col("filename") == filename)
        noted = self.rejects.filter(pl.col("filename") == filename)
        assert len(kept) <= 1
        assert len(noted) <= 1
        reason = noted["reason"][0] if len(noted) else ""
        if not len(kept):
            assert not noted["partial"][0]
            return "rejected", 0, reason
        status = kept["status"][0]
        assert (status == "partial") == bool(len(noted) and noted["partial"][0])
        return status, kept["num_slices"][0], reason


def build_of(folder: Path, names: list[str], store: Path) -> Built:
    """Builds the files of a folder that a csv names, as one label."""
    table = pl.DataFrame({"filename": names, "primary_label": ["x"] * len(names)})
    table.write_csv(folder / "train.csv")
    source = SourceConfig(root=str(folder), audio_dir="files", id="filename")
    report = build_store(source, RECIPE, str(store), BuildConfig(workers=1))
    return Built(
        url=str(store),
        report=report,
        recordings=pl.read_parquet(store / "recordings" / "*.parquet"),
        rejects=pl.read_parquet(store / "rejects" / "*.parquet"),
    )


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Built:
    if not REAL.is_dir():
        pytest.skip(f"real audio is not here: {REAL} is absent")
    folder = tmp_path_factory.mktemp("real")
    (folder / "files").symlink_to(REAL)
    return build_of(folder, [name for name, *_ in REAL_FILES], folder / "store")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("made")
    (folder / "files").mkdir()
    for name, case in CASES.items():
        (folder / "files" / (name + case.ending)).write_bytes(case.make())
    return build_of(folder, [name + case.ending for name, case in CASES.items()], folder / "store")


@pytest.mark.parametrize(
    ("name", "status", "count", "word"), REAL_FILES, ids=[name[:12] for name, *_ in REAL_FILES]
)
def test_real_file_has_its_outcome(
    real: Built, name: str, status: str, count: int, word: str
) -> None:
    found, num, reason = real.outcome(name)
    assert (found, num) == (status, count)
    assert word in reason
    assert bool(reason) == (status != "stored")


def test_the_table_of_real_files_is_complete(real: Built) -> None:
    with (REAL / "MANIFEST.csv").open() as file:
        listed = [row["file"] for row in csv.DictReader(file)]
    assert listed == [name for name, *_ in REAL_FILES]


@pytest.mark.parametrize("name", CASES)
def test_made_file_has_its_outcome(made: Built, name: str) -> None:
    case = CASES[name]
    status, count, reason = made.outcome(name + case.ending)
    expected = num_slices(round(case.length_s * RECIPE.sample_rate_hz), RECIPE)
    assert (status, count) == (case.status, expected)
    assert case.word in reason
    assert bool(reason) == (status != "stored")
    if status != "rejected":
        row = made.recordings.filter(pl.col("filename") == name + case.ending)
        slack_s = 0.2 if "mp3" in name else 0.06  # delay and padding that no tag records
        assert row["duration_s"][0] == pytest.approx(case.length_s, abs=slack_s)


@pytest.mark.parametrize("which", ["made", "real"])
def test_the_summary_adds_up(which: str, request: pytest.FixtureRequest) -> None:
    report = request.getfixturevalue(which).report
    parts = report.num_stored, report.num_partial, report.num_rejected, report.num_duplicates
    assert sum(parts) == report.num_found
    assert min(parts[:3]) > 0


@pytest.mark.parametrize("which", ["made", "real"])
def test_what_is_stored_is_finite(which: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(which).url
    index = pl.read_parquet(Path(url) / "index" / "*.parquet")
    levels = index.select("max_db", "mean_db", "active_share").to_numpy()
    assert np.isfinite(levels).all()
    assert len(open_store(url).slices()) == len(index)


def test_silence_is_flagged(real: Built) -> None:
    index = pl.read_parquet(Path(real.url) / "index" / "*.parquet")
    silent = index.filter(pl.col("silent"))["recording_id"].unique().to_list()
    assert {"13_all_silence.mp3", "14_all_silence.ogg"} <= {*silent}
    assert "31_dc_only.flac" not in silent


def test_the_same_files_again_change_nothing(made: Built, tmp_path: Path) -> None:
    store = Path(shutil.copytree(made.url, tmp_path / "store"))
    again = build_of(Path(made.url).parent, [n + c.ending for n, c in CASES.items()], store)
    assert again.report.new_slices == 0
    assert again.recordings.equals(made.recordings)
    assert again.rejects.equals(made.rejects)
