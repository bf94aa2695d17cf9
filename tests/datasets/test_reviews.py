"""datasets.reviews: nothing confirmed is lost, undo, agreement, and what people agree on."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.reviews import (
    NO,
    OTHER,
    SCHEMA,
    UNDO,
    UNSURE,
    YES,
    ReviewLog,
    ReviewReader,
    Verdict,
    agreement,
    current_reviews,
    decided_labels,
    read_reviews,
)
from storage.errors import ConfigError, StoreError
from tests.paths import ROOT

WRITER = """
import sys
from pathlib import Path
from datasets.reviews import ReviewLog, Verdict
log = ReviewLog(Path(sys.argv[1]))
for number in range(10_000):
    one = Verdict(annotator=sys.argv[2], verdict="yes", label="owl", recording_id="a",
                  start_s=number, end_s=number + 5)
    print(log.append(one), flush=True)
    if number % 5 == 4:
        log.compact()
"""


def verdict(annotator="ana", what=YES, *, at=0.0, **more):
    known = {"label": "owl", "recording_id": "a", "start_s": at, "end_s": at + 5}
    return Verdict(annotator=annotator, verdict=what, **{**known, **more})


def test_what_is_written_is_read_in_its_order(tmp_path):
    log = ReviewLog(tmp_path / "reviews")
    given = [verdict(at=number, score=0.5, row=number) for number in range(7)]
    ids = [log.append(one) for one in given]
    found = read_reviews(tmp_path / "reviews")
    assert found.schema == SCHEMA
    assert found["verdict_id"].to_list() == ids
    log.compact()
    assert read_reviews(tmp_path / "reviews").equals(found)
    assert len(list((tmp_path / "reviews").iterdir())) == 1


def test_two_readings_of_a_half_done_compaction_are_the_same(tmp_path):
    log = ReviewLog(tmp_path)
    for number in range(4):
        log.append(verdict(at=number))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    whole = read_reviews(tmp_path)
    log.compact()
    for path, data in before.items():  # as if a kill had come before they were deleted
        path.write_bytes(data)
    assert read_reviews(tmp_path).equals(whole)


def test_many_writers_at_once_lose_nothing(tmp_path):
    def write(name):
        log = ReviewLog(tmp_path)
        ids = [log.append(verdict(name, at=number)) for number in range(20)]
        log.compact()
        return ids

    stop = threading.Event()

    seen = [0]

    def read():
        while not stop.is_set():
            seen.append(len(read_reviews(tmp_path)))

    reader = threading.Thread(target=read)
    reader.start()
    with ThreadPoolExecutor(4) as threads:
        ids = set().union(*threads.map(write, ("ana", "ben", "cy", "dee")))
    stop.set()
    reader.join()
    assert seen == sorted(seen)  # what was seen once is seen again, while files are being joined
    assert set(read_reviews(tmp_path)["verdict_id"]) == ids


@pytest.mark.slow
def test_kills_lose_no_confirmed_verdict(tmp_path):
    """MELBANK_KILLS of them, each while verdicts are being written or joined."""
    confirmed: set[str] = set()
    for number in range(int(os.environ.get("MELBANK_KILLS", "30"))):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), f"person{number}"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3 + number % 11):
            confirmed.add(process.stdout.readline().strip())
        os.kill(process.pid, signal.SIGKILL)
        confirmed |= {line.strip() for line in process.stdout if len(line) == 33}
        process.wait()
        process.stdout.close()
    assert confirmed <= set(read_reviews(tmp_path)["verdict_id"])


def test_the_last_verdict_counts_and_an_undo_brings_the_one_before_back(tmp_path):
    log = ReviewLog(tmp_path)
    log.append(verdict())
    second = log.append(verdict(what=NO))
    assert current_reviews(read_reviews(tmp_path))["verdict"].to_list() == [NO]
    log.append(verdict(what=UNDO, takes_back=second))
    assert current_reviews(read_reviews(tmp_path))["verdict"].to_list() == [YES]


def test_agreement_and_decisions_by_hand(tmp_path):
    log = ReviewLog(tmp_path)
    for one in (
        verdict("ana", at=0),
        verdict("ben", at=0),
        verdict("ana", NO, at=5),
        verdict("ben", at=5),
        verdict("ana", OTHER, at=10, other_label="robin"),
        verdict("ana", UNSURE, at=15),
    ):
        log.append(one)
    current = current_reviews(read_reviews(tmp_path))
    found = agreement(current)
    assert (found.shared, found.same) == (2, 1)
    decided = decided_labels(current).select("start_s", "label", "present").rows()
    assert decided == [(0, "owl", True), (10, "owl", False), (10, "robin", True)]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.sampled_from((YES, NO)))))
def test_the_current_verdicts_are_those_of_a_plain_loop(steps):
    rows, last = [], {}
    for number, (annotator, at, what) in enumerate(steps):
        rows.append({"verdict_id": str(number), "annotator": annotator, "verdict": what})
        rows[-1] |= {"recording_id": "r", "start_s": float(at), "label": "owl"}
        last[annotator, at] = what
    frame = pl.DataFrame(rows, schema=SCHEMA, strict=False) if rows else pl.DataFrame(schema=SCHEMA)
    current = current_reviews(frame)
    found = {(row["annotator"], row["start_s"]): row["verdict"] for row in current.to_dicts()}
    assert found == last


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"annotator": " "}, "name of its annotator"),
        ({"verdict": "maybe"}, "review.verdict=maybe"),
        ({"verdict": OTHER}, "names another label"),
        ({"verdict": UNDO}, "names the id of another"),
        ({"end_s": 0.0}, "no stretch of a recording"),
        ({"note": "x" * 1001}, "more than 1,000 characters"),
    ],
    ids=str,
)
def test_a_verdict_without_sense_is_refused(wrong, message):
    known = {"annotator": "ana", "verdict": YES, "label": "owl", "recording_id": "a"}
    with pytest.raises(ConfigError, match=message):
        Verdict(**{**known, "start_s": 0.0, "end_s": 5.0, **wrong})


def test_damaged_and_foreign_files_are_named(tmp_path):
    with pytest.raises(ConfigError, match="no folder of reviews"):
        read_reviews(tmp_path / "none")
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(StoreError, match=r"a\.parquet is damaged"):
        read_reviews(tmp_path)
    pl.DataFrame({"x": [1]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(StoreError, match="no file of reviews"):
        read_reviews(tmp_path)


def test_a_reader_sees_what_is_added_and_joined(tmp_path):
    reader, log = ReviewReader(tmp_path / "reviews"), None
    assert reader.read().is_empty()
    log = ReviewLog(tmp_path / "reviews")
    for number in range(6):
        log.append(verdict(at=number))
        if number == 3:
            log.compact()
        version = reader.version
        assert reader.read().equals(read_reviews(tmp_path / "reviews"))
        assert reader.version == version + 1
    log.compact()
    assert reader.read().equals(read_reviews(tmp_path / "reviews"))
    assert len(reader.read()) == 6


def test_a_reader_says_which_file_is_damaged(tmp_path):
    reader = ReviewReader(tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"no")
    with pytest.raises(StoreError, match=r"a\.parquet is damaged"):
        reader.read()
    (tmp_path / "a.parquet").unlink()
    assert reader.read().is_empty()
