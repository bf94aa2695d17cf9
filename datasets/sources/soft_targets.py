"""Targets of slices of the sources of a training: reads their files and checks coverage.

Soft targets (`sources.NAME.targets`) and labelled segments (`sources.NAME.segments`) alike.

    soft = read_soft_sources(mix.recordings(), specs, mix)
    targets = soft.targets(labels.targets(recordings, 0.5), labels)
    EpochPlanner(recordings, config, seed=7, eligible=soft.eligible)

Shapes: R recordings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from datasets.labels import Labels
from datasets.sampling.epoch_plan import plan_all
from datasets.slice_source import SOURCE, SliceSource
from datasets.sources.mix import DROP, NEGATIVE, SourceSpec
from datasets.sources.segments import read_segments, segment_classes
from datasets.targets import SoftSlices, SoftTable, Targets, match_slices, read_soft_table
from storage.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SoftSources:
    """Soft targets of all sources: tables with their slices.

    covered_R bool: recordings with a target for at least one slice. `eligible` int64: the rows
    to learn from where slices without are dropped, else None. `names`: classes that the files have
    columns for; of the labels of segments those that taxonomy.csv has.
    """

    files: tuple[tuple[SoftTable, SoftSlices], ...]
    covered_R: np.ndarray
    eligible: np.ndarray | None
    names: frozenset[str] = frozenset()

    def targets(
        self,
        hard: np.ndarray,
        labels: Labels,
        others: Sequence[tuple[np.ndarray, SoftSlices]] = (),
        no_call: str = "",
    ) -> Targets:
        """Returns the targets of all slices; `hard` float32 [R, C] where no file has any.

        `others` are values with their slices, which count where no file has the slice; `no_call`
        is the class of slices in which nothing calls.
        """
        files = [(table.values_of(labels), slices) for table, slices in self.files]
        known = np.concatenate([np.empty(0, np.int64), *(slices.rows for _, slices in files)])
        others = [(values, slices.but(known)) for values, slices in others]
        number = labels.names.index(no_call) if no_call else None
        return Targets(hard, [*files, *others], no_call=number)


def read_soft_sources(
    recordings: pl.DataFrame, specs: Mapping[str, SourceSpec], source: SliceSource | None = None
) -> SoftSources:
    """Reads the files that specs name; `recordings` are all of the mix, `source` is the mix itself.

    Raises ConfigError where a file is invalid, does not match, or lacks slices against the rule.
    """
    files: list[tuple[SoftTable, SoftSlices]] = []
    names: set[str] = set()
    covered_R, dropping_R = np.zeros(len(recordings), bool), np.zeros(len(recordings), bool)
    for name, spec in specs.items():
        if not spec.targets and not spec.segments:
            continue
        inside_R = (recordings[SOURCE] == name).to_numpy()
        inside = recordings.filter(inside_R)
        if spec.targets:
            table = read_soft_table(spec.targets)
            slices = match_slices(table, inside)
            names |= set(table.names)
        else:
            table, slices, classes = _segments(recordings, specs, name, source)
            names |= set(table.names) & classes
        counts = slices.counts(inside)
        if spec.segments or spec.missing_targets == DROP:
            dropping_R |= inside_R
        else:
            _check_complete(inside, counts, name, spec)
        covered_R[inside_R] = counts > 0
        files.append((table, slices))
    eligible = None
    if dropping_R.any():
        others = plan_all(recordings.filter(~dropping_R)).rows
        eligible = np.union1d(others, np.concatenate([slices.rows for _, slices in files]))
    return SoftSources(
        files=tuple(files), covered_R=covered_R, eligible=eligible, names=frozenset(names)
    )


def _segments(
    recordings: pl.DataFrame,
    specs: Mapping[str, SourceSpec],
    name: str,
    source: SliceSource | None,
) -> tuple[SoftTable, SoftSlices, set[str]]:
    """Targets of a source with labelled segments, their slices, and all classes that are known."""
    if source is None:
        raise ValueError("segments need the source, for the times of its slices")
    guests = [other for other, one in specs.items() if one.is_guest]
    known = segment_classes(source, recordings.filter(~pl.col(SOURCE).is_in(guests)))
    table, slices = read_segments(
        f"sources.{name}.segments",
        specs[name].segments,
        recordings.filter(pl.col(SOURCE) == name),
        source,
        known,
        negative=specs[name].segments_missing == NEGATIVE,
    )
    return table, slices, set(known.classes)


def _check_complete(
    recordings: pl.DataFrame, counts: np.ndarray, name: str, spec: SourceSpec
) -> None:
    missing = recordings["num_slices"].to_numpy() - counts
    if missing.any():
        first = recordings["recording_id"][int(np.argmax(missing > 0))]
        raise ConfigError(
            f"targets {spec.targets} lack {missing.sum():,} of {recordings['num_slices'].sum():,} "
            f"slices of source {name}, in {(missing > 0).sum():,} recordings such as {first}: set "
            f"sources.{name}.missing_targets=drop to learn from the others alone"
        )
