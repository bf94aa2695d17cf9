"""tools.similar on a small store of real sound: rows, recordings, files, agreement, maps."""

import numpy as np
import polars as pl
import pytest

from storage.store import open_store
from tests.small_store import build_small_store
from tools.cli.command import run
from tools.similar import COMMAND, main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("similar")
    build_small_store(made, (6, 11, 8, 7))
    return made


@pytest.fixture
def similar(folder, monkeypatch):
    """Runs the command in the folder of the store; returns its exit code."""
    monkeypatch.chdir(folder)
    return lambda *words: run(COMMAND, main, ["store=store", *words])


def test_a_file_of_the_source_is_nearest_to_its_own_slices(similar, folder):
    path = sorted(folder.glob("source/**/*.ogg"))[1]
    assert similar(f"similar.file={path}", "similar.count=3", "--parquet", "file.parquet") == 0
    found = pl.read_parquet(folder / "file.parquet")
    assert found["similarity"][0] == pytest.approx(1, abs=1e-3)
    assert path.stem in found["recording_id"][0]
    assert found["start_s"][0] == found["asked_s"][0]


def test_left_out_are_its_own_slices_its_recording_or_all_with_its_value(similar, folder):
    with open_store(str(folder / "store")) as store:
        index, recordings = store.slice_index(), store.recordings()
    row, own = index["row"][3], index["recording_id"][3]
    label = recordings.filter(recording_id=own)["primary_label"][0]
    for leave_out in ("none", "recording", "primary_label"):
        words = (f"similar.row={row}", f"similar.leave_out={leave_out}", "similar.count=99")
        assert similar(*words, "--parquet", "found.parquet") == 0
        found = pl.read_parquet(folder / "found.parquet")
        assert row not in found["row"]
        assert (own in found["recording_id"]) == (leave_out == "none")
        assert (label in found["primary_label"]) == (leave_out != "primary_label")
        assert (np.diff(found["similarity"].to_numpy()) <= 0).all()


def test_a_recording_a_map_and_agreement_in_one_call(similar, folder, capsys):
    with open_store(str(folder / "store")) as store:
        name, total = store.recordings()["recording_id"][0], len(store)
    words = (f"similar.recording={name}", "similar.agreement=recording_id", "--map", "map.parquet")
    assert similar(*words, "--png", "sheet.png") == 0
    assert "has the same primary label" in capsys.readouterr().out
    points = pl.read_parquet(folder / "map.parquet")
    assert len(points) == total
    assert points.select(pl.col("x", "y").is_finite().all()).row(0) == (True, True)
    assert (folder / "sheet.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing is asked for"),
        (("similar.agreement_of=1", "similar.row=0"), "similar.agreement"),
        (("similar.agreement=recording_id", "similar.agreement_of=nobody"), "no slice has"),
        (("similar.row=999999",), "there is no row 999999"),
        (("similar.recording=nobody",), "there is no recording 'nobody'"),
        (("similar.file=nothing.wav",), "does not exist"),
        (("similar.row=0", "similar.leave_out=colour"), "no column 'colour'"),
        (("similar.row=0", "similar.by=nothing.parquet"), "nothing.parquet cannot be read"),
        (("similar.row=0", "similar.by=exp_077/fold_1"), "similar.by=exp_077/fold_1"),
        (("similar.row=0", "embed.model=x"), "given as similar.by"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_wrong_call_ends_with_one_sentence(similar, capsys, words, message):
    assert similar(*words) == 2
    assert message in capsys.readouterr().err
