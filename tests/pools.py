"""Tables of several sources, as a mix has them, with targets for their slices.

table = pool_table(focal=[2] * 100, pool=[5] * 20)
facts = facts_of(table, config, values, draws={"pool": "max_sum"})
"""

import numpy as np
import polars as pl

from datasets.sampling.candidates import Candidates
from datasets.sampling.facts import find_facts
from datasets.slice_source import SOURCE_ROWS
from datasets.targets import SoftSlices, Targets
from tests.fakes import fake_recordings

NAMES = ("a", "b", "c")


def pool_table(**sources):
    """Recordings of several sources, each with the lengths given; labels a, b, c in turn."""
    frames = [
        fake_recordings(lengths).with_columns(
            pl.format("{}/{}", pl.lit(name), "recording_id").alias("recording_id"),
            pl.col("first_row") + number * SOURCE_ROWS,
            source=pl.lit(name),
        )
        for number, (name, lengths) in enumerate(sources.items())
    ]
    return pl.concat(frames)


def rows_of(table, name):
    """All rows of one source, increasing."""
    return Candidates.all_of(table.filter(source=name)).sorted_rows()[0]


def facts_of(table, config, values=None, *, draws=None, source="pool", eligible=None):
    """Facts for a planner; `values` [m, 3] are the soft targets of all rows of one source."""
    hard = np.array([[label == name for name in NAMES] for label in table["primary_label"]])
    soft = []
    if values is not None:
        rows = rows_of(table, source)
        slices = SoftSlices(rows=rows, line=np.arange(len(rows), dtype=np.int32))
        soft = [(np.asarray(values, np.float32), slices)]
    targets = Targets(hard.astype(np.float32), soft)
    numbers = np.arange(len(table))
    return find_facts(
        config, table, draws or {}, targets, NAMES, recording_no=numbers, eligible=eligible
    )
