"""Table of classes and folds: recordings and groups of each, and the classes without a score.

    table = tabulate_folds(split_recordings(source, config), config)
    print(table.text(width=80))

Counts are of primary labels, among the recordings that are held out in one fold. A score needs a
recording with the class, as any of its labels, among those that are held out in `train_folds`, and
one without it. A class in one fold alone has scores of a model that never learned it.

Shapes: R recordings, C classes, F folds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from datasets.folds import group_numbers
from datasets.labels import taxonomy_names
from storage.source.recorder_names import SITE
from training.config import TrainingConfig
from training.experiments.classes import class_names, shown_names
from training.experiments.parts import PartFacts
from training.split import Split

NOT_HELD_OUT = "never held out"
ALWAYS = "in every held-out recording"
ONE_FOLD = "in one fold alone"
TOTAL = "all"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoldTable:
    """Counts int64 [C + 1, F + 1] of recordings and of groups; the last line and column are totals.

    `problems`: for each class why it cannot be scored, or None. `common_names`: those that the
    recordings give, else empty. `notes`: sentences on the folds as a whole.
    """

    labels: tuple[str, ...]
    common_names: dict[str, str]
    folds: tuple[int, ...]
    recordings: np.ndarray
    groups: np.ndarray
    problems: tuple[str | None, ...]
    notes: tuple[str, ...]

    def frame(self) -> pl.DataFrame:
        """One line per class: counts in all, why it has no score, counts in each fold."""
        count = len(self.labels)
        columns = {
            "primary_label": self.labels,
            "common_name": [self.common_names.get(label) for label in self.labels],
            "recordings": self.recordings[:count, -1],
            "groups": self.groups[:count, -1],
            "problem": self.problems,
        }
        for place, fold in enumerate(self.folds):
            columns[f"fold_{fold}_recordings"] = self.recordings[:count, place]
            columns[f"fold_{fold}_groups"] = self.groups[:count, place]
        text = dict.fromkeys(("primary_label", "common_name", "problem"), pl.String)
        return pl.DataFrame(columns, schema_overrides=text)

    def text(self, width: int) -> str:
        """Formats counts as recordings/groups, as many folds next to each other as fit."""
        names = [*self.labels, TOTAL]
        total = self._column(TOTAL, -1)
        columns = [self._column(str(fold), place) for place, fold in enumerate(self.folds)]
        first = [cell.ljust(max(map(len, names))) for cell in ("", *names)]
        room = width - len(first[0]) - len(total[0])
        per_block = max(1, room // max(len(column[0]) for column in columns))
        blocks = [
            "\n".join("".join(line).rstrip() for line in zip(first, total, *some, strict=True))
            for some in _runs(columns, per_block)
        ]
        return "\n\n".join(["recordings/groups of each primary label in each fold", *blocks])

    def _column(self, title: str, place: int) -> list[str]:
        pairs = zip(self.recordings[:, place], self.groups[:, place], strict=True)
        cells = [title, *(f"{one}/{groups}" if one else "-" for one, groups in pairs)]
        return [cell.rjust(2 + max(map(len, cells))) for cell in cells]


def tabulate_folds(split: Split, config: TrainingConfig) -> FoldTable:
    """Counts the recordings and groups of a split; ConfigError where it cannot be grouped."""
    scored = split.recordings.filter(split.scored_R)
    fold_R, label_R = split.fold_R[split.scored_R], split.truth.primary_R[split.scored_R]
    group_R = group_numbers(scored, config.folds.group_by)
    folds, place_R = np.unique(fold_R, return_inverse=True)
    cells = pl.DataFrame({"label": label_R, "place": place_R, "group": group_R})
    problems = class_problems(split)
    recordings, groups = _counts(cells, len(split.labels), len(folds))
    return FoldTable(
        labels=split.labels.names,
        common_names=class_names(split.recordings),
        folds=tuple(folds.tolist()),
        recordings=recordings,
        groups=groups,
        problems=problems,
        notes=(*_group_notes(cells, config), *problem_notes(split.labels.names, problems)),
    )


def class_problems(split: Split) -> tuple[str | None, ...]:
    """Returns for each class why its scores say nothing, None where they do."""
    positives_RC = split.truth.positives_RC
    folds = np.unique(split.fold_R[split.scored_R])
    scored_FR = [split.scored_R & (split.fold_R == fold) for fold in folds]
    held_out_FC = np.stack([positives_RC[scored_R].sum(0) for scored_R in scored_FR])
    is_trained = np.isin(folds, split.train_folds)
    num_held_out_C = held_out_FC[is_trained].sum(0)
    num_held_out = sum(int(scored_R.sum()) for scored_R in np.array(scored_FR)[is_trained])
    learned_only_C = positives_RC[split.used_R & ~split.scored_R].any(0)
    alone_C = ((held_out_FC > 0).sum(0) == 1) & ~learned_only_C
    problem_C = np.full(len(split.labels), None, object)
    problem_C[alone_C] = ONE_FOLD
    problem_C[num_held_out_C == num_held_out] = ALWAYS
    problem_C[num_held_out_C == 0] = NOT_HELD_OUT
    return tuple(problem_C.tolist())


def part_facts(split: Split, rare_below: int) -> PartFacts:
    """Gathers by what the held-out recordings are parted for scores of their own."""
    recordings, names = split.recordings, split.labels.names
    learned = [
        split.truth.primary_R[split.used_R & ~(split.scored_R & (split.fold_R == fold))]
        for fold in split.train_folds
    ]
    counts = [np.bincount(primary[primary >= 0], minlength=len(names)) for primary in learned]
    sites: dict[str, str] = {}
    if SITE in recordings.columns:
        known = recordings.select("recording_id", pl.col(SITE).cast(pl.String)).drop_nulls()
        sites = dict(known.iter_rows())
    return PartFacts(
        taxa=taxonomy_names(recordings),
        sites=sites,
        num_learned=dict(zip(names, np.mean(counts, axis=0).tolist(), strict=True)),
        rare_below=rare_below,
    )


def problem_notes(labels: Sequence[str], problems: Sequence[str | None]) -> list[str]:
    """Returns a sentence for each kind of problem that classes have."""
    consequences = {
        NOT_HELD_OUT: "cannot be scored, since train_folds holds none of theirs out",
        ALWAYS: "cannot be scored, since every held-out recording has them",
        ONE_FOLD: "are in one fold alone, so none of theirs is learned from while they are scored",
    }
    notes = []
    for problem, consequence in consequences.items():
        names = [name for name, found in zip(labels, problems, strict=True) if found == problem]
        if names:
            notes.append(
                f"{len(names)} of {len(labels)} classes {consequence}: {shown_names(names)}"
            )
    return notes


def _group_notes(cells: pl.DataFrame, config: TrainingConfig) -> list[str]:
    folds_of_group = cells.group_by("group").agg(pl.col("place").n_unique())["place"]
    notes = [f"{len(cells):,} recordings in {len(folds_of_group):,} groups"]
    if torn := int((folds_of_group > 1).sum()):
        notes.append(
            f"{torn:,} groups (folds.group_by={config.folds.group_by}) are in more than one fold: "
            "what is held out there has been learned from in part; "
            "folds.cv=stratified_group keeps groups together"
        )
    return notes


def _counts(cells: pl.DataFrame, num_labels: int, num_folds: int) -> np.ndarray:
    """Counts recordings and groups, int64 [2, C + 1, F + 1]: of each class and fold, and totals."""
    label, place = pl.col("label"), pl.col("place")
    all_labels, all_folds = pl.lit(num_labels, pl.Int64), pl.lit(num_folds, pl.Int64)
    found = pl.concat(
        cells.select("group", row=row, column=column)
        for row in (label, all_labels)
        for column in (place, all_folds)
    )
    found = found.group_by("row", "column").agg(pl.len().cast(pl.Int64), pl.col("group").n_unique())
    counts = np.zeros((2, num_labels + 1, num_folds + 1), np.int64)
    row, column = found["row"].to_numpy(), found["column"].to_numpy()
    counts[:, row, column] = found["len"].to_numpy(), found["group"].to_numpy()
    return counts


def _runs(columns: Sequence[list[str]], size: int) -> Iterable[Sequence[list[str]]]:
    return (columns[start : start + size] for start in range(0, len(columns), size))
