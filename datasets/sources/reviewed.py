"""Verdicts of people as targets of slices (`sources.NAME.reviews`).

    reviewed = read_reviewed(mix.recordings(), specs, mix)
    recordings = reviewed.corrected(mix.recordings())
    targets, eligible = reviewed.apply(targets, labels, recordings, eligible)

Verdicts that the annotators agree on (`decided_labels`) count, by the rules of
`datasets.corrections`:
* A recording whose label is refused has its new label everywhere: in targets, classes, balance and
  scores. Without a new one it counts as a recording without a label.
* In a slice, a class that is there has target 1, one that is not there 0; all others stay. A class
  that is there takes the class without a call away.
* A slice that loses its last class is left out of training: nobody knows what is in it.
* Of a recording without a label those slices are learned from in which a class is there.

Labels of verdicts are classes where taxonomy.csv or the recordings of the training have them.
Shapes: R recordings, K slices with a verdict, V verdicts on classes of slices, C classes.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from datasets.corrections import judge, label_changes
from datasets.labels import Labels
from datasets.reviews import current_reviews, decided_labels, read_reviews
from datasets.sampling.epoch_plan import plan_all
from datasets.slice_source import ID_IN_SOURCE, SOURCE, SliceSource, ranges, row_bounds
from datasets.sources.mix import SourceSpec
from datasets.sources.segments import SegmentClasses, segment_classes, slice_ends
from datasets.targets import Targets
from storage.errors import ConfigError

MAX_SHOWN = 5
PRIMARY = "primary_label"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reviewed:
    """Verdicts on slices and recordings of all sources.

    rows int64 [K], increasing, recording_no int64 [K]. Verdicts: slice_V int64, a place in `rows`;
    label_V, a place in `labels`; present_V bool. `new_labels`: by line of the recordings, null for
    none. `names`: labels that become classes.
    """

    rows: np.ndarray
    recording_no: np.ndarray
    slice_V: np.ndarray
    label_V: np.ndarray
    present_V: np.ndarray
    labels: tuple[str, ...]
    new_labels: Mapping[int, str | None] = field(default_factory=dict)
    names: frozenset[str] = frozenset()

    @property
    def digest(self) -> str:
        """16 hex digits: blake2b of rows, verdicts and new labels; empty without any."""
        if not len(self.slice_V) and not self.new_labels:
            return ""
        hasher = hashlib.blake2b(digest_size=8)
        for array in (self.rows, self.slice_V, self.label_V, self.present_V):
            hasher.update(np.ascontiguousarray(array, "<i8").data)
        hasher.update(repr((self.labels, sorted(self.new_labels.items()))).encode())
        return hasher.hexdigest()

    def corrected(self, recordings: pl.DataFrame) -> pl.DataFrame:
        """The recordings with the new labels."""
        if not self.new_labels:
            return recordings
        labels = recordings[PRIMARY].to_list()
        for line, label in self.new_labels.items():
            labels[line] = label
        return recordings.with_columns(pl.Series(PRIMARY, labels, pl.String))

    def covers(self, recordings: pl.DataFrame) -> np.ndarray:
        """True for recordings with a slice in which a label is there, bool [R]."""
        covered_R = np.zeros(len(recordings), bool)
        covered_R[self.recording_no[self.slice_V[self.present_V]]] = True
        return covered_R

    def lost(self, recordings: pl.DataFrame) -> np.ndarray:
        """True for recordings whose label is refused, with none in its place, bool [R]."""
        lost_R = np.zeros(len(recordings), bool)
        lost_R[[line for line, label in self.new_labels.items() if label is None]] = True
        return lost_R

    def apply(
        self,
        targets: Targets,
        labels: Labels,
        recordings: pl.DataFrame,
        eligible: np.ndarray | None,
        no_call: str = "",
    ) -> tuple[Targets, np.ndarray | None]:
        """Targets with the verdicts, and the int64 rows to learn from; None: all.

        `recordings` with the labels that are learned; `eligible` are the rows before.
        """
        if not len(self.rows):
            return targets, eligible
        before_KC = targets.of(self.rows, self.recording_no)
        after_KC = self._with_verdicts(before_KC, labels, no_call)
        unlabelled_R = recordings[PRIMARY].is_null().to_numpy()
        own_K = targets.has_own(self.rows)
        alone_K = unlabelled_R[self.recording_no] & ~own_K  # known by verdicts alone
        was_empty_K = ~(before_KC > 0).any(1) & ~alone_K
        kept_K = (after_KC > 0).any(1) | was_empty_K
        alone_R = np.zeros(len(recordings), bool)
        alone_R[self.recording_no[alone_K]] = True
        changed = targets.replaced(self.rows[kept_K], after_KC[kept_K])
        if kept_K.all() and not alone_R.any() and eligible is None:
            return changed, None
        rows = plan_all(recordings).rows if eligible is None else eligible
        first_row, end_row = row_bounds(recordings.filter(alone_R))
        others = ranges(first_row, end_row - first_row)
        others = others[~targets.has_own(others)]
        left_out = np.union1d(others, self.rows[~kept_K])
        return changed, np.union1d(np.setdiff1d(rows, left_out), self.rows[kept_K])

    def _with_verdicts(self, before_KC: np.ndarray, labels: Labels, no_call: str) -> np.ndarray:
        """Targets float32 [K, C] with classes set to 1 or 0."""
        number = {name: place for place, name in enumerate(labels.names)}
        class_of_L = np.asarray([number.get(name, -1) for name in self.labels], np.int64)
        class_V = class_of_L[self.label_V]
        known_V = class_V >= 0
        after_KC = before_KC.copy()
        if no_call:
            calls_V = known_V & self.present_V & (class_V != number[no_call])
            after_KC[self.slice_V[calls_V], number[no_call]] = 0
        after_KC[self.slice_V[known_V], class_V[known_V]] = self.present_V[known_V]
        return after_KC


def read_reviewed(
    recordings: pl.DataFrame, specs: Mapping[str, SourceSpec], source: SliceSource
) -> Reviewed:
    """Reads the reviews that specs name; `recordings` are all of the mix, `source` is the mix.

    Raises ConfigError where there are none of that name, or all are of other recordings.
    """
    given = {name: spec.reviews for name, spec in specs.items() if spec.reviews}
    frames: list[pl.DataFrame] = []
    new_labels: dict[int, str | None] = {}
    if not given:
        return _judged(frames, recordings.clear(), source, new_labels, frozenset())
    guests = [name for name, spec in specs.items() if spec.is_guest]
    known = segment_classes(source, recordings.filter(~pl.col(SOURCE).is_in(guests)))
    for name, paths in given.items():
        inside = recordings.with_row_index("line").filter(pl.col(SOURCE) == name)
        decided = _decided(f"sources.{name}.reviews", paths, inside, known)
        frames.append(decided)
        line_of = dict(inside.select("recording_id", "line").iter_rows())
        changes = label_changes(decided, inside)
        pairs = changes.select("recording_id", "corrected_label").iter_rows()
        new_labels |= {line_of[recording_id]: label for recording_id, label in pairs}
        logger.info(
            f"sources.{name}.reviews: {len(decided):,} decided labels of "
            f"{decided['recording_id'].n_unique():,} recordings; {len(changes):,} have another "
            "label now"
        )
    return _judged(frames, recordings, source, new_labels, frozenset(known.classes))


def _decided(
    key: str, paths: Sequence[str], recordings: pl.DataFrame, known: SegmentClasses
) -> pl.DataFrame:
    """The decided labels of one source, by the ids of the mix; names become labels."""
    decided = decided_labels(current_reviews(read_reviews(*map(Path, paths))))
    own = recordings["recording_id"]
    if ID_IN_SOURCE in recordings.columns:
        own = recordings.select(pl.coalesce(ID_IN_SOURCE, "recording_id")).to_series()
    id_of = dict(zip(own, recordings["recording_id"], strict=True))
    named = pl.col("recording_id").replace_strict(id_of, default=None, return_dtype=pl.String)
    found = decided.with_columns(named).drop_nulls("recording_id")
    if len(decided) and found.is_empty():
        raise ConfigError(
            f"{key}={','.join(paths)}: none of {len(decided)} decided labels is of the "
            f"{len(recordings)} recordings of the source; such as {decided['recording_id'][0]} "
            f"there, {own[0]} here"
        )
    if len(found) < len(decided):
        logger.info(f"{key}: {len(decided) - len(found)} decided labels are of other recordings")
    labels = pl.Series("label", [known.label(name) for name in found["label"]], pl.String)
    unknown = sorted(set(labels) - set(known.classes))
    if unknown:
        logger.info(
            f"{key}: {len(unknown)} labels are neither in taxonomy.csv nor those of recordings, "
            f"and no class unless labels.classes names them: {', '.join(unknown[:MAX_SHOWN])}"
        )
    return found.with_columns(labels)


def _by_recording(
    frames: Sequence[pl.DataFrame], source: SliceSource
) -> Iterator[tuple[str, pl.DataFrame, pl.DataFrame]]:
    """Yields the recordings with verdicts: id, decided labels, and row and start of its slices."""
    decided = pl.concat(frames) if frames else pl.DataFrame()
    if decided.is_empty():
        return
    ids = decided["recording_id"].unique().implode()
    index = source.slice_index().filter(pl.col("recording_id").is_in(ids))
    slices = index.select("recording_id", "row", "start_s").partition_by(
        "recording_id", as_dict=True
    )
    for (recording_id,), own in decided.group_by("recording_id", maintain_order=True):
        if (recording_id,) in slices:
            yield str(recording_id), own, slices[(recording_id,)]


def _judged(
    frames: Sequence[pl.DataFrame],
    recordings: pl.DataFrame,
    source: SliceSource,
    new_labels: Mapping[int, str | None],
    classes: frozenset[str],
) -> Reviewed:
    """Verdicts on slices; labels by place in all of them, sorted."""
    labels = tuple(sorted({label for frame in frames for label in frame["label"]}))
    place_of = {label: place for place, label in enumerate(labels)}
    line_of = {name: line for line, name in enumerate(recordings["recording_id"])}
    found: list[tuple[int, int, int, bool]] = []  # row, line, label, present
    for recording_id, decided, slices in _by_recording(frames, source):
        line = line_of[recording_id]
        start_K = slices["start_s"].to_numpy()
        end_K = slice_ends(start_K, source.recipe.slice_s, recordings["duration_s"][line])
        judged = judge(start_K, end_K, decided)
        rows = slices["row"].to_numpy()
        for present, cells_KL in ((True, judged.present_KL), (False, judged.absent_KL)):
            found += [
                (int(rows[k]), line, place_of[judged.labels[one]], present)
                for k, one in np.argwhere(cells_KL).tolist()
            ]
    columns = np.asarray(sorted(found), np.int64).reshape(-1, 4)
    rows, first, slice_V = np.unique(columns[:, 0], return_index=True, return_inverse=True)
    return Reviewed(
        rows=rows,
        recording_no=columns[first, 1],
        slice_V=slice_V.reshape(-1).astype(np.int64),
        label_V=columns[:, 2],
        present_V=columns[:, 3].astype(bool),
        labels=labels,
        new_labels=new_labels,
        names=frozenset(labels[place] for place in set(columns[columns[:, 3] == 1, 2].tolist()))
        & classes,
    )
