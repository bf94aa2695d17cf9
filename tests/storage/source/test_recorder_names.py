"""Names of recorders give date and site; no other name does."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.source.recorder_names import with_recorder_columns
from storage.source.table import SourceConfig, read_source


def parsed(*names: str | None, **columns: object) -> pl.DataFrame:
    frame = pl.DataFrame({"filename": names, **columns}, schema_overrides={"filename": pl.String})
    return with_recorder_columns(frame)


def parsed_one(name: str) -> tuple[str | None, str | None]:
    table = parsed(name, "Z_20000101_000000.wav")
    return table["date"][0], table["site"][0]


@pytest.mark.parametrize(
    ("name", "date", "site"),
    [
        ("20240601_053000.WAV", "2024-06-01", None),
        ("robin/20240601_053000T.WAV", "2024-06-01", None),
        ("24F31905600B1D3A_20240601_053000.WAV", "2024-06-01", "24F31905600B1D3A"),
        ("20240601_053000_000.WAV", "2024-06-01", None),
        ("5EC5A158.WAV", "2020-05-20", None),
        ("SMA01234_20210228_235959.wav", "2021-02-28", "SMA01234"),
        ("a/b/S4A12345_20240229_000000.flac", "2024-02-29", "S4A12345"),
        ("ARIZONA-1_20161023$195550.wav", "2016-10-23", "ARIZONA-1"),
        ("SM3_0+1_20150601_050000.wav", "2015-06-01", "SM3"),
        ("SM3__0__20150601_050000.wav", "2015-06-01", "SM3"),
        ("SM3_-1-_20150601$050000.wav", "2015-06-01", "SM3"),
        ("my site_1_20210601_053000.wav", "2021-06-01", "my site_1"),
        ("Forêt_20210601_053000_60s.wav", "2021-06-01", "Forêt"),
        ("H02_20230420_074000.ogg", "2023-04-20", "H02"),
        ("folder\\H02_20230420_074000", "2023-04-20", "H02"),
        ("BC2026_Train_0001_S08_20250606_030007.ogg", "2025-06-06", "S08"),
        ("PARK_S08_20250606_030007.wav", "2025-06-06", "PARK_S08"),
    ],
)
def test_names_of_recorders_are_parsed(name: str, date: str, site: str | None) -> None:
    assert parsed_one(name) == (date, site)


@pytest.mark.parametrize(
    "name",
    [
        "1139490/CSA36385.ogg",
        "robin/XC123456.ogg",
        "iNat1109254.ogg",
        "soundscape_29201.ogg",
        "10534_SSW_20170429.ogg",
        "20241301_053000.WAV",
        "20230229_053000.WAV",
        "A_20240601_243000.wav",
        "A_20240601_053061.wav",
        "19990601_053000.wav",
        "120240601_053000.wav",
        "20240601_0530001.wav",
        "58912345.WAV",
        "5EC5A15.WAV",
        "FFFFFFFF.WAV",
        "5ec5a158.wav",
        "20240601_053000/XC1.ogg",
        "",
    ],
)
def test_other_names_have_neither(name: str) -> None:
    assert parsed_one(name) == (None, None)


def test_columns_are_there_only_where_some_name_gives_a_value() -> None:
    assert parsed("robin/XC1.ogg", None).columns == ["filename"]
    assert parsed("20240601_053000.WAV", "XC1.ogg")["date"].to_list() == ["2024-06-01", None]
    assert parsed("20240601_053000.WAV").columns == ["filename", "date"]
    assert parsed().columns == ["filename"]


def test_columns_of_the_user_win() -> None:
    table = parsed("A_20240601_053000.wav", date=[3])
    assert table.to_dicts() == [{"filename": "A_20240601_053000.wav", "date": 3, "site": "A"}]


@given(
    st.datetimes(datetime(2016, 10, 14), datetime(2029, 7, 1)),
    st.text(st.characters(whitelist_categories=["L", "Nd"]), min_size=1, max_size=9),
    st.sampled_from(["", "_0+1", "__1_", "_-0-"]),
    st.sampled_from("_$"),
)
def test_what_a_recorder_writes_is_read(
    began: datetime, site: str, channel: str, separator: str
) -> None:
    name = f"{site}{channel}_{began:%Y%m%d}{separator}{began:%H%M%S}.wav"
    assert parsed_one(name) == (f"{began:%Y-%m-%d}", site)
    seconds = f"{int(began.replace(tzinfo=UTC).timestamp()):X}"
    expected = f"{began:%Y-%m-%d}" if not seconds.isdecimal() else None
    assert parsed_one(f"{seconds}.WAV") == (expected, None)


@given(st.text())
def test_no_name_is_a_fault(name: str) -> None:
    parsed_one(name)


def test_a_source_has_the_columns(tmp_path: Path) -> None:
    for name in ("owl/A_20240601_220000.wav", "owl/B_20240602_220000.wav", "owl/XC7.ogg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    table = read_source(SourceConfig(root=str(tmp_path))).metadata
    assert table.select("date", "site").rows() == [
        ("2024-06-01", "A"),
        ("2024-06-02", "B"),
        (None, None),
    ]
