"""Encodings: normalised values <-> stored cells. Normalised is (dB + top_db) / top_db, in [0, 1].

dB are relative to the slice maximum or, with `recipe.normaliser` log, to `recipe.ceiling_db`.

An encoding is one entry in ENCODINGS, by the name of its cell type on disk. uint8 keeps 256 steps:
80 / 255 dB each, an error of at most 0.157 dB at the default range.
"""

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor  # readers want `to_unit` without torch's seconds of import

ENCODINGS = {"uint8": 255, "float16": 1, "float32": 1}  # name -> the cell that stands for 1.0

Cells = TypeVar("Cells", np.ndarray, "Tensor")


def encode(db_MT: "Tensor", *, top_db: float, dtype: "np.dtype[Any]") -> np.ndarray:
    """Encodes dB relative to the slice maximum, in [-top_db, 0], as cells [M, T]."""
    return quantise((db_MT * (1 / top_db)).add_(1).numpy(), dtype)


def quantise(unit: np.ndarray, dtype: "np.dtype[Any]") -> np.ndarray:
    """Cells of a type from normalised float32 values, which are lost."""
    if (top := ENCODINGS[dtype.name]) != 1:
        np.multiply(unit, top, out=unit)
        np.round(unit, out=unit)
    return unit.astype(dtype)


def to_unit(cells: Cells) -> Cells:
    """Normalised values, float32 in [0, 1], of cells of any encoding: numpy arrays or tensors."""
    if isinstance(cells, np.ndarray):
        top, values = ENCODINGS[cells.dtype.name], cells.astype(np.float32)
    else:
        top, values = ENCODINGS[str(cells.dtype).removeprefix("torch.")], cells.float()
    return values if top == 1 else values / top


def decibels(cells: np.ndarray, top_db: float) -> np.ndarray:
    """dB relative to the slice maximum, float32, from cells of any encoding."""
    return to_unit(cells) * np.float32(top_db) - np.float32(top_db)
