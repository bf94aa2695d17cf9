"""tools.benchmark plan: what it measures, on small plans."""

from argparse import Namespace

import numpy as np
import polars as pl
import pytest

from tools.benchmarks.harness.plan_run import CASES, make_plans, synthetic_recordings
from tools.benchmarks.plan import PlanBenchmarkConfig, Sections, run_benchmark


def test_the_synthetic_table_holds_what_was_asked_for():
    table = synthetic_recordings(5000, seed=1)
    assert table["num_slices"].sum() == 5000
    assert len(table) == 5000 // 13
    assert table["recording_id"].n_unique() == len(table)
    ends = table["first_row"] + table["num_slices"]
    assert np.array_equal(ends[:-1], table["first_row"][1:])
    labels = table.group_by("primary_label").agg(pl.len())["len"]
    assert labels.max() > 3 * labels.min()


@pytest.mark.parametrize("case", CASES)
def test_plans_are_made_and_timed(case):
    table = synthetic_recordings(5000, seed=1)
    answer = make_plans(table, CASES[case], seed=1)
    assert answer["num_samples"] == (5000 if case == "blocks" else len(table))
    assert answer["plan_s"] > 0


def test_the_report_has_a_line_for_each_kind():
    sizes = PlanBenchmarkConfig(one_slices=20_000, block_slices=40_000, runs=1)
    section = run_benchmark(Sections(benchmark=sizes), Namespace())
    rows = section.parts[1].rows
    assert [row[2] for row in rows] == ["20,000", "40,000"]
    assert [row[3] for row in rows] == ["1,538", "40,000"]
    assert all(float(row[7].replace(",", "")) > 20 for row in rows)


@pytest.mark.slow
def test_the_report_has_lines_for_each_store(tmp_path):
    sizes = PlanBenchmarkConfig(
        one_slices=2000, block_slices=2000, runs=1, store_rows=[20_000], work_dir=str(tmp_path)
    )
    table = run_benchmark(Sections(benchmark=sizes), Namespace()).parts[3]
    assert [row[1] for row in table.rows] == ["1,533", "1,533", "1,533", "1,682", "1,533"]
    assert [row[2] for row in table.rows] == ["1,533", "1,533", "1,533", "1,682", "20,000"]
    assert len(list(tmp_path.iterdir())) == 2  # the stores, for the next time


@pytest.mark.slow
def test_tables_of_a_large_store_are_in_mapped_files(tmp_path):
    sizes = PlanBenchmarkConfig(
        one_slices=2000, block_slices=2000, runs=1, store_rows=[2_200_000], work_dir=str(tmp_path)
    )
    table = run_benchmark(Sections(benchmark=sizes), Namespace()).parts[3]
    place = table.columns.index("shared MB")
    assert min(float(row[place]) for row in table.rows) > 60  # recordings and checksums
