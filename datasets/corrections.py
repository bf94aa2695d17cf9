"""Labels of recordings, corrected by the verdicts that people agree on.

    corrected_recordings(store.recordings(), decided_labels(current_reviews(read_reviews(folder))))

A primary label is wrong where it was judged, and heard in none of the slices judged. The label that
is heard instead, in the most slices, takes its place; where nobody has named one, the recording is
left out. A recording without a label gets one that is heard. Other labels that are heard are added to the secondary ones, and those that were judged
and heard nowhere are taken from them.
"""

import polars as pl

PRIMARY, SECONDARY, ID = "primary_label", "secondary_labels", "recording_id"


def corrected_recordings(recordings: pl.DataFrame, decided: pl.DataFrame) -> pl.DataFrame:
    """The recordings, in their order, less those whose label is refused and none is heard instead.

    `decided` are decisions as `decided_labels` gives them.
    """
    heard: dict[str, dict[str, int]] = {}  # by recording: the number of slices of each label
    names = decided[ID, "label", "present"]
    for recording_id, label, present in names.iter_rows():
        slices = heard.setdefault(recording_id, {})
        slices[label] = slices.get(label, 0) + int(present)
    rows = [
        _corrected(primary, list(secondary or []), heard.get(recording_id, {}))
        for recording_id, primary, secondary in recordings.select(
            ID, PRIMARY, SECONDARY
        ).iter_rows()
    ]
    labels = pl.DataFrame(
        {
            PRIMARY: [primary for primary, _, _ in rows],
            SECONDARY: [secondary for _, secondary, _ in rows],
            "kept": [kept for _, _, kept in rows],
        },
        schema={PRIMARY: pl.String, SECONDARY: pl.List(pl.String), "kept": pl.Boolean},
    )
    corrected = recordings.with_columns(labels[PRIMARY], labels[SECONDARY])
    return corrected.filter(labels["kept"])


def _corrected(
    primary: str | None, secondary: list[str], slices: dict[str, int]
) -> tuple[str | None, list[str], bool]:
    """The labels of a recording, and False where it is left out."""
    present = sorted((label for label in slices if slices[label]), key=lambda one: -slices[one])
    if primary is None or slices.get(primary) == 0:
        if not present:
            return primary, secondary, primary is None
        primary = present[0]
    others = [label for label in (*secondary, *present) if label and slices.get(label, 1)]
    return primary, [label for label in dict.fromkeys(others) if label != primary], True
