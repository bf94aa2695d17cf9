"""Tables of parts and plans, read together."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from storage.errors import DamageError
from storage.format.tables import (
    INDEX,
    PART,
    PLANS,
    REJECTS,
    SCHEMAS,
    decode_table,
    encode_table,
    join_parts,
    read_table,
    read_tables,
    table_name,
)
from storage.objects.open import open_objects


def rows(table: str, **columns: Sequence[object]) -> bytes:
    height = len(next(iter(columns.values())))
    empty = pl.DataFrame(schema=SCHEMAS[table])
    nulls = {name: pl.Series([None] * height, dtype=kind) for name, kind in empty.schema.items()}
    given = {name: pl.Series(value, dtype=empty.schema[name]) for name, value in columns.items()}
    return encode_table(pl.DataFrame(nulls | given))


def plan_of(parts: list[int]) -> bytes:
    ids = [f"XC{number}" for number in range(len(parts))]
    numbers = {"first_shard": parts, "num_shards": [1] * len(ids), "expected_slices": parts}
    return rows(PLANS, part=parts, recording_id=ids, **numbers)


def index_of(numbers: list[int]) -> bytes:
    ids = [f"XC{number}" for number in numbers]
    same = dict.fromkeys(("row", "slice_no", "start_s", "crc32c"), numbers)
    return rows(INDEX, recording_id=ids, **same)


def test_rows_of_a_part_get_its_number_and_those_of_a_plan_keep_theirs(tmp_path: Path) -> None:
    objects = open_objects(str(tmp_path))
    objects.put(table_name(REJECTS, 4), rows(REJECTS, reason=["short"]))
    objects.put(table_name(REJECTS, 6), rows(REJECTS, reason=["long"]))
    assert read_tables(objects, REJECTS, [4, 6])[PART].to_list() == [4, 6]
    objects.put(table_name(PLANS, 0), plan_of([0, 1, 1]))
    objects.put(table_name(PLANS, 1), plan_of([2]))
    assert read_tables(objects, PLANS, [0, 1])["part"].to_list() == [0, 1, 1, 2]


def test_a_column_that_older_parts_of_the_index_lack_is_null(tmp_path: Path) -> None:
    objects = open_objects(str(tmp_path))
    old = decode_table(INDEX, index_of([0, 1]), "old").drop("silent")
    objects.put(table_name(INDEX, 0), encode_table(old))
    whole = read_tables(objects, INDEX, [0])
    assert whole.columns == [*SCHEMAS[INDEX], PART]
    assert whole["silent"].to_list() == [None, None]


ROWS = decode_table(INDEX, index_of([0, 1, 2]), "here")
VARIANTS = {
    "as written": ROWS,
    "later rows": ROWS.with_columns(pl.col("row") + 10),
    "other order": ROWS.select(reversed(ROWS.columns)),
    "a column of the future": ROWS.with_columns(pl.lit("x").alias("extra")),
    "one of an earlier version": ROWS.drop("silent"),
    "a smaller type": ROWS.with_columns(pl.col("row").cast(pl.Int32)),
    "a type of nulls": ROWS.with_columns(pl.lit(None).alias("silent")),
    "no rows": ROWS[:0],
    "a part of its own": ROWS.with_columns(pl.lit(7).alias(PART)),
}


@pytest.mark.parametrize("others", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("first", VARIANTS.values(), ids=VARIANTS)
def test_tables_read_at_once_are_those_read_one_by_one(
    tmp_path: Path, first: pl.DataFrame, others: pl.DataFrame
) -> None:
    objects = open_objects(str(tmp_path))
    for number, frame in enumerate((first, others, others)):
        objects.put(table_name(INDEX, number), encode_table(frame))
    single = [
        read_table(objects, INDEX, number).with_columns(pl.lit(number, pl.Int32).alias(PART))
        for number in range(3)
    ]
    assert_frame_equal(read_tables(objects, INDEX, range(3)), join_parts(INDEX, single))


BROKEN = {
    "does not increase": encode_table(ROWS.reverse()),
    "has nulls": encode_table(ROWS.with_columns(pl.lit(None, pl.Int64).alias("row"))),
    "beyond": encode_table(ROWS.with_columns(pl.col("row") - 9)),
    "lacks the column": encode_table(ROWS.drop("row")),
    "is String": encode_table(ROWS.with_columns(pl.lit("a").alias("row"))),
    "is damaged": index_of([0, 1, 2])[:-9],
    "promise more than": encode_table(pl.concat([ROWS[:1].clear(n=99_999)])),
}


@pytest.mark.parametrize(("said", "data"), BROKEN.items(), ids=BROKEN)
@pytest.mark.parametrize("number", range(3))
def test_of_tables_read_at_once_the_broken_one_is_named(
    tmp_path: Path, said: str, data: bytes, number: int
) -> None:
    objects = open_objects(str(tmp_path))
    for other in range(3):
        objects.put(table_name(INDEX, other), data if other == number else encode_table(ROWS))
    with pytest.raises(DamageError, match=f"{table_name(INDEX, number)}.*{said}"):
        read_tables(objects, INDEX, range(3))
