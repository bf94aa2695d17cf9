"""Out-of-fold labelling: a teacher does not label recordings of the pool that it has learned from.

    seen = seen_recordings(checkpoint_config, store)   # bool [R]
    raw = without_seen(results.iterate, seen_BR, recordings)

A teacher has learned from a recording if a source of its training (the config in its checkpoint) is
this store, and the targets or segments of that source have the recording; without either, all
recordings of the source count. A file of targets that is gone counts as one of all recordings. Of
teachers without a config, such as ONNX files, nothing is known, and they label everything.

Shapes: R recordings of the pool, B teachers.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from datasets.randomness import random_bits, recording_keys
from storage.errors import ConfigError, StoreError
from storage.objects.urls import is_remote
from storage.store import Store, open_store
from training.inference.model_files import CHECKPOINT, ModelFiles
from training.inference.post.blend import WEIGHTS, BlendConfig
from training.inference.pseudo.given import open_given
from training.inference.results import RawPredictions
from training.model.pretrained import KEY
from training.model.torch_files import read_torch

RawRun = Callable[[], Iterable[RawPredictions]]
logger = logging.getLogger(__name__)


def pool_folds(recordings: pl.DataFrame, num_folds: int) -> np.ndarray:
    """Returns the fold of each recording, int64 [R], by its id alone; 0 without folds."""
    bits = random_bits(recording_keys(recordings), seed=0, epoch=0, purpose="pool folds")
    return (bits % np.uint64(max(1, num_folds))).astype(np.int64)


def one_teacher_each(models: Sequence[ModelFiles]) -> list[ModelFiles]:
    """Takes experiments apart, so that each file is a branch of its own."""
    return [
        ModelFiles(
            name=f"{one.name}/{file.stem}" if len(one.files) > 1 else one.name, files=(file,)
        )
        for one in models
        for file in one.files
    ]


def split_weights(blend: BlendConfig, models: Sequence[ModelFiles]) -> BlendConfig:
    """The weights of a blend for the files of each model: its own weight, shared by them."""
    counts = [len(one.files) for one in models]

    def shared(weights: Sequence[float]) -> list[float]:
        if len(weights) != len(counts):  # the blend says what is wrong
            return list(weights)
        pairs = zip(weights, counts, strict=True)
        return [weight / count for weight, count in pairs for _ in range(count)]

    given = blend.weights or ([1.0] * len(counts) if max(counts) > 1 else [])
    by_class = [{**entry, WEIGHTS: shared(entry[WEIGHTS])} for entry in blend.class_weights]
    return replace(blend, weights=shared(given) if given else [], class_weights=by_class)


def seen_by(models: Sequence[ModelFiles], pool: Store) -> np.ndarray:
    """Returns the recordings that each model, of one file, has learned from, bool [B, R]."""
    found = [
        seen_recordings(_config_of(one.files[0]), pool)
        if one.files[0].suffix == CHECKPOINT
        else np.zeros(len(pool.recordings()), bool)
        for one in models
    ]
    return np.stack(found)


def seen_recordings(config: Mapping[str, Any], pool: Store) -> np.ndarray:
    """Returns the recordings of the pool that a training of this config learned from, bool [R]."""
    recordings = pool.recordings()
    seen = np.zeros(len(recordings), bool)
    for values in (config.get("sources") or {}).values():
        if not _is_pool(values.get("store") or "", pool):
            continue
        path = values.get("targets") or values.get("segments") or ""
        if not path:
            seen[:] = True
            continue
        if not Path(path).exists():
            logger.info(f"{path} is gone: its teacher counts as one that saw all recordings")
            seen[:] = True
            continue
        rows = open_given(path, pool, (), key=f"sources: {path}").rows
        first_row = recordings["first_row"].to_numpy()
        seen[np.unique(np.searchsorted(first_row, rows, side="right") - 1)] = True
        seen |= values.get("segments_missing") == "negative"
    return seen


def check_seen(seen_BR: np.ndarray, recordings: pl.DataFrame, branches: Sequence[str]) -> None:
    """Raises ConfigError where all teachers have learned from a recording."""
    all_R = np.asarray(seen_BR.all(axis=0))
    if all_R.any():
        first = recordings["recording_id"].filter(pl.Series(all_R))[0]
        raise ConfigError(
            f"{int(all_R.sum()):,} of {len(all_R):,} recordings of the pool, such as {first}, were "
            f"learned from by all teachers ({', '.join(branches)}): give teachers that were "
            "trained without them (pseudo.folds= writes the targets for that), or set "
            "pseudo.seen=drop or pseudo.seen=allow"
        )


def without_seen(raw: RawRun, seen_BR: np.ndarray, recordings: pl.DataFrame) -> RawRun:
    """The run with NaN where a teacher has learned from a recording."""
    line_of = {name: line for line, name in enumerate(recordings["recording_id"])}

    def iterate() -> Iterator[RawPredictions]:
        for one in raw():
            seen_B = seen_BR[:, line_of[one.recording.recording_id]]
            hidden = np.where(seen_B[:, None, None], np.float32(np.nan), one.probabilities)
            yield replace(one, probabilities=hidden)

    return iterate


def _config_of(file: Path) -> Mapping[str, Any]:
    """The training config in a checkpoint, plain values; empty where it has none."""
    checkpoint = read_torch(file)
    contents = checkpoint.get(KEY) if isinstance(checkpoint, dict) else None
    config = contents.get("config") if isinstance(contents, dict) else None
    return config if isinstance(config, dict) else {}


def _is_pool(url: str, pool: Store) -> bool:
    """True where a source of a training is the pool, by its path or by its identity."""
    if not url:
        return False
    is_local = not is_remote(url) and not is_remote(pool.url)
    if is_local and Path(url).resolve() == Path(pool.url).resolve():
        return True
    try:
        with open_store(url, pool.remote) as other:
            return other.store_id == pool.store_id
    except (StoreError, ConfigError):  # it has gone since
        return False
