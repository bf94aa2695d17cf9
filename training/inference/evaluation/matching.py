"""Matches annotations to predictions: files to recordings, times to windows.

A window is positive for a label if its overlap with an annotation of it is at least
`min_overlap_s`, or half the annotation where that is less. An annotation without times is of all
windows of its recording; one of no length is of the windows that contain it. Of recordings that no
annotation names nothing is known: they are left out.

Shapes: A annotations of a recording.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from datasets.annotations import match_files
from storage.errors import ConfigError
from training.inference.class_table import labels_by_name
from training.inference.evaluation.annotations import Annotations
from training.inference.predictions import ClassTable

MAX_SHOWN = 5
ROUNDING_S = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matched:
    """Windows of annotated recordings with the column `target`, and sentences on the rest.

    `target` lists the labels of a window, the one of the largest overlap first; labels that are no
    class are left out.
    """

    windows: pl.DataFrame
    notes: tuple[str, ...]


def match_annotations(
    windows: pl.DataFrame, annotations: Annotations, classes: ClassTable, min_overlap_s: float
) -> Matched:
    """Gives windows (recording_id, start_s, end_s, ...) the labels of their annotations.

    Raises ConfigError where no annotated file is among the recordings, and no label a class.
    """
    recordings = windows["recording_id"].unique(maintain_order=True).to_list()
    files = annotations.table["file"].unique(maintain_order=True).to_list()
    found = match_files(files, recordings)
    if not found:
        raise ConfigError(
            f"none of the {len(files)} files in {annotations.where} is among the "
            f"{len(recordings)} recordings of the predictions: {_shown(files)} there, "
            f"{_shown(recordings)} here"
        )
    labels, others = _to_classes(annotations.table["label"], classes)
    if others and not labels.count():
        raise ConfigError(
            f"none of the labels in {annotations.where} is a class of the predictions: "
            f"{_shown(list(others))} there, {_shown(classes.labels)} here: give evaluate.taxonomy "
            "with their names, or rename them"
        )
    named = annotations.table.with_columns(
        pl.col("file").replace_strict(found, default=None).alias("recording_id"), labels
    ).drop_nulls("recording_id")
    groups = named.group_by("recording_id", maintain_order=True)
    by_recording = {str(key): part for (key,), part in groups}
    targets: list[list[str]] = []
    num_outside, parts = 0, []
    for (recording_id,), part in windows.group_by("recording_id", maintain_order=True):
        if (given := by_recording.get(str(recording_id))) is None:
            continue
        lists, outside = window_targets(part, given.drop_nulls("label"), min_overlap_s)
        targets += lists
        num_outside += outside
        parts.append(part)
    target = pl.Series("target", targets, dtype=pl.List(pl.String))
    notes = [*_file_notes(files, recordings, found, annotations.where)]
    notes += _label_notes(others)
    if num_outside:
        notes.append(f"annotations in no window, after the last one or in a gap: {num_outside}")
    return Matched(windows=pl.concat(parts).with_columns(target), notes=tuple(notes))


def _to_classes(names: pl.Series, classes: ClassTable) -> tuple[pl.Series, Counter[str]]:
    """The labels of the classes that names mean, null for others, which are counted."""
    known = labels_by_name(classes)
    labels = [known.get(name.casefold()) if name else None for name in names]
    pairs = zip(names, labels, strict=True)
    others = Counter(name for name, label in pairs if name and label is None)
    return pl.Series("label", labels, dtype=pl.String), others


def window_targets(
    windows: pl.DataFrame, annotations: pl.DataFrame, min_overlap_s: float
) -> tuple[list[list[str]], int]:
    """Labels of the windows of one recording, and the number of annotations in no window."""
    start_A = annotations["start_s"].fill_null(-np.inf).to_numpy()
    stop_A = annotations["end_s"].fill_null(np.inf).to_numpy()
    length_A = stop_A - start_A
    # sums of decimal fractions: 0.5 s may be 0.4999999999
    needed_A = np.minimum(min_overlap_s, length_A / 2) - ROUNDING_S
    labels = annotations["label"].to_list()
    targets = []
    used_A = np.zeros(len(labels), bool)
    for begin, end in windows.select("start_s", "end_s").iter_rows():
        overlap_A = np.minimum(end, stop_A) - np.maximum(begin, start_A)
        moment_A = (length_A == 0) & (begin <= start_A) & (start_A < end)
        positive_A = ((overlap_A >= needed_A) & (overlap_A > 0)) | moment_A
        used_A |= positive_A
        places = np.flatnonzero(positive_A)
        order = places[np.argsort(-overlap_A[places], kind="stable")]
        targets.append(list(dict.fromkeys(labels[at] for at in order)))
    return targets, int((~used_A).sum())


def _file_notes(
    files: Sequence[str], recordings: Sequence[str], found: dict[str, str], where: str
) -> list[str]:
    notes = []
    lost = [file for file in files if file not in found]
    if lost:
        notes.append(
            f"{len(lost)} of {len(files)} files in {where} have no predictions: {_shown(lost)}"
        )
    annotated = set(found.values())
    unknown = [name for name in recordings if name not in annotated]
    if unknown:
        notes.append(
            f"{len(unknown)} of {len(recordings)} recordings have no annotation and are left out: "
            f"{_shown(unknown)}"
        )
    return notes


def _shown(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > MAX_SHOWN else ""
    return ", ".join(names[:MAX_SHOWN]) + more


def _label_notes(unknown: Counter[str]) -> list[str]:
    if not unknown:
        return []
    counted = [f"{name} ({count})" for name, count in unknown.most_common()]
    return [f"labels in the annotations that are no class here: {len(unknown)}, {_shown(counted)}"]
