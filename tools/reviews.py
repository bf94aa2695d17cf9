"""Count the verdicts of a review, show where people agree, and write what they have decided.

    python -m tools.reviews store=data/store reviews.from=reviews
    python -m tools.reviews store=data/store reviews.from=reviews --csv verdicts.csv \\
        --raven heard.txt --audacity tracks
    python -m tools.reviews store=data/store reviews.from=reviews --parquet frozen.parquet
    python -m tools.reviews store=data/store reviews.from=reviews \\
        reviews.train_csv=data/train.csv --corrected data/corrected.csv

Prints verdicts by label, the agreement of each pair of annotators, the items on which they differ,
and the recordings whose label is refused. --csv and --parquet write the verdicts that stand, those
that were taken back or replaced left out; --raven and --audacity the labels that are decided to
be there; --corrected a copy of train.csv with the labels of refused recordings replaced and all
else as it is (docs/review.md has the rules).
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from datasets.corrections import corrected_train_csv, label_changes, read_train_csv
from datasets.reviews import agreement, current_reviews, decided_labels, read_reviews
from storage.errors import ConfigError
from storage.options import option
from storage.output_files import output_file
from storage.store import Store, open_store
from tools.cli.command import Arguments, Command, run
from tools.cli.config import StoreSection
from tools.cli.output_files import check_output, make_folder
from tools.cli.slice_files.outputs import print_table
from tools.cli.slice_files.reviews import (
    agreement_table,
    disputed,
    label_spans,
    verdict_counts,
    write_verdicts,
)
from training.experiments.report import format_table

FILES = ("csv", "parquet", "raven", "corrected")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewsConfig:
    """Verdicts to read, and the csv that they correct."""

    from_: list[str] = field(
        default_factory=lambda: ["reviews"],
        metadata={"help": "folders of reviews, or files of them"},
    )
    train_csv: str = option("", "csv by which the store was built, for --corrected")


@dataclass(frozen=True, kw_only=True)
class Sections(StoreSection):
    """Config sections of this command."""

    reviews: ReviewsConfig = field(default_factory=ReviewsConfig)


COMMAND = Command(
    doc=__doc__,
    sections=Sections,
    flags=(
        ("--csv", {"metavar": "FILE", "help": "the standing verdicts as csv"}),
        ("--parquet", {"metavar": "FILE", "help": "the standing verdicts as a file of reviews"}),
        ("--raven", {"metavar": "FILE", "help": "labels that are there, as a selection table"}),
        ("--audacity", {"metavar": "FOLDER", "help": "the same, a label track per recording"}),
        ("--corrected", {"metavar": "FILE", "help": "a corrected copy of reviews.train_csv"}),
    ),
)


def main(config: Sections, arguments: Arguments) -> None:
    """Prints the state of a review and writes the files that were asked for."""
    if bool(arguments.corrected) != bool(config.reviews.train_csv):
        raise ConfigError("--corrected FILE and reviews.train_csv=FILE need each other: give both")
    for flag in FILES:
        check_output(f"--{flag}", getattr(arguments, flag))
    if arguments.audacity:
        make_folder("--audacity", Path(arguments.audacity))
    current = current_reviews(read_reviews(*map(Path, config.reviews.from_)))
    with open_store(config.store, config.remote) as store:
        _print_state(current, store.recordings())
        _write_files(config, arguments, store, current)


def _print_state(current: pl.DataFrame, recordings: pl.DataFrame) -> None:
    """Prints counts, agreement and new labels."""
    seen = recordings["recording_id"].is_in(current["recording_id"].unique().implode()).sum()
    people = current["annotator"].n_unique()
    print(
        f"{len(current):,} verdicts of {people:,} people, on {seen:,} of {len(recordings):,} "
        "recordings"
    )
    strange = set(current["recording_id"]) - set(recordings["recording_id"])
    if strange:
        print(
            f"{len(strange):,} recordings with verdicts are not in the store: {min(strange)}, ..."
        )
    if len(current):
        _print_whole(verdict_counts(current))
    if people > 1:
        found = agreement(current)
        print(f"items that several people have judged: {found.shared:,}, alike: {found.same:,}")
        _print_whole(agreement_table(current))
        if len(differing := disputed(current)):
            print_table(differing)
    changes = label_changes(decided_labels(current), recordings)
    print(f"recordings whose label is refused: {len(changes):,}")
    if len(changes):
        print_table(changes.drop("filename"))


def _print_whole(table: pl.DataFrame) -> None:
    """Prints all lines of a table of few columns."""
    cells = [tuple("-" if cell is None else str(cell) for cell in row) for row in table.iter_rows()]
    print(f"\n{format_table(table.columns, cells, num_totals=0)}\n")


def _write_files(
    config: Sections, arguments: Arguments, store: Store, current: pl.DataFrame
) -> None:
    decided, recordings = decided_labels(current), store.recordings()
    for target in (arguments.csv, arguments.parquet):
        if target:
            write_verdicts(current, Path(target))
            print(f"verdicts: {target}")
    if arguments.raven or arguments.audacity:
        from tools.cli.slice_files import audio  # libsndfile's import

        spans = label_spans(decided, recordings)
        if arguments.raven:
            band_hz = (store.recipe.fmin_hz, store.recipe.fmax_hz)
            audio.write_raven(spans, Path(arguments.raven), band_hz)
            print(f"raven: {arguments.raven}, {len(spans):,} labels")
        if arguments.audacity:
            audio.write_audacity(spans, Path(arguments.audacity))
            print(f"audacity: {arguments.audacity}")
    if arguments.corrected:
        given = read_train_csv(Path(config.reviews.train_csv))
        corrected = corrected_train_csv(given, decided, recordings)
        with output_file(Path(arguments.corrected)) as file:
            corrected.write_csv(file)
        changed = (given["primary_label"] != corrected["primary_label"]).sum()
        print(f"corrected csv: {arguments.corrected}, {changed:,} of {len(given):,} labels differ")


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
