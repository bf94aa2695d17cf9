"""storage.read.shared.column_file: a table mapped from its file is the table that was written."""

import os
import subprocess
import sys

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.read.shared import derived_files
from storage.read.shared.column_file import open_columns, write_columns
from tests.paths import ROOT

SCHEMA = pl.Schema(
    {
        "row": pl.Int64,
        "number": pl.Float64,
        "small": pl.Int32,
        "crc": pl.UInt32,
        "flag": pl.Boolean,
        "text": pl.String,
        "labels": pl.List(pl.String),
        "day": pl.Date,
        "": pl.Int8,  # as of a csv's first column without a name
        "column_0": pl.Binary,
    }
)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
LINE = st.fixed_dictionaries(
    {
        "row": st.none() | st.integers(-(2**63), 2**63 - 1),
        "number": st.none() | st.floats(allow_nan=False),
        "small": st.none() | st.integers(-(2**31), 2**31 - 1),
        "crc": st.none() | st.integers(0, 2**32 - 1),
        "flag": st.none() | st.booleans(),
        "text": st.none() | TEXT,
        "labels": st.none() | st.lists(st.none() | TEXT, max_size=4),
        "day": st.none() | st.dates(),
        "": st.none() | st.integers(-128, 127),
        "column_0": st.none() | st.binary(max_size=20),
    }
)


@pytest.fixture
def quick(monkeypatch) -> None:
    """Files that nothing is waited for until they are on the disk."""
    monkeypatch.setattr(derived_files.os, "fsync", lambda _: None)


def frames(pieces: list[list[dict]]) -> list[pl.DataFrame]:
    return [pl.DataFrame(piece, schema=SCHEMA) for piece in pieces]


@given(pieces=st.lists(st.lists(LINE, max_size=9), min_size=1, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_columns_are_those_that_were_written(tmp_path, quick, pieces):
    path = tmp_path / "a.recordings"
    written = pl.concat(frames(pieces))
    assert write_columns(path, SCHEMA, len(written), frames(pieces))
    found = open_columns(path)
    assert found is not None
    assert found.equals(written)
    assert found.schema == SCHEMA
    assert found.sort("row", "text", maintain_order=True).equals(
        written.sort("row", "text", maintain_order=True)
    )
    assert found.filter(pl.col("flag")).equals(written.filter(pl.col("flag")))
    assert found[::-2].equals(written[::-2])
    some = open_columns(path, ["text", "row"])
    assert some is not None
    assert some.equals(written.select("text", "row"))


@pytest.fixture
def path(tmp_path):
    """A file of a few rows."""
    lines = [{"row": 5, "text": "a text of many bytes", "labels": ["ü", "another long label"]}] * 9
    path = tmp_path / "a.recordings"
    assert write_columns(path, SCHEMA, 9, [pl.DataFrame(lines, schema=SCHEMA)])
    return path


def test_a_flipped_byte_of_a_column_is_noticed(path):
    good = path.read_bytes()
    whole = open_columns(path)
    assert whole is not None
    noticed = 0
    for place in range(0, len(good), 3):
        path.unlink()  # what is mapped keeps its bytes
        path.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
        found = open_columns(path)
        assert found is None or found.equals(whole)  # between the buffers nothing is read
        noticed += found is None
    assert noticed > 3 * (8 + 8 + 4 + 4 + 16 + 8)


@pytest.mark.parametrize("length", [0, 10, 32, 64, 1000, -1])
def test_a_file_that_was_cut_short_or_grew_is_noticed(path, length):
    good = path.read_bytes()
    path.unlink()
    path.write_bytes(good[:length])
    assert open_columns(path) is None
    path.write_bytes(good + b"1")
    assert open_columns(path) is None
    path.unlink()
    assert open_columns(path) is None


def test_other_rows_and_other_types_are_not_written(tmp_path):
    path = tmp_path / "a.recordings"
    piece = pl.DataFrame({"row": [1, 2]})
    schema = piece.schema
    assert not write_columns(path, schema, 3, [piece])
    assert not write_columns(path, schema, 3, [piece, piece])
    assert not write_columns(path, schema, 2, [piece.cast(pl.Int32)])
    assert not write_columns(path, pl.Schema(), 0, [])
    row = pl.col("row")
    for kind in (row.cast(pl.Int128), pl.struct("row"), pl.concat_list("row")):
        others = piece.select(kind)
        assert not write_columns(path, others.schema, 2, [others])
    for enum in (pl.Categorical, pl.Enum(["1", "2"])):
        others = piece.select(row.cast(pl.String).cast(enum))
        assert not write_columns(path, others.schema, 2, [others])
    assert not list(tmp_path.iterdir())
    assert write_columns(path, schema, 0, [])
    found = open_columns(path)
    assert found is not None
    assert found.schema == schema
    assert not len(found)


def test_a_file_of_another_name_is_none_of_its_own(path):
    path.rename(path.with_name("b.recordings"))
    assert open_columns(path.with_name("b.recordings")) is None


def test_a_killed_writer_leaves_one_file_that_goes(tmp_path):
    code = (
        "import os, sys, polars as pl\n"
        "from pathlib import Path\n"
        "from storage.read.shared.column_file import write_columns\n"
        "def pieces():\n"
        "    yield pl.DataFrame({'row': [1]})\n"
        "    os.kill(os.getpid(), 9)\n"
        "write_columns(Path(sys.argv[1]), pl.Schema({'row': pl.Int64}), 2, pieces())\n"
    )
    path = tmp_path / "a.recordings"
    killed = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT)
    assert killed.returncode == -9
    (left,) = tmp_path.iterdir()
    os.utime(left, (0, 0))
    piece = pl.DataFrame({"row": [1, 2]})
    assert write_columns(path, piece.schema, 2, [piece])
    assert [*tmp_path.iterdir()] == [path]
