"""Decided verdicts on slices, windows and recordings: what they say of a label, and a train.csv.

    decided = decided_labels(current_reviews(read_reviews(Path("reviews"))))
    changes = label_changes(decided, store.recordings())
    corrected_train_csv(read_train_csv(Path("train.csv")), decided, store.recordings())

The rules, by times, so that slices and windows may be of other lengths than what was shown:
* A verdict that a label is there holds for a slice if it has at least half of the shorter of the
  two; one that it is not there, if it has at least half of the slice. Where both hold, it is there.
* The label of a recording is refused if such verdicts cover at least half of the recording and none
  says that it is there. In its place comes the label that is there for the longest time, or none.

Shapes: K slices of a recording, A decided labels of it, L labels.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from datasets.annotations import match_files, without_ending
from storage.errors import ConfigError
from storage.source.cells import tidy, tidy_label
from storage.source.csv_text import read_csv
from storage.source.label_lists import parse_labels

PRIMARY, FILENAME = "primary_label", "filename"
ROUNDING_S = 1e-9  # sums of decimal fractions: 2.5 s may be 2.4999999999
CHANGES = pl.Schema(
    {
        "recording_id": pl.String,
        FILENAME: pl.String,
        PRIMARY: pl.String,
        "corrected_label": pl.String,
    }
)

Span = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """Labels of K slices that were judged: present_KL and absent_KL bool, never both."""

    labels: tuple[str, ...]
    present_KL: np.ndarray
    absent_KL: np.ndarray


def judge(start_K: np.ndarray, end_K: np.ndarray, decided: pl.DataFrame) -> Judged:
    """Applies the decided labels of one recording to slices that begin and end at these times, s.

    `decided`: start_s, end_s, label, present, as of `decided_labels`.
    """
    start_A, end_A = (decided[name].to_numpy() for name in ("start_s", "end_s"))
    overlap_KA = np.minimum(end_K[:, None], end_A) - np.maximum(start_K[:, None], start_A)
    half_slice_KA = np.broadcast_to((end_K - start_K)[:, None] / 2 - ROUNDING_S, overlap_KA.shape)
    half_shorter_KA = np.minimum(half_slice_KA, (end_A - start_A) / 2 - ROUNDING_S)
    there_A = decided["present"].to_numpy().astype(bool)
    needed_KA = np.where(there_A, half_shorter_KA, half_slice_KA)
    holds_KA = (overlap_KA >= needed_KA) & (overlap_KA > 0)
    labels = tuple(sorted(set(decided["label"])))
    is_label_AL = decided["label"].to_numpy()[:, None] == np.asarray(labels, object)
    present_KL = (holds_KA & there_A) @ is_label_AL
    absent_KL = (holds_KA & ~there_A) @ is_label_AL
    return Judged(labels=labels, present_KL=present_KL, absent_KL=absent_KL & ~present_KL)


def label_changes(decided: pl.DataFrame, recordings: pl.DataFrame) -> pl.DataFrame:
    """Recordings whose label is refused: recording_id, filename, primary_label, corrected_label.

    `recordings` as those of a store. A null `corrected_label`: nothing is known in its place.
    """
    ids = decided["recording_id"].unique().implode()
    known = recordings.filter(
        pl.col("recording_id").is_in(ids) & pl.col(PRIMARY).is_not_null()
    ).select("recording_id", FILENAME, PRIMARY, "duration_s")
    by_id = decided.partition_by("recording_id", as_dict=True)
    rows = []
    for recording_id, filename, label, duration_s in known.iter_rows():
        own = by_id[(recording_id,)]
        if _is_refused(own, label, duration_s):
            rows.append((recording_id, filename, label, _longest(own)))
    return pl.DataFrame(rows, schema=CHANGES, orient="row")


def corrected_recordings(recordings: pl.DataFrame, decided: pl.DataFrame) -> pl.DataFrame:
    """The recordings of a store with the labels of `label_changes`, in their order.

    Those whose label is refused without another in its place are left out.
    """
    changes = label_changes(decided, recordings).select("recording_id", "corrected_label")
    new = dict(changes.iter_rows())
    changed = pl.col("recording_id").is_in(list(new))
    label = pl.col("recording_id").replace_strict(new, default=None, return_dtype=pl.String)
    corrected = recordings.with_columns(
        pl.when(changed).then(label).otherwise(PRIMARY).alias(PRIMARY)
    )
    return corrected.filter(~changed | pl.col(PRIMARY).is_not_null())


def _is_refused(decided: pl.DataFrame, label: str, duration_s: float | None) -> bool:
    on_label = decided.filter(pl.col("label") == label)
    if duration_s is None or on_label.is_empty() or on_label["present"].any():
        return False
    refused_s = _covered_s(on_label.select("start_s", "end_s").iter_rows(), duration_s)
    return 2 * refused_s >= duration_s - ROUNDING_S


def _longest(decided: pl.DataFrame) -> str | None:
    """The label that is there for the longest time, of several the first one; None without any."""
    there = decided.filter("present")
    spans: dict[str, list[Span]] = {}
    for label, start_s, end_s in there.select("label", "start_s", "end_s").iter_rows():
        spans.setdefault(label, []).append((start_s, end_s))
    ranked = sorted((-_covered_s(own), min(own)[0], label) for label, own in spans.items())
    return ranked[0][2] if ranked else None


def _covered_s(spans: Iterable[Span], duration_s: float = np.inf) -> float:
    """Time that spans cover together, up to the end of the recording."""
    total_s, reached_s = 0.0, 0.0
    for start_s, end_s in sorted(spans):
        begin_s, stop_s = max(start_s, reached_s), min(end_s, duration_s)
        total_s += max(0.0, stop_s - begin_s)
        reached_s = max(reached_s, stop_s)
    return total_s


def read_train_csv(path: Path) -> pl.DataFrame:
    """Reads a csv of recordings with every cell as it is written; ConfigError where it is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}: give a train.csv") from error
    columns = read_csv(data, str(path)).columns
    if missing := [name for name in (FILENAME, PRIMARY) if name not in columns]:
        raise ConfigError(f"{path} lacks the columns {' and '.join(missing)}: give a train.csv")
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))


def corrected_train_csv(
    train_csv: pl.DataFrame, decided: pl.DataFrame, recordings: pl.DataFrame
) -> pl.DataFrame:
    """A train.csv with the labels of `label_changes`: same columns, same rows, in their order.

    A label that is refused without another in its place becomes an empty cell. `recordings` are
    those of the store that was reviewed. Raises ConfigError where a recording with a new label is
    not in the csv.
    """
    changes = label_changes(decided, recordings)
    names = [tidy(name) for name in train_csv[FILENAME]]
    found = _files_of(names, changes[FILENAME])
    lost = [name for name in changes[FILENAME] if name not in set(found.values())]
    if lost:
        raise ConfigError(
            f"{len(lost)} recordings with a new label are not in the csv, such as {lost[0]}: give "
            "the one by which the store was built"
        )
    new = {
        filename: (label, corrected or "") for _, filename, label, corrected in changes.iter_rows()
    }
    cells = [
        _replaced(cell, *new[found[name]]) if name in found else cell
        for name, cell in zip(names, train_csv[PRIMARY], strict=True)
    ]
    return train_csv.with_columns(pl.Series(PRIMARY, cells, pl.String))


def _files_of(names: Sequence[str], files: pl.Series) -> dict[str, str]:
    """The file of the store for each name in a csv that is one of those."""
    by_stem = {without_ending(file): file for file in files}
    exact = {name: name for name in set(names) & set(files)}
    left = [name for name in names if name not in exact]
    free = [stem for stem, file in by_stem.items() if file not in exact]
    return exact | {name: by_stem[stem] for name, stem in match_files(left, free).items()}


def _replaced(cell: str, old: str, new: str) -> str:
    """A cell of primary labels with one of them replaced; others in it stay."""
    if tidy_label(cell) == old:
        return new
    labels = parse_labels(cell)
    if old not in labels:
        return cell
    replaced = [new if label == old else label for label in labels]
    return ";".join(dict.fromkeys(label for label in replaced if label))
