"""Lists of labels are read from any spelling, and no cell takes long or fails."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import ConfigError
from storage.source.cells import MISSING, tidy_label
from storage.source.label_lists import MAX_CELL, parse_labels

KNOWN = frozenset({"robin", "wren", "47144", "Parus major", "Corvus corax", "Hawk, Red-tailed"})
LETTERS = st.characters(categories=["L", "N"], include_characters=" -.()")
LABELS = st.lists(
    st.text(LETTERS, min_size=1, max_size=12).filter(
        lambda text: tidy_label(text) == text and text[0].isalpha() and text.isprintable()
    ),
    min_size=1,
    max_size=5,
)
# How programs write lists, from plain labels.
SPELLINGS = {
    "json": lambda labels: "[" + ", ".join(f'"{label}"' for label in labels) + "]",
    "python": lambda labels: str(list(labels)),
    "tuple": lambda labels: str(tuple(labels)),
    "set": lambda labels: "{" + ", ".join(repr(label) for label in labels) + "}",
    "frozenset": lambda labels: f"frozenset({{{', '.join(map(repr, labels))}}})",
    "numpy": lambda labels: "[" + " ".join(map(repr, labels)) + "]",
    "numpy in lines": lambda labels: "[" + "\n ".join(map(repr, labels)) + "]",
    "numpy repr": lambda labels: f"array({list(labels)}, dtype='<U12')",
    "numpy 2": lambda labels: "[" + ", ".join(f"np.str_({label!r})" for label in labels) + "]",
    "pandas index": lambda labels: f"Index({list(labels)}, dtype='object')",
    "R": lambda labels: "c(" + ", ".join(f'"{label}"' for label in labels) + ")",
    "semicolons": lambda labels: "; ".join(labels),
    "bars": lambda labels: "|".join(labels),
    "commas": lambda labels: ", ".join(labels),
    "lines": lambda labels: "\n".join(labels),
    "quoted": lambda labels: ", ".join(f'"{label}"' for label in labels),
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
@given(labels=LABELS)
def test_every_program_s_list_gives_its_labels(spelling, labels: list[str]) -> None:
    assert parse_labels(spelling(labels), labels) == labels


@given(labels=st.lists(st.sampled_from(["robin", "wren", "47144", "Parus major"]), min_size=2))
def test_blanks_separate_only_where_each_piece_is_a_class(labels: list[str]) -> None:
    text = " ".join(labels)
    assert parse_labels(text, KNOWN) == labels
    assert parse_labels(text, {*KNOWN, text}) == [text]
    assert parse_labels(f"{text} x", KNOWN) == [f"{text} x"]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        (None, []),
        ("", []),
        ("['']", []),
        ("set()", []),
        ("character(0)", []),
        (
            "[\u201cswift\u201d, \u2018Swainson\u2019s thrush\u2019]",
            ["swift", "Swainson\u2019s thrush"],
        ),
        ("[nan]", []),
        ('["robin", null]', ["robin"]),
        ("Parus major", ["Parus major"]),
        ("Parus major robin", ["Parus major", "robin"]),
        ("Erithacus rubecula", ["Erithacus rubecula"]),
        ("Hawk, Red-tailed; robin", ["Hawk, Red-tailed", "robin"]),
        ("47144.0; robin ", ["47144", "robin"]),
        ("[47144.0, 22930.0]", ["47144", "22930"]),
        ("Cooper's Hawk; robin", ["Cooper's Hawk", "robin"]),
        ("['Cooper\\'s Hawk']", ["Cooper's Hawk"]),
        ("'I'iwi; robin", ["'I'iwi", "robin"]),
        ("['a' 'b' ... 'c']", ["a", "b", "c"]),
        ('{"robin": 1, "wren": 0.5}', ["robin", "wren"]),
        ("[['robin'], ['wren']]", ["robin", "wren"]),
        ("['robin', 'wren'", ["robin", "wren"]),
        ("[' wren ']", ["wren"]),
        ("Parus major (juv.), robin", ["Parus major (juv.)", "robin"]),
    ],
)
def test_cells_as_met_in_tables(text: str | None, labels: list[str]) -> None:
    assert parse_labels(text, KNOWN) == labels


@given(text=st.text(alphabet="[](){}'\"\\,;| -+.:ab\n" + "é", max_size=200))
def test_no_cell_fails_or_gives_a_missing_label(text: str) -> None:
    for label in parse_labels(text, {"a", "b"}):
        assert label == tidy_label(label)
        assert label not in MISSING


@pytest.mark.parametrize("unit", ["-", "+", "[", "('", "'", '"\\', "a,", "x(", "[]", "a "])
def test_hostile_cells_are_read_at_once_or_refused(unit: str) -> None:
    began = time.process_time()
    parse_labels((unit * MAX_CELL)[:MAX_CELL], {"a"})
    assert time.process_time() - began < 5
    with pytest.raises(ConfigError, match="more than"):
        parse_labels("x" + unit * MAX_CELL + "x", {"a"})
