"""Sources are listed completely, and faults in them are reported."""

import csv
import io
import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import ConfigError
from storage.format.tables import (
    INDEX_SCHEMA,
    LABEL_COLUMNS,
    OUR_COLUMNS,
    RECORDING_SCHEMA,
    RESERVED,
)
from storage.progress import silent
from storage.source.cells import tidy
from storage.source.probe import probe_file, probe_wanted
from storage.source.table import Source, SourceConfig, read_source

LAYERS = ("storage", "datasets", "training")
CODE = [path for layer in LAYERS for path in (Path(__file__).parents[3] / layer).rglob("*.py")]
INTERNAL = {  # every word of the code that could be the name of a column
    word
    for path in CODE
    for word in re.findall(r"""["'](#?[a-z_]{1,30})["']""", path.read_text(encoding="utf-8"))
}
POLARS = {"*", "^.*$", "^a$", "", "len", "literal", "row_right", "column_1", "filename_right"}
COLUMN_NAMES = st.one_of(
    st.sampled_from(sorted((INTERNAL | POLARS) - {*LABEL_COLUMNS, "start", "end"})),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5).filter(
        lambda name: tidy(name) == name and name not in LABEL_COLUMNS
    ),
)


def write_csv(root: Path, rows: list[dict[str, object]]) -> SourceConfig:
    (root / "train_audio").mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows).write_csv(root / "train.csv")
    return SourceConfig(root=str(root))


def test_numeric_labels_stay_text_and_other_columns_stay_as_given(tmp_path: Path) -> None:
    rows = [
        {"filename": f"1139490/CSA{n}.ogg", "primary_label": "001139", "rating": 3.5, "status": "x"}
        for n in (2, 1)
    ]
    table = read_source(write_csv(tmp_path, rows)).metadata
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
    assert read_source(config).metadata["class_name"].to_list() == ["Aves"]


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


def source_of(root: Path, text: str, files: tuple[str, ...] = (), **config: str) -> Source:
    """The source of a csv, with empty files below train_audio."""
    for name in files:
        path = root / "train_audio" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    root.mkdir(exist_ok=True)
    (root / "train.csv").write_text(text)
    return read_source(SourceConfig(root=str(root), **config))


def labels_of(source: Source) -> list[tuple[str, str | None, list[str]]]:
    columns = ("recording_id", "primary_label", "secondary_labels")
    return list(source.recordings.select(columns).iter_rows())


def test_labels_are_trimmed_in_every_column(tmp_path: Path) -> None:
    text = "primary_label,secondary_labels,filename\n robin ,\"[' wren ']\", a.ogg\nwren,,b.ogg \n"
    assert labels_of(source_of(tmp_path, text)) == [
        ("a", "robin", ["wren"]),
        ("b", "wren", []),
    ]


def test_numbers_as_labels_are_one_class_with_and_without_a_point(tmp_path: Path) -> None:
    text = "primary_label,filename\n1139490.0,a.ogg\n1139490,b.ogg\n"
    assert {label for _, label, _ in labels_of(source_of(tmp_path, text))} == {"1139490"}


def test_missing_values_are_no_label_place_or_number(tmp_path: Path) -> None:
    for number, missing in enumerate(["", "NaN", "NA", "N/A", "null", "None", "-"]):
        text = (
            "primary_label,secondary_labels,filename,author,latitude,rating\n"
            f"a,{missing},a.ogg,{missing},{missing},{missing}\nb,a,b.ogg,x,1.5,4\n"
        )
        metadata = source_of(tmp_path / str(number), text).metadata
        assert metadata["secondary_labels"].to_list() == [[], ["a"]]
        assert metadata["author"].to_list() == [None, "x"]
        assert metadata["latitude"].to_list() == [None, 1.5]
        assert metadata.filter(metadata["rating"] >= 3)["recording_id"].to_list() == ["b"]


def test_rows_of_one_file_are_one_recording_with_all_labels(tmp_path: Path) -> None:
    text = (
        "primary_label,secondary_labels,filename,rating\n"
        "robin,tit,a.ogg,3\nwren,,a.ogg,4\ntit,,b.ogg,1\ntit,,b.ogg,1\n"
    )
    source = source_of(tmp_path, text)
    assert labels_of(source) == [("a", "robin", ["wren", "tit"]), ("b", "tit", [])]
    assert source.metadata["rating"].to_list() == [3, 1]
    assert source.disputed == ("a.ogg is in the csv as robin and wren",)
    notes = "; ".join(source.notes)
    assert "1 rows of the csv are there twice" in notes
    assert "1 files are in several rows" in notes


@pytest.mark.parametrize(
    "cell", ["robin;wren", "robin | wren", "['robin', 'wren']", '"robin, wren"']
)
def test_several_primary_labels_are_a_list(cell: str, tmp_path: Path) -> None:
    cell = f'"{cell}"' if cell.startswith("[") else cell
    source = source_of(tmp_path, f"filename,primary_label\na.ogg,{cell}\nb.ogg,robin\nc.ogg,wren\n")
    assert labels_of(source)[0] == ("a", "robin", ["wren"])
    assert "several labels in primary_label" in "; ".join(source.notes)


def test_a_name_with_commas_or_blanks_stays_whole(tmp_path: Path) -> None:
    text = 'filename,primary_label\na.ogg,"Hawk, Red-tailed"\nb.ogg,Parus major\n'
    labels = [label for _, label, _ in labels_of(source_of(tmp_path, text))]
    assert labels == ["Hawk, Red-tailed", "Parus major"]


def test_labels_that_fit_nothing_are_named(tmp_path: Path) -> None:
    tmp_path.joinpath("taxonomy.csv").write_text("primary_label,class_name\nrobin,Aves\nowl,Aves\n")
    text = "filename,primary_label,secondary_labels\na.ogg,robin,gull\nb.ogg,Robin,gull;owl\n"
    source = source_of(tmp_path, text)
    notes = "; ".join(source.notes)
    assert "secondary labels that are no class, and not learned: 1, gull (2)" in notes
    assert "labels that taxonomy.csv does not have: 1, Robin (1)" in notes
    assert "differ only by case or blanks: Robin / robin" in notes
    assert "1 classes of taxonomy.csv have no recording: owl" in notes
    assert source.classes == ("robin", "owl")
    assert source.metadata["class_name"].to_list() == ["Aves", None]


def test_recordings_may_have_no_labels_at_all(tmp_path: Path) -> None:
    for number, text in enumerate(
        ["filename\na.ogg\n", "filename,primary_label\na.ogg,\n", "filename,x\na.ogg,1\n"]
    ):
        source = source_of(tmp_path / str(number), text)
        assert labels_of(source) == [("a", None, [])]
        assert source.recordings["reason"].null_count() == 1
    some = source_of(tmp_path, "filename,primary_label\na.ogg,\nb.ogg,robin\n")
    assert some.recordings["reason"].to_list() == ["it has no primary_label", None]


def test_a_column_that_looks_like_the_label_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="primary_label: rename species"):
        source_of(tmp_path, "filename,species\na.ogg,robin\n")


def test_a_flat_folder_is_a_source_without_labels_when_asked(tmp_path: Path) -> None:
    for name in ("b.ogg", "a.OGG", "notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=r"source.csv=none takes the 2 recordings"):
        read_source(SourceConfig(root=str(tmp_path)))
    source = read_source(SourceConfig(root=str(tmp_path), csv="none"))
    assert labels_of(source) == [("a", None, []), ("b", None, [])]
    (tmp_path / "robin").mkdir()
    (tmp_path / "robin/c.ogg").touch()
    source = read_source(SourceConfig(root=str(tmp_path), csv="none"))
    assert labels_of(source) == [("robin/c", "robin", [])]
    assert "2 recordings are in no folder" in source.notes[0]


def test_names_written_otherwise_are_matched_and_missing_ones_get_the_nearest(
    tmp_path: Path,
) -> None:
    text = (
        "filename,primary_label\n"
        "train_audio/robin/XC1.ogg,robin\nwren\\XC2.OGG,wren\ntit/XC30.wav,tit\n"
    )
    source = source_of(tmp_path, text, ("robin/XC1.ogg", "wren/XC2.ogg", "tit/XC30.ogg"))
    rows = {
        name: (Path(path).is_file(), source.nearest.get(name))
        for name, path in source.recordings.select("filename", "path").iter_rows()
    }
    assert rows == {
        "robin/XC1.ogg": (True, None),
        "wren/XC2.ogg": (True, None),
        "tit/XC30.wav": (False, "tit/XC30.ogg"),
    }
    assert "2 filenames of the csv are not written like the files" in "; ".join(source.notes)
    assert source.num_unlisted == 1
    probed = probe_wanted(source, lambda path: probe_file(Path(path)), None, silent)
    assert "the nearest name is tit/XC30.ogg" in "; ".join(probed["problem"].drop_nulls())


def test_a_name_that_is_no_utf8_is_one_reject(tmp_path: Path) -> None:
    place = os.fsencode(tmp_path)
    os.mkdir(place + b"/Gr\xfcn")
    Path(os.fsdecode(place + b"/Gr\xfcn/a.ogg")).touch()
    (tmp_path / "robin").mkdir()
    (tmp_path / "robin/b\n.ogg").touch()
    source = read_source(SourceConfig(root=str(tmp_path)))
    reasons = dict(source.recordings.select("filename", "reason").iter_rows())
    assert reasons["robin/b\n.ogg"] is None
    assert "not UTF-8" in reasons["Gr\\xfcn/a.ogg"]


@given(names=st.lists(COLUMN_NAMES, min_size=1, max_size=8, unique=True))
def test_every_column_name_is_kept(names: list[str]) -> None:
    file = io.StringIO()
    cells = [f"cell {number}" for number in range(len(names))]
    csv.writer(file).writerows([["filename", "primary_label", *names], ["a.ogg", "b", *cells]])
    with TemporaryDirectory() as folder:
        metadata = source_of(Path(folder), file.getvalue()).metadata
    given_as = metadata.columns[4:]
    assert [column.to_list() for column in metadata.get_columns()[4:]] == [[cell] for cell in cells]
    for name, kept in zip(names, given_as, strict=True):
        plain = kept if name not in RESERVED else kept.removeprefix("csv_").removeprefix("csv_")
        assert plain == name


def test_a_column_is_renamed_until_its_name_is_free(tmp_path: Path) -> None:
    source = source_of(tmp_path, "filename,primary_label,status,csv_status\na.ogg,b,1,2\n")
    assert source.metadata["csv_status"].to_list() == [2]
    assert source.metadata["csv_csv_status"].to_list() == [1]


def test_a_file_whose_name_is_no_utf8_is_a_reject_in_a_csv_too(tmp_path: Path) -> None:
    place = os.fsencode(tmp_path / "train_audio")
    os.makedirs(place + b"/Gr\xfcn")
    Path(os.fsdecode(place + b"/Gr\xfcn/a.ogg")).touch()
    Path(os.fsdecode(place + b"/Gr\xfcn/b1234.ogg")).touch()
    text = "filename,primary_label\na.ogg,robin\nb1235.ogg,robin\n"
    source = source_of(tmp_path, text)
    reasons = dict(source.recordings.select("filename", "reason").iter_rows())
    assert "not UTF-8" in reasons["Gr\\xfcn/a.ogg"]
    assert source.nearest["b1235.ogg"] == "Gr\\xfcn/b1234.ogg"
    with pytest.raises(ConfigError, match="its name is not UTF-8"):
        read_source(SourceConfig(root=os.fsdecode(place + b"/Gr\xfcn")))
