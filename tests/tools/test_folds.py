"""tools.folds as users call it, on a store whose files a Song Meter has named."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.source.table import SourceConfig
from tests.paths import ROOT
from tests.small_store import RECIPE
from tests.sounds import RATE_HZ, chirps
from tools.cli.command import run
from tools.folds import COMMAND, main

BASE = ["--config", str(ROOT / "configs" / "base.yaml")]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three takes of two species at each of three sites, and one of a third species."""
    folder = tmp_path_factory.mktemp("folds")
    names = [
        f"{species}/S{site}_2024060{day}_0530{number:02d}.wav"
        for number, species in enumerate(["owl", "wren"])
        for site in range(3)
        for day in (1, 2, 3)
    ]
    for number, name in enumerate([*names, "tit/other.wav"]):
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        sound = chirps(3, np.random.default_rng(number))
        soundfile.write(folder / "source" / name, sound, RATE_HZ)
    source = SourceConfig(root=str(folder / "source"))
    build_store(source, RECIPE, str(folder / "store"), BuildConfig(workers=1))
    return folder / "store"


def call(store: Path, *words: str) -> int:
    return run(COMMAND, main, [*BASE, f"store={store}", "train_folds=[]", *words])


def test_sites_stay_together_and_the_table_is_printed_and_written(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {ending: tmp_path / "new" / f"folds.{ending}" for ending in ("csv", "parquet")}
    flags = [word for ending, file in files.items() for word in (f"--{ending}", str(file))]
    assert call(store, "folds.group_by=site", "folds.num_folds=3", *flags) == 0
    told = capsys.readouterr().out
    assert "19 recordings in 4 groups" in told
    assert "are in more than one fold" not in told
    assert "1 of 3 classes are in one fold alone" in told
    assert all(len(line) <= 80 for line in told.splitlines()[:8])
    table = pl.read_parquet(files["parquet"])
    assert table["primary_label"].to_list() == ["owl", "tit", "wren"]
    assert table.select("recordings", "groups").rows() == [(9, 3), (1, 1), (9, 3)]
    assert table["problem"].to_list() == [None, "in one fold alone", None]
    assert pl.read_csv(files["csv"])["fold_2_groups"].equals(table["fold_2_groups"])


def test_days_are_groups_too(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(store, "folds.group_by=date", "folds.num_folds=2") == 0
    assert "19 recordings in 4 groups" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["folds.group_by=nobody"], "folds.group_by=nobody is neither auto nor a column"),
        (["folds.group_by=site", "folds.num_folds=9"], "needs as many groups"),
        (["folds.num_folds=99"], "needs as many recordings"),
        (["--csv", "."], "--csv . is a folder"),
    ],
    ids=["no column", "few groups", "few recordings", "folder"],
)
def test_a_wrong_call_ends_with_one_line_and_code_2(
    store: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(store, *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
