"""Probabilities and embeddings of slices, and the tables in which they are kept.

predictions = predict(model, reader, output="softmax")
oof_frame(predictions, recordings, labels, fold=0).write_parquet("oof.parquet")
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor

from datasets.augment.inject import joined
from datasets.batch import Batch
from datasets.labels import Labels
from datasets.slice_source import SOURCE, rows_in_source
from storage.encoding import to_unit
from training.model.config import GEOMETRIC, MEAN, SOFTMAX
from training.model.metrics import LEAST_PROBABILITY
from training.model.models import Classifier, probabilities
from training.runtime.ranks import gather_ranks

AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class Predictions(NamedTuple):
    """N slices in the order in which they were read."""

    rows: np.ndarray  # int64 [N]
    recording_no: np.ndarray  # int64 [N]
    probabilities: np.ndarray  # float32 [N, C]
    embeddings: np.ndarray  # float32 [N, E]


def predict(
    model: Classifier,
    batches: Iterable[Batch],
    *,
    output: str,
    device: torch.device | None = None,
    precision: str = "32-true",
    top_db: float = 80.0,
) -> Predictions:
    """Predicts all slices of a reader; targets are not needed. `top_db` as in the recipe.

    The model is moved to `device` and left in evaluation mode. Batches may be empty.
    """
    device = device or torch.device("cpu")
    model = model.to(device).eval()
    nothing, widths = np.empty(0, np.int64), (model.num_classes, model.embedding_size)
    parts = [Predictions(nothing, nothing, *(np.empty((0, n), np.float32) for n in widths))]
    for batch in batches:
        if not len(batch.rows):
            continue
        cells = cells_of(batch, device, top_db)
        found, embedding = predict_batch(model, cells, output=output, precision=precision)
        part = (batch.rows, batch.recording_no, found, embedding)
        parts.append(Predictions(*(values.cpu().numpy() for values in part)))
    return Predictions(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def cells_of(batch: Batch, device: torch.device, top_db: float) -> Tensor:
    """The cells of the samples of a batch as they are stored, on a device; chunks joined."""
    levels = None if batch.levels is None else batch.levels.to(device)
    return joined(batch.slices.to(device, non_blocking=True), levels, top_db)


def predict_batch(
    model: Classifier, slices: Tensor, *, output: str, precision: str
) -> tuple[Tensor, Tensor]:
    """Probabilities, float32 [B, C], and embeddings, float32 [B, E], of the cells of B slices.

    The model is in evaluation mode, and where the cells are. Training, its out-of-fold predictions
    and those of new recordings all come from here.
    """
    with torch.inference_mode(), autocast(slices.device, precision):
        logits, embedding = model(to_unit(slices))
        return probabilities(logits, output), embedding.float()


def predict_frames(model: Classifier, slices: Tensor, *, output: str, precision: str) -> Tensor:
    """Probabilities, float32 [B, T', C], of the frames of B slices, by a model that has frames."""
    with torch.inference_mode(), autocast(slices.device, precision):
        logits = model(to_unit(slices)).frame_logits
        if logits is None:
            raise ValueError("a model without a SED head has no frames")
        return probabilities(logits, output)


def gather_predictions(share: Predictions) -> Predictions:
    """The predictions of all ranks on each of them, sorted by row."""
    whole = [gather_ranks(torch.from_numpy(values)).numpy() for values in share]
    order = whole[0].argsort()  # rows
    return Predictions(*(values[order] for values in whole))


def pool_recordings(
    predictions: Predictions,
    pool: str = MEAN,
    *,
    output: str = SOFTMAX,
    weights: np.ndarray | None = None,
) -> Predictions:
    """One prediction per recording, of means over its slices; the row is that of its first slice.

    `weights` [N], positive, are of the slices in these means; None: all alike.
    `geometric` takes the mean of the logarithms of probabilities, and scales those of a softmax to
    a sum of one, which makes them the softmax of the mean logits: a slice that rules a class out
    counts for more than in the mean (logarithmic opinion pool; Genest and Zidek, 1986).
    """
    recording_no, first, place = np.unique(
        predictions.recording_no, return_index=True, return_inverse=True
    )
    weights = np.ones(len(place)) if weights is None else weights
    mass = np.bincount(place, weights)[:, None]

    def means(values: np.ndarray) -> np.ndarray:
        total = np.zeros((len(recording_no), values.shape[1]))
        np.add.at(total, place, values * weights[:, None])
        return (total / mass).astype(np.float32)

    if pool == GEOMETRIC:
        found = np.exp(means(np.log(predictions.probabilities.clip(LEAST_PROBABILITY))))
        if output == SOFTMAX:
            found /= found.sum(1, keepdims=True)
    else:
        found = means(predictions.probabilities)
    return Predictions(
        rows=predictions.rows[first],
        recording_no=recording_no,
        probabilities=found,
        embeddings=means(predictions.embeddings),
    )


def oof_frame(
    predictions: Predictions, recordings: pl.DataFrame, labels: Labels, *, fold: int
) -> pl.DataFrame:
    """recording_id, row, fold, target (labels, the primary first), and `p_<label>` per class.

    Of a mix, `row` is as each source itself counts, and the last column is `source`.
    """
    described = recordings.select("recording_id", pl.col(f"^{SOURCE}$"), target=target_lists())
    return described[predictions.recording_no].select(
        "recording_id",
        pl.Series("row", rows_in_source(predictions.rows)),
        pl.lit(fold, pl.Int64).alias("fold"),
        "target",
        *(
            pl.Series(f"p_{name}", predictions.probabilities[:, place])
            for place, name in enumerate(labels.names)
        ),
        pl.col(f"^{SOURCE}$"),
    )


def embedding_frame(
    predictions: Predictions, recordings: pl.DataFrame, *, fold: int
) -> pl.DataFrame:
    """row, recording_id, fold, embedding (list of float32); of a mix as in `oof_frame`."""
    return recordings[predictions.recording_no].select(
        pl.Series("row", rows_in_source(predictions.rows)),
        "recording_id",
        pl.lit(fold, pl.Int64).alias("fold"),
        pl.Series("embedding", predictions.embeddings).arr.to_list(),
        pl.col(f"^{SOURCE}$"),
    )


def target_lists() -> pl.Expr:
    """The labels of a recording as one list, the primary first, none twice."""
    rest = pl.col("secondary_labels").fill_null([]).list.filter(pl.element() != "")
    return pl.concat_list("primary_label", rest).list.unique(maintain_order=True)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Computes inside the block in what `precision`, in Lightning's words, stands for."""
    if precision not in AUTOCAST:
        return nullcontext()
    return torch.autocast(device.type, AUTOCAST[precision])
