"""tools.reviews: counts and agreement, files of a review, a corrected train.csv, and its table."""

import polars as pl
import pytest

import tools.query
from datasets.reviews import (
    NO,
    OTHER,
    YES,
    ReviewLog,
    Verdict,
    current_reviews,
    decided_labels,
    read_reviews,
)
from storage.store import open_store
from tests.small_store import build_small_store
from tools.cli.command import run
from tools.cli.slice_files.reviews import agreement_table, disputed, label_spans, verdict_counts
from tools.reviews import COMMAND, main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A store, and verdicts of two people on its first three recordings."""
    made = tmp_path_factory.mktemp("reviews")
    store = build_small_store(made, (6, 5, 4, 3))
    with open_store(str(store)) as opened:
        table = opened.recordings()
    labels = sorted(set(table["primary_label"]))
    log = ReviewLog(made / "reviews")
    lines = table.select("recording_id", "primary_label", "duration_s").rows()

    def tell(line, who, verdict, other="", **more):
        recording_id, label, duration_s = lines[line]
        given = {"label": label, "start_s": 0.0, "end_s": duration_s, **more}
        log.append(
            Verdict(
                annotator=who,
                verdict=verdict,
                other_label=other,
                recording_id=recording_id,
                **given,
            )
        )

    new = next(label for label in labels if label != lines[0][1])
    tell(0, "ana", OTHER, new)
    tell(0, "ben", OTHER, new)
    tell(1, "ana", YES)
    tell(1, "ben", NO)
    tell(2, "ana", YES, end_s=2.0)
    return made, table, new


def words(folder, *more):
    return [f"store={folder / 'store'}", f"reviews.from={folder / 'reviews'}", *more]


def test_counts_agreement_and_disputes(folder):
    made, table, _ = folder
    current = current_reviews(read_reviews(made / "reviews"))
    counts = verdict_counts(current)
    assert counts.select("yes", "no", "unsure", "other").sum().row(0) == (2, 1, 0, 2)
    assert counts["items"].sum() == 3
    assert agreement_table(current).rows() == [("ana", "ben", 2, 1, 0.5)]
    assert disputed(current)["recording_id"].to_list() == [table["recording_id"][1]]


def test_spans_have_the_names_of_the_labels_and_end_with_their_recording(folder):
    made, table, new = folder
    decided = decided_labels(current_reviews(read_reviews(made / "reviews")))
    spans = label_spans(decided, table)
    assert dict(spans.select("recording_id", "label").iter_rows()) == {
        table["recording_id"][0]: new,
        table["recording_id"][2]: table["primary_label"][2],
    }
    assert set(spans["filename"]) <= set(table["filename"])
    assert (spans["end_s"] <= spans["duration_s"]).all()


def test_the_command_prints_and_writes(folder, tmp_path, capsys):
    made, table, new = folder
    csv, corrected = made / "source" / "train.csv", tmp_path / "new.csv"
    flags = [f"--csv={tmp_path / 'v.csv'}", f"--parquet={tmp_path / 'v.parquet'}"]
    flags += [f"--raven={tmp_path / 'r.txt'}", f"--audacity={tmp_path / 'tracks'}"]
    more = words(made, *flags, f"reviews.train_csv={csv}", f"--corrected={corrected}")
    assert run(COMMAND, main, more) == 0
    printed = capsys.readouterr().out
    for part in ("5 verdicts of 2 people, on 3 of 4", "several people have judged: 2, alike: 1"):
        assert part in printed
    assert "label is refused: 1" in printed
    assert "1 of 4 labels differ" in printed
    assert len(pl.read_csv(tmp_path / "v.csv")) == 5
    frozen = read_reviews(tmp_path / "v.parquet")
    assert frozen.equals(current_reviews(read_reviews(made / "reviews")))
    raven = pl.read_csv(tmp_path / "r.txt", separator="\t")
    assert sorted(raven["Species Code"]) == sorted([new, table["primary_label"][2]])
    assert len(list((tmp_path / "tracks").iterdir())) == 2
    before, after = (pl.read_csv(path, infer_schema=False) for path in (csv, corrected))
    assert after.drop("primary_label").equals(before.drop("primary_label"))
    differs = before["primary_label"] != after["primary_label"]
    assert after.filter(differs)["primary_label"].to_list() == [new]
    assert before.filter(differs)["filename"][0] == table["filename"][0]


def test_a_review_without_verdicts_changes_nothing(folder, tmp_path, capsys):
    made, _, _ = folder
    (tmp_path / "empty").mkdir()
    csv = made / "source" / "train.csv"
    given = [f"store={made / 'store'}", f"reviews.from={tmp_path / 'empty'}"]
    given += [f"reviews.train_csv={csv}", f"--corrected={tmp_path / 'same.csv'}"]
    assert run(COMMAND, main, [*given, f"--raven={tmp_path / 'none.txt'}"]) == 0
    assert "0 verdicts of 0 people" in capsys.readouterr().out
    before, after = (pl.read_csv(path) for path in (csv, tmp_path / "same.csv"))
    assert after.equals(before)
    assert len((tmp_path / "none.txt").read_text().splitlines()) == 1


def test_wrong_calls(folder, tmp_path, capsys):
    made, _, _ = folder
    assert run(COMMAND, main, words(made, f"--corrected={tmp_path / 'x.csv'}")) == 2
    assert "need each other" in capsys.readouterr().err
    assert run(COMMAND, main, [f"store={made / 'store'}", "reviews.from=nowhere"]) == 2
    assert "there is no folder of reviews" in capsys.readouterr().err
    assert run(COMMAND, main, words(made, f"--csv={tmp_path / 'x.txt'}")) == 2


def test_queries_read_the_standing_verdicts(folder, tmp_path):
    made, _, _ = folder
    sql = "SELECT label, COUNT(*) AS n FROM reviews WHERE verdict <> 'yes' GROUP BY label"
    given = [f"store={made / 'store'}", f"query.reviews={made / 'reviews'}", "--sql", sql]
    out = tmp_path / "out.parquet"
    assert run(tools.query.COMMAND, tools.query.main, [*given, f"--parquet={out}"]) == 0
    assert pl.read_parquet(out)["n"].sum() == 3
