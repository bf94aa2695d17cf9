"""Queries that people need, by name: `python -m tools.query --name loudest`."""

from dataclasses import dataclass

from storage.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedQuery:
    """SQL, its answer in words, and the columns of the recordings or the results that it needs."""

    sql: str
    answers: str
    columns: tuple[str, ...] = ()
    needs_experiment: bool = False


NAMED = {
    "labels": NamedQuery(
        answers="recordings, slices and minutes of each label",
        sql="SELECT primary_label, COUNT(*) AS recordings, SUM(num_slices) AS slices, "
        "SUM(duration_s) / 60 AS minutes FROM recordings GROUP BY primary_label "
        "ORDER BY recordings DESC, primary_label",
    ),
    "loudest": NamedQuery(
        answers="slices by level, the loudest first",
        sql="SELECT row, max_db, primary_label, start_s, recording_id FROM slices "
        "WHERE max_db IS NOT NULL ORDER BY max_db DESC, row",
    ),
    "liveliest": NamedQuery(
        answers="slices by the share of frames above their own background",
        sql="SELECT row, active_share, primary_label, start_s, recording_id FROM slices "
        "ORDER BY active_share DESC, row",
    ),
    "silent": NamedQuery(
        answers="slices in which nothing is heard",
        sql="SELECT row, primary_label, start_s, recording_id FROM slices WHERE silent "
        "ORDER BY row",
    ),
    "duplicates": NamedQuery(
        answers="recordings whose audio is stored under the id of another",
        sql="SELECT recording_id, primary_label, duplicate_of FROM duplicates "
        "ORDER BY duplicate_of, recording_id",
    ),
    "rejects": NamedQuery(
        answers="recordings that gave nothing, or a part only",
        sql="SELECT recording_id, partial, reason FROM rejects ORDER BY reason, recording_id",
    ),
    "hours": NamedQuery(
        answers="recordings and hours of each site and day",
        sql="SELECT site, date, COUNT(*) AS recordings, SUM(duration_s) / 3600 AS hours "
        "FROM recordings GROUP BY site, date ORDER BY site, date",
        columns=("site", "date"),
    ),
    "balance": NamedQuery(
        answers="recordings of each label in each fold",
        sql="SELECT label, fold, COUNT(*) AS recordings FROM oof_recordings "
        "GROUP BY label, fold ORDER BY label, fold",
        needs_experiment=True,
    ),
    "confused": NamedQuery(
        answers="recordings of one class that are predicted as another, by pair",
        sql="SELECT label, predicted, COUNT(*) AS recordings, AVG(score) AS score "
        "FROM oof_recordings WHERE label <> predicted GROUP BY label, predicted "
        "ORDER BY recordings DESC, score DESC",
        needs_experiment=True,
    ),
    "uncertain": NamedQuery(
        answers="slices by the margin between the two best classes",
        sql="SELECT row, margin, label, predicted, score, recording_id FROM oof "
        "ORDER BY margin, row",
        needs_experiment=True,
    ),
    "mislabelled": NamedQuery(
        answers="recordings whose label is probably wrong, by its loss",
        sql="SELECT recording_id, label, label_score, other, other_score, loss "
        "FROM oof_recordings WHERE loss IS NOT NULL ORDER BY loss DESC, recording_id",
        needs_experiment=True,
    ),
}


def find_named(name: str) -> NamedQuery:
    """The query of a name; ConfigError where there is none."""
    if name not in NAMED:
        raise ConfigError(f"there is no query {name!r}; there are {', '.join(NAMED)}")
    return NAMED[name]
