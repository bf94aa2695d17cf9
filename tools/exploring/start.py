"""Start config of the page: counts, recipe, columns, and what is possible."""

import getpass
from pathlib import Path
from typing import Any

from storage.objects.urls import is_remote
from storage.read.pictures.thumbnails import COLOUR_MAPS
from tools.exploring.guard import MAX_UPLOAD
from tools.exploring.parameters import MAX_PAGE
from tools.exploring.row_routes import facet_names, range_names
from training.inference.exploring.exploration import Exploration
from training.inference.exploring.frame import kind_of
from training.inference.exploring.nearness.neighbours import MAX_UPLOAD_S
from training.inference.exploring.pictures import MAX_TILES, band_centres
from training.inference.exploring.reviewing.queues import ORDERS, SITES
from training.inference.exploring.view import (
    CLASS,
    MISLABELLED,
    QUERY,
    RANDOM,
    ROW,
    SIMILARITY,
    TARGET,
    WRONG,
)
from training.inference.similarity.config import NONE, RECORDING

API = 1
MOST_SHARED = 0.5  # of the recordings that may have values of their own in a column left out


def start_config(exploration: Exploration) -> dict[str, Any]:
    """The start config, as JSON."""
    frame, inputs = exploration.frame, exploration.inputs
    columns = {name: kind_of(dtype) for name, dtype in frame.columns.items()}
    return {
        "api": API,
        **_store(exploration),
        "columns": [{"name": name, "kind": kind} for name, kind in columns.items()],
        "facets": facet_names(exploration),
        "ranges": range_names(exploration),
        "sorts": _sorts(exploration),
        "experiment": inputs.query.experiment or None,
        "compare": inputs.compare or None,
        "detections": None if exploration.detections is None else len(exploration.detections),
        "model": inputs.query.experiment or inputs.query.predictions,
        "scored": [] if exploration.scores is None else list(exploration.scores.labels),
        "embeddings": inputs.embeddings.similar.by,
        "can_upload": not inputs.embeddings.similar.is_table,
        "map": True,
        "map_columns": [name for name, kind in columns.items() if kind != "list"],
        "leave_out": _leave_out(exploration),
        **_audio(exploration),
        "colours": list(COLOUR_MAPS),
        "queues": {"of": exploration.queues.kinds(), "orders": _orders(exploration)},
        "annotator": _login(),
        "max_page": MAX_PAGE,
        "max_sheet": MAX_TILES,
        "max_upload_bytes": MAX_UPLOAD,
        "max_upload_s": MAX_UPLOAD_S,
    }


def _store(exploration: Exploration) -> dict[str, Any]:
    store, recipe = exploration.store, exploration.store.recipe
    recordings = store.recordings()
    return {
        "store": store.url,
        "store_id": store.store_id,
        "num_slices": len(exploration.frame),
        "num_recordings": len(recordings),
        "num_classes": recordings["primary_label"].drop_nulls().n_unique(),
        "hours": float(recordings["duration_s"].sum() or 0) / 3600,
        "slice_s": recipe.slice_s,
        "slice_step_s": recipe.slice_step_s,
        "sample_rate_hz": recipe.sample_rate_hz,
        "shape": list(recipe.slice_shape),
        "fmin_hz": recipe.fmin_hz,
        "fmax_hz": recipe.fmax_hz,
        "bands_hz": band_centres(recipe),
        "frame_s": recipe.hop / recipe.sample_rate_hz,
        "top_db": recipe.top_db,
    }


def _sorts(exploration: Exploration) -> list[str]:
    sorts = [ROW, *range_names(exploration), RANDOM, SIMILARITY, QUERY]
    if exploration.scores is not None:
        sorts += [CLASS, TARGET, WRONG, MISLABELLED]
    return sorts


def _orders(exploration: Exploration) -> list[str]:
    columns = [*exploration.frame.columns]
    if exploration.detections is not None:
        columns += exploration.detections.facts.columns
    has_sites = "site" in columns or "date" in columns
    return [order for order in ORDERS if order != SITES or has_sites]


def _leave_out(exploration: Exploration) -> list[str]:
    """Columns of the recordings whose values several of them share."""
    recordings = exploration.store.recordings()
    shared = [
        name
        for name in ("author", "site", "date", "fold", "collection", "primary_label")
        if name in recordings.columns
        and recordings[name].n_unique() <= 1 + MOST_SHARED * len(recordings)
    ]
    return [RECORDING, NONE, *shared]


def _audio(exploration: Exploration) -> dict[str, Any]:
    root = exploration.inputs.embeddings.source.root
    is_there = is_remote(root) or Path(root).is_dir()
    reason = "" if is_there else f"there is no folder source.root={root}: give that of the build"
    return {"audio": is_there, "audio_reason": reason}


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return ""
