"""Scores of parts of the held-out recordings: rare classes, taxa, sites.

    table = score_parts(pl.read_parquet(preds / "oof_recordings.parquet"), about, 0.5)
    table.write_csv(preds / "parts.csv")
    print(describe_parts(table))

A part of the classes (a taxon; the rare ones) has ROC-AUC and cmAP over its classes and all
recordings, and KL and accuracies over the recordings with a primary label of it, among all classes.
A part of the recordings (a site) has all scores over its recordings. One mean over all classes
hides a site or a taxon on which a model fails.

Shapes: N recordings, C classes.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from storage.source.recorder_names import SITE
from training.experiments.report import Held, format_table
from training.model.metrics import METRICS, TITLES, ScoredSlices, Scores, score_cells

TAXA = ("class_name", "order", "family", "genus")
SCIENTIFIC_NAME, GENUS = "scientific_name", "genus"
ALL, RARE = "all", "rare"
MAX_SHOWN = 4  # parts of one kind that are printed, those of the most recordings
NAME_WIDTH = 24
SCHEMA = {
    "kind": pl.String,
    "name": pl.String,
    "recordings": pl.Int64,
    "classes": pl.Int64,
    **dict.fromkeys(METRICS, pl.Float64),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFacts:
    """Facts by which recordings are parted.

    `taxa`: names of each label by column, as `taxonomy_names` gives them. `sites` by recording_id.
    `num_learned`: recordings of each label that a fold learns from, the mean over folds; a class
    with fewer than `rare_below` is rare.
    """

    taxa: Mapping[str, Mapping[str, str]]
    sites: Mapping[str, str]
    num_learned: Mapping[str, float]
    rare_below: int


def score_parts(frame: pl.DataFrame, about: PartFacts, secondary_weight: float) -> pl.DataFrame:
    """One line per part with the columns of SCHEMA; a score that is not defined is null.

    `classes` counts those with a ROC-AUC: with and without it there is a recording. Kinds with one
    part alone are left out, as that part is all.
    """
    held = Held.of(frame, secondary_weight)
    everyone = np.arange(len(frame))
    lines = [_line(ALL, ALL, _score_recordings(held, everyone))]
    for kind, members in _class_parts(held.labels.names, about):
        lines += [_line(kind, name, _score_classes(held, of)) for name, of in members.items()]
    sites = [about.sites.get(name, "") for name in frame["recording_id"]]
    lines += [
        _line(SITE, site, _score_recordings(held, np.flatnonzero(np.array(sites) == site)))
        for site in sorted({*sites} - {""})
    ]
    return pl.DataFrame(lines, SCHEMA).with_columns(pl.col(list(METRICS)).fill_nan(None))


def describe_parts(table: pl.DataFrame) -> str:
    """Formats the parts, of each kind those with the most recordings; empty without any."""
    parts = table.filter(pl.col("kind") != ALL)
    if parts.is_empty():
        return ""
    shown, notes = [table.filter(kind=ALL)], []
    for (kind,), of_kind in parts.group_by("kind", maintain_order=True):
        shown.append(of_kind.sort("recordings", descending=True, maintain_order=True)[:MAX_SHOWN])
        if len(of_kind) > MAX_SHOWN:
            notes.append(f"{kind}: {len(of_kind)} parts, {MAX_SHOWN} shown, all in parts.csv")
    lines = [
        (
            _short(row["name"] if row["kind"] in (ALL, RARE) else f"{row['kind']} {row['name']}"),
            str(row["recordings"]),
            str(row["classes"]),
            *score_cells(row),
        )
        for row in pl.concat(shown).iter_rows(named=True)
    ]
    return "\n".join([format_table(("", "rec.", "classes", *TITLES), lines, num_totals=0), *notes])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    num_recordings: int
    num_classes: int
    scores: Scores


def _class_parts(
    labels: Collection[str], about: PartFacts
) -> Iterator[tuple[str, dict[str, set[str]]]]:
    """Yields each kind of parts with two or more, and the labels of each part."""
    rare = {label for label in labels if about.num_learned.get(label, 0.0) < about.rare_below}
    rarity = {f"rare, below {about.rare_below}": rare, "not rare": {*labels} - rare}
    kinds = {RARE: {name: members for name, members in rarity.items() if members}}
    for column in TAXA:
        members: dict[str, set[str]] = {}
        for label in labels:
            if taxon := _taxon(about.taxa.get(label, {}), column):
                members.setdefault(taxon, set()).add(label)
        kinds[column] = dict(sorted(members.items()))
    yield from ((kind, members) for kind, members in kinds.items() if len(members) > 1)


def _taxon(names: Mapping[str, str], column: str) -> str:
    """A label's taxon; the genus is also the first word of two in a scientific name."""
    if column == GENUS and GENUS not in names:
        first, _, rest = names.get(SCIENTIFIC_NAME, "").strip().partition(" ")
        return first if rest else ""
    return names.get(column, "").strip()


def _score_classes(held: Held, labels: set[str]) -> _Part:
    """Scores some classes: over all recordings, or over theirs where a metric needs a label."""
    places = [place for place, label in enumerate(held.labels.names) if label in labels]
    whole = held.truth.slices(held.probabilities_NC, np.arange(len(held.probabilities_NC)))
    own_N = np.isin(whole.primary_N, places)
    own = ScoredSlices(*(values[own_N] for values in whole))
    columns = whole._replace(
        positives_NC=whole.positives_NC[:, places],
        probabilities_NC=whole.probabilities_NC[:, places],
    )
    scores = {
        key: metric.compute(own if metric.needs_label else columns)
        for key, metric in METRICS.items()
    }
    return _Part(
        num_recordings=int(own_N.sum()),
        num_classes=_num_scored(columns.positives_NC),
        scores=scores,
    )


def _score_recordings(held: Held, number_N: np.ndarray) -> _Part:
    """Scores some recordings, by their numbers."""
    return _Part(
        num_recordings=len(number_N),
        num_classes=_num_scored(held.truth.positives_RC[number_N]),
        scores=held.truth.score(held.probabilities_NC[number_N], number_N),
    )


def _num_scored(positives_NC: np.ndarray) -> int:
    """Counts classes that some recordings have and others lack."""
    return int((positives_NC.any(0) & ~positives_NC.all(0)).sum())


def _line(kind: str, name: str, part: _Part) -> dict[str, Any]:
    counts = {"recordings": part.num_recordings, "classes": part.num_classes}
    scores = {key: part.scores.get(key, math.nan) for key in METRICS}
    return {"kind": kind, "name": name, **counts, **scores}


def _short(name: str) -> str:
    return name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 3]}..."
