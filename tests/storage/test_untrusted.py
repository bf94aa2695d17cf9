"""storage.untrusted: names, JSON, tables and array headers are checked before use."""

import io
import json
import os
import string
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.shards.format import FileEntry, ShardManifest
from datasets.shards.state import read_plan
from storage.errors import DamageError, MelbankError, StoreError
from storage.format.catalog import Catalog
from storage.format.manifest import Manifest
from storage.format.tables import INDEX, INDEX_SCHEMA, RULES, decode_table, encode_table
from storage.objects.local import LocalObjects
from storage.objects.lock import builder_lock
from storage.objects.open import open_objects
from storage.recipe import Recipe
from storage.untrusted import (
    MAX_JSON_DEPTH,
    check_plain,
    decode_parquet,
    is_plain,
    parse_json,
    read_npy_header,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=9), below),
    max_leaves=9,
)
NAMES = st.text(st.sampled_from("./\\ab\0é"), max_size=9)


@given(NAMES)
def test_a_plain_name_stays_in_the_folder(name: str) -> None:
    if is_plain(name):
        root = "/folder/set"
        path = os.path.normpath(f"{root}/{name}")
        assert path == f"{root}/{name}"
        assert path.startswith(f"{root}/")


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\0", "\ud800", "x" * 256, None, 3, []]
)
def test_no_other_name_is_plain(name: object) -> None:
    with pytest.raises(ValueError, match="no plain name"):
        check_plain(name)
    with pytest.raises(ValueError, match="no plain name"):
        check_plain("a/b.tar", flat=True)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[" * (MAX_JSON_DEPTH + 1) + "]" * (MAX_JSON_DEPTH + 1),
        '{"a": 1e999}',
        '{"a": NaN}',
        "9" * 5000,
        str(2**64),
        '"\\ud800"',
        '{"\\ud800": 1}',
        "{",
        "",
    ],
    ids=lambda text: text[:12],
)
def test_json_beyond_reason_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the words differ, the type is the promise
        parse_json(text.encode())


@given(JSON)
def test_json_within_reason_comes_as_it_is(document: Any) -> None:
    data = json.dumps(document).encode()
    try:
        assert parse_json(data) == document
    except ValueError:
        assert any(part in str(document) for part in ("inf", "nan")) or _far(document)


def _far(document: Any) -> bool:
    """True where a whole number does not fit 64 bits."""
    if isinstance(document, dict | list):
        return any(map(_far, document.values() if isinstance(document, dict) else document))
    return isinstance(document, int) and not -(2**63) <= document < 2**64


@given(
    st.sampled_from(["melbank.json", "catalog.json", "shards.json", "unfinished/plan.json"]), JSON
)
def test_any_json_in_the_place_of_a_head_is_one_of_our_errors(name: str, document: Any) -> None:
    readers: dict[str, Callable[[Any], object]] = {
        "melbank.json": Manifest.read,
        "catalog.json": Catalog.read,
        "shards.json": ShardManifest.read,
        "unfinished/plan.json": read_plan,
    }
    with pytest.raises(MelbankError, match=name.rpartition("/")[2]):
        readers[name](FakeObjects(json.dumps(document).encode()))


class FakeObjects:
    """Objects of which each has the same bytes."""

    url = "place"

    def __init__(self, data: bytes) -> None:
        self.data = data

    def exists(self, name: str) -> bool:
        return name != "sync.json"

    def get(self, name: str) -> bytes:
        return self.data

    def describe(self, name: str) -> str:
        return name


NUMBERS = ("sample_rate_hz", "n_fft", "hop", "n_mels", "slice_s", "slice_step_s", "top_db", "amin")


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [1e12, float("inf"), float("nan"), "128", True, None, -1, [1]])
def test_a_recipe_of_impossible_numbers_is_refused(name: str, value: Any) -> None:
    with pytest.raises(StoreError, match="recipe"):
        Recipe.from_dict({**Recipe().to_dict(), name: value})


def test_names_in_heads_lead_nowhere_else(tmp_path: Path) -> None:
    objects = open_objects(str(tmp_path))
    entry = FileEntry(size_bytes=1, sha256="0" * 64)
    for name in ("../x.tar", "/x.tar", "sub/x.tar", "x.json", "http://a/x.tar"):
        files = {"shards.parquet": entry, "recordings.parquet": entry, name: entry}
        manifest = ShardManifest(store_id="a", recipe=Recipe(), files=files)
        objects.put("shards.json", manifest.encode())
        with pytest.raises(StoreError, match=r"shards\.json is damaged"):
            ShardManifest.read(objects)
        objects.put("unfinished/plan.json", json.dumps({"claimed": [name]}).encode())
        with pytest.raises(StoreError, match=r"plan\.json is damaged"):
            read_plan(objects)
    for name in ("../melbank.json", "index/../../x", "index/part-1.parquet", "/etc/x.json", "a/b"):
        catalog = Catalog({name: {"size": 1, "sha256": "0" * 64}})
        with pytest.raises(DamageError, match=r"catalog\.json is damaged"):
            Catalog.decode(catalog.encode())


@pytest.mark.parametrize("name", ["../secret", "/secret", "a/../../secret", "..", "a\0b"])
def test_a_folder_gives_no_object_of_another(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("secret")
    objects = LocalObjects(str(tmp_path / "set"))
    works: list[Callable[[str], object]] = [
        objects.get,
        objects.size,
        objects.exists,
        objects.delete,
        objects.digest,
        objects.list,
        objects.walk,
        lambda name: objects.tail(name, 4),
        lambda name: objects.put(name, b"mine"),
        lambda name: objects.put_new(name, b"mine"),
        lambda name: objects.as_file(name).__enter__(),
    ]
    for work in works:
        with pytest.raises(StoreError, match="leads out of the folder"):
            work(name)
    assert (tmp_path / "secret").read_text() == "secret"


def test_links_out_of_a_folder_are_not_followed_and_links_within_are(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "set"
    for folder in (outside, inside / "index"):
        folder.mkdir(parents=True)
        (folder / "part").write_text("secret")
    objects = LocalObjects(str(inside))
    (inside / "tables").symlink_to(outside)
    (inside / "head").symlink_to(outside / "part")
    (inside / ".lock").symlink_to(outside / "part")
    (inside / ".tmp").symlink_to(outside)
    for name in ("head", "tables/part", "tables/new"):
        for work in (objects.get, objects.delete, objects.exists):
            with pytest.raises(StoreError, match="link that leads out"):
                work(name)
    for write in (
        lambda: objects.put("tables/new", b"x"),
        lambda: objects.put("new", b"x"),
        objects.clear_temporary,
        lambda: builder_lock(objects).__enter__(),
    ):
        with pytest.raises(StoreError, match="link that leads out"):
            write()
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"part": "secret"}
    (inside / "alias").symlink_to(inside / "index")
    (tmp_path / "also").symlink_to(inside)  # the folder itself may be a link
    assert LocalObjects(str(tmp_path / "also")).get("alias/part") == b"secret"


def test_a_pipe_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "melbank.json")
    with pytest.raises(StoreError, match="no file that may be read"):
        LocalObjects(str(tmp_path)).get("melbank.json")


def index_rows() -> pl.DataFrame:
    """Four rows of an index."""
    columns: dict[str, Any] = {name: [0, 1, 2, 3] for name in INDEX_SCHEMA}
    columns |= {"recording_id": list("abcd"), "silent": [False] * 4}
    return pl.DataFrame(columns).cast(INDEX_SCHEMA)


WRONG_TABLES: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "lacks the column row": lambda frame: frame.drop("row"),
    "column row is String": lambda frame: frame.with_columns(pl.lit("1").alias("row")),
    "column slice_no is Float64": lambda frame: frame.with_columns(slice_no=0.5),
    "column crc32c is Int32": lambda frame: frame.with_columns(crc32c=pl.lit(-1)),
    "column recording_id has nulls": lambda frame: frame.with_columns(
        recording_id=pl.lit(None, pl.String)
    ),
    "column row goes from -1": lambda frame: frame.with_columns(row=pl.col("row") - 1),
    "column row goes from .* beyond": lambda frame: frame.with_columns(row=pl.col("row") + 2**40),
    "column row does not increase": lambda frame: frame.reverse(),
    "bytes promise more than .* rows": lambda frame: pl.select(row=pl.repeat(0, 3_000_000)),
}


@pytest.mark.parametrize("said", WRONG_TABLES)
def test_a_table_that_breaks_its_rule_is_refused(said: str) -> None:
    with pytest.raises(DamageError, match=f"(?s)here is damaged.*{said}"):
        decode_table(INDEX, encode_table(WRONG_TABLES[said](index_rows())), "here")


@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_table_of_changed_bytes_is_a_table_or_our_error(place: int, byte: int) -> None:
    data = bytearray(encode_table(index_rows()))
    data[place % len(data)] = byte
    with suppress(DamageError):
        assert decode_parquet(bytes(data), "here", RULES[INDEX], "there").height < 10**6


@given(
    st.lists(st.integers(0, 9), max_size=4),
    st.sampled_from(["u1", "f2", "f4", "f8", "i8", "?", "c8", "O", ">f4"]),
    st.booleans(),
)
def test_headers_of_numpy_are_read_as_numpy_reads_them(
    shape: list[int], kind: str, fortran: bool
) -> None:
    buffer = io.BytesIO()
    array = np.zeros(shape, kind, order="F" if fortran else "C")
    np.lib.format.write_array(buffer, array)
    buffer.seek(0)
    found = read_npy_header(buffer)
    order = array.flags.f_contiguous and not array.flags.c_contiguous
    assert found == (array.shape, order, array.dtype)


@given(st.text(string.printable, max_size=60))
def test_no_other_header_is_evaluated(text: str) -> None:
    data = b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode()
    with pytest.raises(ValueError):  # noqa: PT011  # the words differ, the type is the promise
        read_npy_header(io.BytesIO(data))
