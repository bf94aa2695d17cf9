"""A csv of any program is read alike, or refused with the line and the way out."""

import codecs
import csv
import io
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import ConfigError
from storage.source.csv_text import MAX_COLUMNS, read_csv

NAMES = ["filename", "primary_label", "author"]
LETTERS = st.characters(categories=["L", "N", "P", "Zs"], exclude_characters="\ufeff\u200b")
ROWS = st.lists(st.tuples(*[st.text(LETTERS, max_size=8)] * 3), min_size=1, max_size=6)
ENCODINGS = {
    "utf-8": lambda text: text.encode(),
    "utf-8 with mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "utf-16": lambda text: text.encode("utf-16"),
    "utf-16 of the other end": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "utf-16 without mark": lambda text: text.encode("utf-16-le"),
    "utf-32": lambda text: text.encode("utf-32"),
}


def written(rows: list[tuple[str, ...]], separator: str, line_end: str) -> str:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=separator, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerow(NAMES)
    writer.writerows(rows)
    return file.getvalue()


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
@given(
    rows=ROWS, separator=st.sampled_from(",;\t|"), line_end=st.sampled_from(["\n", "\r\n", "\r"])
)
def test_any_dialect_gives_the_same_cells(encode, rows, separator, line_end) -> None:
    text = written(rows, separator, line_end)
    if not text.isascii() and encode is ENCODINGS["utf-16 without mark"]:
        text = written([("a.ogg", "b", "c")], separator, line_end)
        rows = [("a.ogg", "b", "c")]
    table = read_csv(encode(text), "train.csv")
    kept = [row for row in rows if any(row)]  # a row without any text is a blank line
    assert list(table.columns) == NAMES
    assert list(zip(*table.columns.values(), strict=True)) == kept


@given(
    text=st.text(LETTERS, min_size=1, max_size=20), encoding=st.sampled_from(["cp1252", "latin-1"])
)
def test_other_encodings_are_refused_not_garbled(text: str, encoding: str) -> None:
    cell = text.encode(encoding, "ignore")
    try:
        is_utf8 = cell.decode() is not None
    except UnicodeDecodeError:
        is_utf8 = False
    data = b'filename,author\na.ogg,"' + cell.replace(b'"', b"") + b'"\n'
    if is_utf8:
        assert read_csv(data, "train.csv").num_rows == 1
    else:
        with pytest.raises(ConfigError, match=r"train.csv is not UTF-8: line 2 .*iconv -f"):
            read_csv(data, "train.csv")


def test_comments_and_blank_lines_are_left_out_not_quoted_cells() -> None:
    text = '# made by R\n\nfilename,label\n# a, comment\n"#1.ogg",a\n\n,\nb.ogg,"x\n# y"\n'
    table = read_csv(text.encode(), "train.csv")
    assert table.columns == {"filename": ["#1.ogg", "b.ogg"], "label": ["a", "x\n# y"]}
    assert "2 lines that begin with #" in table.notes[0]


def test_a_header_may_begin_with_a_hash_or_follow_excel_s_own_line() -> None:
    assert list(read_csv(b"#filename,label\na,b\n", "x").columns) == ["filename", "label"]
    assert read_csv(b"sep=;\nfilename;label\na;b,c\n", "x").columns["label"] == ["b,c"]


def test_empty_cells_at_the_ends_of_rows_are_no_columns() -> None:
    assert read_csv(b"filename;label\na;b;;\n", "x").columns == {"filename": ["a"], "label": ["b"]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("filename,label\na,b\nc\nd,e,f\n", "line 3 has 1 cells, line 4 has 3 cells, the header"),
        ('filename,label\n"a\nb",c\nd,e,f\n', "line 4 has 3 cells"),
        ('filename,label\na,"b\nc,d\n', "line 2: unexpected end of data"),
        ('filename,label\n"a"b,c\n', "line 2: .* correct the quotes"),
        ("filename,label\na,b\0\n", "line 2, has a zero byte"),
        (",".join(f"c{n}" for n in range(MAX_COLUMNS + 1)), "columns, more than"),
        ("x" * 5000, "letters, more than"),
        ("", "it is empty"),
        ("PK\x03\x04xx", "a spreadsheet or zip archive"),
    ],
)
def test_what_is_no_table_is_named_by_its_line(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_csv(text.encode(), "train.csv")


@given(names=st.lists(st.sampled_from(["a", "a_duplicated_0", "", " a"]), min_size=1, max_size=6))
def test_columns_of_one_name_are_all_kept(names: list[str]) -> None:
    cells = [f"cell{number}" for number in range(len(names) + 1)]
    file = io.StringIO()
    csv.writer(file).writerows([["filename", *names], cells])
    columns = read_csv(file.getvalue().encode(), "x").columns
    assert [cells for [cells] in columns.values()] == cells


@given(data=st.binary(max_size=300))
def test_no_bytes_end_in_another_error(data: bytes) -> None:
    with suppress(ConfigError):
        read_csv(data, "train.csv")


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
@given(letter=st.sampled_from("äöüéèñçøåßœ€"))
def test_letters_that_were_read_wrongly_before_are_named(encoding: str, letter: str) -> None:
    text = f"filename,author\na.ogg,J{letter}n\n"
    assert not read_csv(text.encode(), "train.csv").notes
    with suppress(UnicodeDecodeError):
        garbled = text.encode().decode(encoding)
        notes = read_csv(garbled.encode(), "train.csv").notes
        assert letter in "œ€" or "line 2: " in notes[0]
