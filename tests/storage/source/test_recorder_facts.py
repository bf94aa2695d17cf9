"""Date, time, site and coordinates: from a table, else from the name, else from GUANO."""

from pathlib import Path

import pytest

from storage.errors import ConfigError
from storage.source.recorder_facts import Facts, RecorderConfig, RecorderFacts, compile_pattern
from tests.storage.audio.test_guano import TEXT, chunk, wav


def facts(name: str, **config: str) -> Facts:
    return RecorderFacts.open(RecorderConfig(**config)).of(name, None)


def table(tmp_path: Path, text: str) -> str:
    path = tmp_path / "facts.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_names_of_recorders_give_date_time_and_site() -> None:
    june = Facts(date="2024-06-01", time="05:30:00")
    assert facts("a/20240601_053000T.WAV") == june
    assert facts("SM3_0+1_20240601_053000") == june.filled(Facts(site="SM3"))
    assert facts("5EC5A158.WAV") == Facts(date="2020-05-20", time="21:30:00")
    assert facts("H02_20230420_074000.ogg").time == "07:40:00"
    assert facts("XC1.ogg") == Facts()


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("{site}_{date}_{time}", "a_b_20240601_0530.wav", Facts(site="a_b", time="05:30:00")),
        ("{site}/{*}{date}", "x/marsh/rec2024-06-01.wav", Facts(site="marsh")),
        ("{date} {time}{*}", "2024-06-01 05-30-00 gain 2.wav", Facts(time="05:30:00")),
        ("{latitude},{longitude}_{date}", "-1.5,36_20240601.x", Facts(latitude=-1.5, longitude=36)),
    ],
)
def test_a_pattern_takes_a_name_apart(pattern: str, name: str, expected: Facts) -> None:
    assert facts(name, pattern=pattern) == expected.filled(Facts(date="2024-06-01"))


def test_a_name_that_does_not_fit_has_no_facts() -> None:
    for name in ("A_20240601.wav", "A_20241301_053000.wav", "A_20240601_253000.wav", "é"):
        assert facts(name, pattern="{site}_{date}_{time}") == Facts()


@pytest.mark.parametrize("pattern", ["", "{*}", "{place}_{date}", "{date}_{date}"])
def test_a_pattern_with_wrong_fields_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"recorder.pattern=.*the fields are \{site\}"):
        compile_pattern(pattern)


def test_a_table_wins_and_its_longest_name_counts(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "file,site,time,latitude\n20240601_053000.WAV,A,NA,\nb/20240601_053000.wav,B,060000,1.5\n"
        "c/x,C,,-7\n",
    )
    assert facts("a/20240601_053000.WAV", table=path) == Facts(
        date="2024-06-01", time="05:30:00", site="A"
    )
    assert facts("z/b/20240601_053000.wav", table=path).time == "06:00:00"
    assert facts("b/20240601_053000.wav", table=path).latitude == 1.5
    assert facts("c/x.ogg", table=path) == Facts(site="C", latitude=-7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,site\na,b\n", "it needs file and any of site, date"),
        ("file,rain\na,b\n", "it needs file and any of site, date"),
        ("file,date\na,June\n", "a: June is no date"),
        ("file,time\na,25:00\n", "a: 25:00 is no time of day"),
        ("file,latitude\na,95\n", "a: 95 degrees are beyond 90"),
        ("file,longitude\na,east\n", "a: east is no number"),
        ("file,site\na,x\na,y\n", "two rows for a, and they differ"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RecorderFacts.open(RecorderConfig(table=table(tmp_path, text)))
    with pytest.raises(ConfigError, match="cannot be read"):
        RecorderFacts.open(RecorderConfig(table=str(tmp_path / "none.csv")))


def test_guano_fills_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "X_20230101_000000.wav"
    file.write_bytes(wav(chunk(b"guan", TEXT.encode())))
    assert RecorderFacts().of(file.name, file) == Facts(
        date="2023-01-01", time="00:00:00", site="X", latitude=47.5, longitude=-122.25
    )
    assert RecorderFacts().of("other", file).time == "05:30:00"
