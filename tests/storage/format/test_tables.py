"""Tables of parts and plans, read together."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from storage.format.tables import (
    INDEX,
    PART,
    PLANS,
    REJECTS,
    SCHEMAS,
    decode_table,
    encode_table,
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
