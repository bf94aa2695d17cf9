"""Recordings of equal bytes share their labels: the one that keeps the slices has those of all."""

from dataclasses import replace

import polars as pl

from storage.source.table import Source


def with_shared_labels(source: Source, probed: pl.DataFrame) -> Source:
    """A source whose copies, by `content_hash`, have the labels of each other as secondary ones.

    `disputed` then names those that are under several primary labels.
    """
    usable = probed.filter(pl.col("reason").is_null() & pl.col("problem").is_null())
    usable = usable.filter(usable["content_hash"].is_duplicated())
    groups = usable.group_by("content_hash", maintain_order=True).agg(
        "recording_id", "primary_label", "secondary_labels"
    )
    second: dict[str, list[str]] = {}
    disputed = []
    for _, ids, primary, secondary in groups.iter_rows():
        labels = dict.fromkeys([*primary, *(label for one in secondary for label in one or ())])
        for recording_id, own, known in zip(ids, primary, secondary, strict=True):
            others = [label for label in labels if label not in (None, own, *known)]
            if others:
                second[recording_id] = [*known, *others]
        different = [label for label in dict.fromkeys(primary) if label is not None]
        if len(different) > 1:
            disputed.append(f"{', '.join(ids)} are the same bytes as {' and '.join(different)}")
    if not second:
        return source
    return replace(
        source,
        recordings=_with_secondary(source.recordings, second),
        metadata=_with_secondary(source.metadata, second),
        disputed=(*source.disputed, *disputed),
    )


def _with_secondary(recordings: pl.DataFrame, second: dict[str, list[str]]) -> pl.DataFrame:
    rows = recordings.select("recording_id", "secondary_labels").iter_rows()
    labels = [second.get(recording_id, known) for recording_id, known in rows]
    column = pl.Series("secondary_labels", labels, pl.List(pl.String))
    return pl.DataFrame({one.name: one for one in (*recordings.get_columns(), column)})
