"""Reviews as tables and files: counts of verdicts, agreement, files of Raven and Audacity.

current = current_reviews(read_reviews(Path("reviews")))
print(verdict_counts(current), agreement_table(current))
write_raven(label_spans(decided_labels(current), store.recordings()), target, band_hz)
"""

from itertools import combinations
from pathlib import Path

import polars as pl

from datasets.labels import taxonomy_names
from datasets.reviews import ITEM, OTHER, UNDO, VERDICTS, agreement
from storage.errors import ConfigError
from storage.output_files import output_file

ENDINGS = (".csv", ".parquet")


def verdict_counts(current: pl.DataFrame) -> pl.DataFrame:
    """Counts standing verdicts by label: yes, no, unsure, other, items, annotators."""
    counts = [
        (pl.col("verdict") == verdict).sum().alias(verdict)
        for verdict in VERDICTS
        if verdict != UNDO
    ]
    items = pl.struct("recording_id", "start_s").n_unique().alias("items")
    people = pl.col("annotator").n_unique().alias("annotators")
    return current.group_by("label").agg(*counts, items, people).sort("label")


def agreement_table(current: pl.DataFrame) -> pl.DataFrame:
    """Agreement of each pair of annotators: items of both, those with the same answer, their share.

    `unsure` is an answer like the others, and the name of the other species a part of it.
    """
    rows = []
    people = sorted(current["annotator"].unique())
    for one, other in combinations(people, 2):
        found = agreement(current.filter(pl.col("annotator").is_in([one, other])))
        share = round(found.same / found.shared, 3) if found.shared else None
        rows.append((one, other, found.shared, found.same, share))
    schema = {
        "annotator": pl.String,
        "with": pl.String,
        "items": pl.Int64,
        "same": pl.Int64,
        "share": pl.Float64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def disputed(current: pl.DataFrame) -> pl.DataFrame:
    """Items on which annotators differ, with the answer of each: what to look at again."""
    answer = pl.when(pl.col("verdict") == OTHER).then("other_label").otherwise("verdict")
    told = current.with_columns(answer=answer)
    items = told.group_by(ITEM, maintain_order=True).agg("annotator", "answer")
    return items.filter(pl.col("answer").list.n_unique() > 1)


def write_verdicts(current: pl.DataFrame, target: Path) -> None:
    """Writes verdicts as csv or Parquet, by the ending of the file.

    The Parquet file is one of reviews, too: `read_reviews` takes it.
    """
    if target.suffix not in ENDINGS:
        raise ConfigError(f"{target} must end in {' or '.join(ENDINGS)}")
    with output_file(target) as file:
        if target.suffix == ".csv":
            current.write_csv(file)
        else:
            current.write_parquet(file)


def label_spans(decided: pl.DataFrame, recordings: pl.DataFrame) -> pl.DataFrame:
    """Decided labels that are there, as `slice_files.audio` writes them for Raven and Audacity.

    Columns: recording_id, filename, duration_s, start_s, end_s, label, common_name,
    scientific_name, score; verdicts on recordings that are not among these are left out.
    """
    names = taxonomy_names(recordings)
    there = decided.filter("present").join(
        recordings.select("recording_id", "filename", "duration_s"), on="recording_id"
    )
    named = [
        pl.Series(
            column,
            [names.get(label, {}).get(column) or label for label in there["label"]],
            pl.String,
        )
        for column in ("common_name", "scientific_name")
    ]
    return there.with_columns(*named, score=pl.lit(1.0)).select(
        "recording_id",
        "filename",
        "duration_s",
        "start_s",
        pl.min_horizontal("end_s", "duration_s").alias("end_s"),
        "label",
        "common_name",
        "scientific_name",
        "score",
    )
