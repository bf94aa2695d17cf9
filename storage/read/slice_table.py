"""A lazy table of slices with their recordings' columns, which are fetched for what is found.

Polars' own join would look every slice up in a hash table and carry twenty columns of text along.
Here the position of each slice's recording is known: a filter runs on the columns that it names,
and the other columns are taken by position for the rows that are left. Measured on 10,000,000
slices of 770,000 recordings, 1 % found: 0.06 s of CPU, a join 0.4 s.
"""

from collections.abc import Iterable, Iterator

import polars as pl
from polars.io.plugins import register_io_source


def late_join(slices: pl.DataFrame, recordings: pl.DataFrame, position: str) -> pl.LazyFrame:
    """`slices` without its column `position`, with the columns of `recordings` after.

    `position` says which row of `recordings` belongs to a slice. Columns of `recordings` whose
    name is taken get `_right` after it, as in Polars' joins.
    """
    taken = {name: f"{name}_right" for name in recordings.columns if name in slices.columns}
    recordings = recordings.rename(taken)
    schema = pl.Schema({**slices.drop(position).schema, **recordings.schema})

    def with_columns(frame: pl.DataFrame, names: Iterable[str]) -> pl.DataFrame:
        missing = [name for name in dict.fromkeys(names) if name not in frame.columns]
        if not missing:
            return frame
        fetched = recordings[missing][frame[position]]  # no expression: a name may look like one
        return frame.hstack(fetched.get_columns())

    def read(
        columns: list[str] | None, where: pl.Expr | None, limit: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        frame = slices
        if where is not None:
            frame = with_columns(frame, where.meta.root_names()).filter(where)
        if limit is not None:
            frame = frame.head(limit)
        names = list(schema) if columns is None else columns
        yield with_columns(frame, names)[names]  # names, whatever they mean to expressions

    return register_io_source(read, schema=schema)
