"""Sections on a store: counts, classes, levels, what was rejected, samples of each class."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from storage.read.pictures.thumbnails import thumbnail_webp
from storage.store import Store
from training.inference.queries.tables import taxonomy
from training.inference.report.page import (
    Part,
    heading,
    histogram,
    paragraph,
    picture,
    table,
)

SAMPLES = 3  # spectrograms of a class
SIZE = (156, 64)  # of a spectrogram, pixels
MAX_LINES = 400  # of a table
FEW = 5  # recordings of a class


def store_parts(store: Store, *, byte_budget: int) -> Iterator[Part]:
    """Yields the sections of a store; sample spectrograms take at most `byte_budget` bytes."""
    yield Part(name="counts", title="Recordings and slices", html=_counts(store))
    yield Part(name="classes", title="Classes", html=_classes(store))
    yield Part(name="levels", title="Levels and activity", html=_levels(store))
    yield Part(name="rejects", title="Rejected and duplicate recordings", html=_rejects(store))
    yield Part(name="samples", title="Samples", html=_samples(store, byte_budget))


def spectrogram(cells_MT: np.ndarray, text: str, caption: str) -> str:
    """A small spectrogram with a caption."""
    data = thumbnail_webp(cells_MT, SIZE)
    return picture(data, "webp", f"spectrogram of {text}", caption=caption, width=SIZE[0])


def _counts(store: Store) -> str:
    recordings, recipe = store.recordings(), store.recipe
    hours = float(recordings["duration_s"].sum() or 0) / 3600
    facts = {
        "recordings with slices": len(recordings),
        "slices": len(store),
        "hours": hours,
        "classes": recordings["primary_label"].drop_nulls().n_unique(),
        "rejected, whole or in part": len(store.rejects()),
        "duplicates": len(store.duplicates()),
        "slice": f"{recipe.slice_s:g} s every {recipe.slice_step_s:g} s",
        "mel bands, frames": f"{recipe.n_mels} x {recipe.num_frames}, {recipe.fmin_hz:g} to "
        f"{recipe.fmax_hz:g} Hz, {recipe.encoding}",
    }
    rows = [{"": name, "value": _text(value)} for name, value in facts.items()]
    durations = histogram(recordings["duration_s"].to_numpy(), "duration of recordings", "s")
    sources = [
        heading(name.replace("_", " ")) + table(_counted(recordings, name), bar="recordings")
        for name in ("collection", "class_name", "site")
        if name in recordings.columns
    ]
    return table(rows) + durations + "".join(sources)


def _text(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else _decimal(value)


def _decimal(value: object) -> str:
    return f"{value:,.2f}" if isinstance(value, float) else str(value)


def _counted(recordings: pl.DataFrame, column: str) -> list[dict[str, object]]:
    counts = recordings.group_by(column).agg(recordings=pl.len())
    return counts.sort("recordings", column, descending=[True, False]).head(40).to_dicts()


def _classes(store: Store) -> str:
    minutes = (
        store.recordings()
        .group_by("primary_label")
        .agg(slices=pl.col("num_slices").sum(), minutes=pl.col("duration_s").sum() / 60)
    )
    every = taxonomy(store).join(minutes, on="primary_label", how="left")
    rows = every.sort("recordings", "primary_label", descending=[True, False]).to_dicts()
    few = sum(row["recordings"] < FEW for row in rows)
    rare = f"; {few:,} have fewer than {FEW} recordings: too few for as many folds" if few else ""
    note = paragraph(f"{len(rows):,} classes{rare}.")
    return note + table(rows[:MAX_LINES], bar="recordings") + _more(len(rows))


def _more(count: int) -> str:
    return paragraph(f"and {count - MAX_LINES:,} more.") if count > MAX_LINES else ""


def _levels(store: Store) -> str:
    index = store.slice_index()
    charts = [
        histogram(index[name].drop_nulls().to_numpy(), title, unit)
        for name, title, unit in (
            ("max_db", "level of the loudest cell", "dB re full scale"),
            ("mean_db", "mean level", "dB re full scale"),
            ("active_share", "share of frames above the background", ""),
            ("centroid_hz", "spectral centroid", "Hz"),
        )
        if name in index.columns
    ]
    silent = int(index["silent"].sum() or 0)
    return paragraph(f"{silent:,} of {len(index):,} slices are silent.") + "".join(charts)


def _rejects(store: Store) -> str:
    rejects = store.rejects()
    rows = [
        {
            "recording": row["recording_id"] or row["filename"],
            "stored in part": row["partial"],
            "reason, and what to do": row["reason"],
        }
        for row in rejects.head(MAX_LINES).iter_rows(named=True)
    ]
    duplicates = store.duplicates().select("recording_id", "primary_label", "duplicate_of")
    return (
        heading("Rejected")
        + table(rows)
        + _more(len(rejects))
        + heading("Duplicates: equal sound, stored once")
        + table(duplicates.head(MAX_LINES).to_dicts())
        + _more(len(duplicates))
    )


def _samples(store: Store, byte_budget: int) -> str:
    """The liveliest slices of each class, of different recordings where there are several."""
    index = store.slice_table().select(
        "row", "recording_id", "start_s", "active_share", "primary_label"
    )
    best = (
        index.collect()
        .sort("active_share", "row", descending=[True, False])
        .unique("recording_id", keep="first", maintain_order=True)
        .group_by("primary_label", maintain_order=True)
        .head(SAMPLES)
        .sort("primary_label", "row", nulls_last=True)
    )
    shown, left = [], byte_budget
    for (label,), slices in best.group_by("primary_label", maintain_order=True):
        title = "without a label" if label is None else str(label)
        figures = [
            spectrogram(cells, f"{title}, {name}", f"{name} at {start_s:.1f} s")
            for cells, name, start_s in zip(
                store.slices(slices), slices["recording_id"], slices["start_s"], strict=True
            )
        ]
        html = heading(title) + "".join(figures)
        left -= len(html)
        if left < 0:
            shown.append(paragraph("Further classes are left out: the file would be too large."))
            break
        shown.append(html)
    note = paragraph(f"The liveliest slice of up to {SAMPLES} recordings of each class.")
    return note + "".join(shown)
