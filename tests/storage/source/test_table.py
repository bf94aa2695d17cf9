"""Sources are listed completely, and faults in them are reported."""

from pathlib import Path

import polars as pl
import pytest

from storage.errors import ConfigError
from storage.format.tables import INDEX_SCHEMA, LABEL_COLUMNS, OUR_COLUMNS, RECORDING_SCHEMA
from storage.source.table import SourceConfig, parse_labels, read_source


def write_csv(root: Path, rows: list[dict[str, object]]) -> SourceConfig:
    (root / "train_audio").mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows).write_csv(root / "train.csv")
    return SourceConfig(root=str(root))


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("['']", []),
        ("[]", []),
        (None, []),
        ("", []),
        ("['a']", ["a"]),
        ("['a', 'b']", ["a", "b"]),
        ("[a, b]", ["a", "b"]),
        ("a b", ["a", "b"]),
        ("a;b", ["a", "b"]),
        ("[1, 2]", ["1", "2"]),
    ],
)
def test_labels_are_read_from_any_usual_cell(text: str | None, labels: list[str]) -> None:
    assert parse_labels(text) == labels


def test_numeric_labels_stay_text_and_other_columns_stay_as_given(tmp_path: Path) -> None:
    rows = [
        {"filename": f"1139490/CSA{n}.ogg", "primary_label": "001139", "rating": 3.5, "status": "x"}
        for n in (2, 1)
    ]
    table = read_source(write_csv(tmp_path, rows)).recordings
    assert table["recording_id"].to_list() == ["1139490/CSA1", "1139490/CSA2"]
    assert table["primary_label"].to_list() == ["001139"] * 2
    assert table["rating"].dtype == pl.Float64
    assert "csv_status" in table.columns


def test_no_column_of_the_csv_can_be_taken_for_one_of_ours() -> None:
    ours = {*INDEX_SCHEMA, *RECORDING_SCHEMA} - set(LABEL_COLUMNS)
    assert ours <= set(OUR_COLUMNS)


def test_two_files_with_one_id_are_rejected_with_the_remedy(tmp_path: Path) -> None:
    rows = [{"filename": name, "primary_label": "a"} for name in ("a/x.ogg", "a/x.mp3", "a/y.ogg")]
    config = write_csv(tmp_path, rows)
    reasons = dict(read_source(config).recordings.select("filename", "reason").iter_rows())
    assert "source.id=filename" in reasons["a/x.ogg"]
    assert "source.id=filename" in reasons["a/x.mp3"]
    assert reasons["a/y.ogg"] is None
    other = SourceConfig(root=config.root, id="filename")
    assert read_source(other).recordings["reason"].null_count() == 3


@pytest.mark.parametrize("name", ["../x.ogg", "/etc/x.ogg", "a/../../x.ogg", ""])
def test_no_filename_leads_out_of_the_source(name: str, tmp_path: Path) -> None:
    config = write_csv(tmp_path, [{"filename": name, "primary_label": "a"}])
    assert read_source(config).recordings["reason"][0]


def test_folders_are_labels_where_there_is_no_csv(tmp_path: Path) -> None:
    for name in ("robin/a.ogg", "robin/deep/b.wav", "wren/c.flac", "wren/readme.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    table = read_source(SourceConfig(root=str(tmp_path))).recordings
    assert table["primary_label"].to_list() == ["robin", "robin", "wren"]


def test_taxonomy_columns_are_joined(tmp_path: Path) -> None:
    config = write_csv(tmp_path, [{"filename": "a/x.ogg", "primary_label": "a"}])
    pl.DataFrame({"primary_label": ["a", "b"], "class_name": ["Aves", "Insecta"]}).write_csv(
        tmp_path / "taxonomy.csv"
    )
    assert read_source(config).recordings["class_name"].to_list() == ["Aves"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(lambda root: None, "neither train.csv nor folders", id="nothing"),
        pytest.param(
            lambda root: (root / "train_audio").mkdir(), "train.csv is missing", id="no-csv"
        ),
        pytest.param(
            lambda root: (root / "train.csv").write_text(""), "not a readable csv", id="empty"
        ),
        pytest.param(
            lambda root: (root / "train.csv").write_text("a,b\n1,2\n"),
            "lacks the columns",
            id="foreign",
        ),
        pytest.param(
            lambda root: (root / "train.csv").write_text("filename,primary_label\n"),
            "has no rows",
            id="no-rows",
        ),
    ],
)
def test_a_source_that_is_none_is_a_clear_error(make, words: str, tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(ConfigError, match=words):
        read_source(SourceConfig(root=str(tmp_path)))
