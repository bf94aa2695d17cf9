"""One rule for missing values, for labels, and for the types of columns."""

import io
import unicodedata

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.source.cells import MISSING, is_missing, tidy, tidy_label, typed_column
from storage.source.cells import given as given_text

BLANKS = st.text(alphabet=" \t\u00a0\u200b\ufeff\u3000", max_size=3)
MISSING_CELLS = st.sampled_from(sorted(MISSING))
NUMBERS = st.one_of(
    st.integers(-(2**50), 2**50),
    st.floats(allow_nan=False, allow_infinity=False).map(float),
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "NaN",
        "nan",
        "NA",
        "N/A",
        "n/a",
        "null",
        "NULL",
        "None",
        "none",
        "-",
        "<NA>",
        ".",
        "?",
        "#NULL!",
        "#VALUE!",
        "#DIV/0!",
        "#NAME?",
        "#REF!",
        "#NUM!",
    ],
)
def test_missing_values_are_missing_in_every_spelling(text: str) -> None:
    assert is_missing(text)
    assert is_missing(f" {text}\t")
    assert tidy_label(text) is None


@pytest.mark.parametrize("text", ["0", "no", "Nan", "nana", "NAB", "a-b", "null island", "False"])
def test_other_words_are_values(text: str) -> None:
    assert not is_missing(text)
    assert tidy_label(text) == text


@given(text=st.text(min_size=1), before=BLANKS, after=BLANKS)
def test_labels_do_not_depend_on_blanks_or_unicode_form(text: str, before: str, after: str) -> None:
    label = tidy_label(text)
    for form in ("NFC", "NFD"):
        assert tidy_label(before + unicodedata.normalize(form, text) + after) == label
    assert tidy(tidy(text)) == tidy(text)


@given(number=st.integers(0, 10**12), zeros=st.integers(1, 3))
def test_a_label_that_became_a_number_is_itself_again(number: int, zeros: int) -> None:
    assert tidy_label(f"{number}.{'0' * zeros}") == str(number)


@given(numbers=st.lists(NUMBERS, min_size=1), missing=st.lists(MISSING_CELLS, max_size=3))
def test_numbers_stay_numbers_with_nulls_among_them(
    numbers: list[float], missing: list[str]
) -> None:
    column = typed_column("rating", [*map(str, numbers), *missing])
    whole = all(isinstance(number, int) for number in numbers)
    assert column.dtype == (pl.Int64 if whole else pl.Float64)
    assert column.to_list() == [*numbers, *[None] * len(missing)]
    assert not (column >= 3).tail(len(missing) or -len(column)).any()


@given(cells=st.lists(st.one_of(NUMBERS.map(str), st.sampled_from(["x", "007", "true", "FALSE"]))))
def test_types_are_those_that_polars_finds(cells: list[str]) -> None:
    text = "\n".join(["column", *cells])
    found = pl.read_csv(io.BytesIO(text.encode()), infer_schema_length=None)["column"]
    column = typed_column("column", cells)
    assert column.dtype == found.dtype
    assert column.to_list() == found.to_list()


def test_a_decimal_comma_makes_a_number_where_commas_do_not_separate() -> None:
    assert typed_column("x", ["3,5", "4", "NA"], decimal_comma=True).to_list() == [3.5, 4.0, None]
    assert typed_column("x", ["3,5", "4"]).to_list() == ["3,5", "4"]


def test_a_column_without_any_value_is_text_or_numbers() -> None:
    assert typed_column("x", ["", "NA"]).dtype == pl.String
    assert typed_column("x", ["NaN", ""]).dtype == pl.Float64


def test_text_stays_as_given() -> None:
    cells = [" Ján ", "-", "x"]
    assert typed_column("author", cells).to_list() == [" Ján ", None, "x"]


def test_stores_of_any_age_follow_the_rule() -> None:
    frame = pl.DataFrame({"latitude": [float("nan"), 1.5, None], "author": ["NA", " a ", ""]})
    found = frame.select(given_text(pl.col("latitude", "author")))
    assert found.to_dict(as_series=False) == {
        "latitude": [None, "1.5", None],
        "author": [None, "a", None],
    }
