"""Hard targets of slices from tables of labelled segments (`sources.NAME.segments`).

    filename,start,end,labels          as BirdCLEF 2026 labels soundscapes; times in s or hh:mm:ss
    a.ogg,00:00:05,00:00:10,wren;tit   rows that are repeated count once

The rules:
* A segment covers a slice if it has at least half of the shorter of the two, up to the end of the
  recording. A slice has the labels of all segments that cover it.
* A segment without labels covers too: nothing calls there. A row without times is of the whole
  recording.
* Slices that no segment covers are dropped, or, with `segments_missing=negative`, have no label
  where no label touches them, in recordings that the table names. Recordings that it does not name
  are never learned from.

Shapes: K slices and A segments of a recording.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from datasets.annotations import AnnotationTables, Row, match_files, without_ending
from datasets.labels import taxonomy_names
from datasets.slice_source import ID_IN_SOURCE, SliceSource, source_classes
from datasets.targets import SoftSlices, SoftTable
from storage.errors import ConfigError
from storage.objects.urls import is_remote

SLICES_AT_ONCE = 4096  # compared with all segments of their recording
MAX_SHOWN = 5
ROUNDING_S = 1e-9  # sums of decimal fractions: 2.5 s may be 2.4999999999
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentClasses:
    """Labels that are classes anyway, and what else they are called, lower case."""

    classes: tuple[str, ...]
    label_of: Mapping[str, str] = field(default_factory=dict)

    def label(self, name: str) -> str:
        """The label that a name in a table means; the name itself where it means none."""
        return self.label_of.get(name.casefold(), name)


def segment_classes(source: SliceSource, recordings: pl.DataFrame) -> SegmentClasses:
    """The classes of taxonomy.csv and of recordings; names that two of them share mean none."""
    classes = tuple(sorted({*source_classes(source), *recordings["primary_label"].drop_nulls()}))
    found: dict[str, set[str]] = {}
    for label, names in taxonomy_names(recordings).items():
        for column in ("common_name", "scientific_name"):
            if column in names:
                found.setdefault(names[column].casefold(), set()).add(label)
    label_of = {name: labels.pop() for name, labels in found.items() if len(labels) == 1}
    return SegmentClasses(
        classes=classes, label_of={**label_of, **{label.casefold(): label for label in classes}}
    )


def read_segments(
    key: str,
    path: str,
    recordings: pl.DataFrame,
    source: SliceSource,
    known: SegmentClasses,
    *,
    negative: bool = False,
) -> tuple[SoftTable, SoftSlices]:
    """Reads the table of one source: targets, 0 or 1, and the slices of `recordings` with them.

    Raises ConfigError, naming the config key, where it is no such table, or names none of the
    recordings.
    """
    rows = pl.DataFrame(
        _read_rows(key, path, known),
        schema={"file": pl.String, "start_s": pl.Float64, "end_s": pl.Float64, "label": pl.String},
        orient="row",
    ).unique(maintain_order=True)
    rows = _with_recordings(rows, recordings, key, path)
    labels = [None if one is None else known.label(one) for one in rows["label"]]
    rows = rows.with_columns(pl.Series("label", labels, pl.String))
    _note_unknown(rows["label"], known, path)
    names = tuple(sorted(rows["label"].drop_nulls().unique()))
    found = _covered_slices(rows, names, recordings, source, negative)
    lines: dict[tuple[int, ...], int] = {}
    line = [lines.setdefault(positive, len(lines)) for _, positive in found]
    values = np.zeros((len(lines), len(names)), np.float32)
    for positive, number in lines.items():
        values[number, list(positive)] = 1
    table = SoftTable(path=path, keys=pl.DataFrame(), number=None, names=names, values=values)
    slices = SoftSlices(
        rows=np.asarray([row for row, _ in found], np.int64), line=np.asarray(line, np.int32)
    )
    if not len(slices.rows):
        raise ConfigError(
            f"{key}={path}: its segments cover no slice: are its times of other recordings?"
        )
    return table, slices


def _read_rows(key: str, path: str, known: SegmentClasses) -> list[Row]:
    if is_remote(path):
        raise ConfigError(f"{key}={path} must be a file or folder of this machine: fetch it first")
    tables = AnnotationTables(key=key, known=known.classes)
    rows = tables.read_folder(Path(path)) if Path(path).is_dir() else tables.read_file(Path(path))
    if not rows:
        raise ConfigError(
            f"{key}={path} has no segments: give a csv of filename, start, end and labels, or "
            "selection tables of Raven"
        )
    return rows


def _with_recordings(
    rows: pl.DataFrame, recordings: pl.DataFrame, key: str, path: str
) -> pl.DataFrame:
    """Adds the recording_id of each row, by filename or id; rows of other files are left out."""
    ids = recordings["recording_id"]
    own = ids
    if ID_IN_SOURCE in recordings.columns:
        own = recordings.select(pl.coalesce(ID_IN_SOURCE, "recording_id")).to_series()
    by_id = dict(zip(own, ids, strict=True))
    stems = [without_ending(name) for name in recordings["filename"]]
    once = {name for name, count in Counter(stems).items() if count == 1}
    by_name = {name: found for name, found in zip(stems, ids, strict=True) if name in once}
    files = rows["file"].unique(maintain_order=True).to_list()
    found = {file: by_id[own_id] for file, own_id in match_files(files, list(by_id)).items()}
    found |= {file: by_name[name] for file, name in match_files(files, list(by_name)).items()}
    if not found:
        raise ConfigError(
            f"{key}={path}: none of its {len(files)} files, such as {files[0]}, is one of the "
            f"{len(recordings)} recordings of the source, such as {recordings['filename'][0]}"
        )
    lost = [file for file in files if file not in found]
    if lost:
        logger.info(
            f"{path}: {len(lost)} of {len(files)} files are no recordings of the source: "
            f"{', '.join(lost[:MAX_SHOWN])}{', ...' if len(lost) > MAX_SHOWN else ''}"
        )
    named = pl.col("file").replace_strict(found, default=None, return_dtype=pl.String)
    return rows.with_columns(named.alias("recording_id")).drop_nulls("recording_id")


def _note_unknown(labels: pl.Series, known: SegmentClasses, path: str) -> None:
    """Says which labels are no class, unless labels.classes= names them."""
    unknown = Counter(label for label in labels if label and label not in known.classes)
    if unknown:
        shown = ", ".join(f"{label} ({count})" for label, count in unknown.most_common(MAX_SHOWN))
        logger.info(
            f"{path}: {len(unknown)} labels are neither in taxonomy.csv nor those of recordings, "
            f"and no class unless labels.classes names them: {shown}"
        )


def _covered_slices(
    rows: pl.DataFrame,
    names: tuple[str, ...],
    recordings: pl.DataFrame,
    source: SliceSource,
    negative: bool,
) -> list[tuple[int, tuple[int, ...]]]:
    """Rows of the slices with a target, increasing, each with the numbers of its labels."""
    numbers = {name: number for number, name in enumerate(names)}
    slice_s = source.recipe.slice_s
    duration_s = dict(recordings.select("recording_id", "duration_s").iter_rows())
    ids = rows["recording_id"].unique().implode()
    index = source.slice_index().filter(pl.col("recording_id").is_in(ids))
    by_id = index.select("recording_id", "row", "start_s").partition_by(
        "recording_id", as_dict=True
    )
    found: list[tuple[int, tuple[int, ...]]] = []
    for (recording_id,), segments in rows.group_by("recording_id", maintain_order=True):
        slices = by_id.get((recording_id,))
        if slices is None:
            continue
        label_A = [-1 if one is None else numbers[one] for one in segments["label"]]
        for part in slices.iter_slices(SLICES_AT_ONCE):
            end_K = slice_ends(part["start_s"].to_numpy(), slice_s, duration_s[recording_id])
            targets = cover(part["start_s"].to_numpy(), end_K, segments, label_A, negative)
            found += [(row, one) for row, one in zip(part["row"], targets, strict=True)
                      if one is not None]  # fmt: skip
    return sorted(found)


def slice_ends(start_K: np.ndarray, slice_s: float, duration_s: float | None) -> np.ndarray:
    """Ends of slices, s, float64 [K]: the last one ends with its recording, without the padding."""
    end_K = start_K + slice_s
    inside_K = start_K < (duration_s or 0)
    return np.where(inside_K, np.minimum(end_K, duration_s or 0), end_K)


def cover(
    start_K: np.ndarray,
    end_K: np.ndarray,
    segments: pl.DataFrame,
    label_A: list[int],
    negative: bool,
) -> list[tuple[int, ...] | None]:
    """The sorted label numbers of each slice by the rules above; None for those without a target.

    `segments`: start_s and end_s, null for the whole recording; label_A: -1 where there is none.
    """
    start_A = segments["start_s"].fill_null(-np.inf).to_numpy()
    end_A = segments["end_s"].fill_null(np.inf).to_numpy()
    labels_A = np.asarray(label_A, np.int64)
    length_A = end_A - start_A
    overlap_KA = np.minimum(end_K[:, None], end_A) - np.maximum(start_K[:, None], start_A)
    needed_KA = np.minimum((end_K - start_K)[:, None], length_A) / 2 - ROUNDING_S
    moment_KA = (length_A == 0) & (start_K[:, None] <= start_A) & (start_A < end_K[:, None])
    covers_KA = ((overlap_KA >= needed_KA) & (overlap_KA > 0)) | moment_KA
    touched_K = ((overlap_KA > ROUNDING_S) & (labels_A >= 0)).any(axis=1)
    covered_K = covers_KA.any(axis=1)
    if negative:
        covered_K |= ~touched_K
    positive_KA = covers_KA & (labels_A >= 0)
    return [
        tuple(np.unique(labels_A[positive]).tolist()) if covered else None
        for positive, covered in zip(positive_KA, covered_K.tolist(), strict=True)
    ]
