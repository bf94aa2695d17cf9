"""Share of slices whose nearest neighbour has the same label: how well an embedding sorts."""

from dataclasses import dataclass

import numpy as np

BLOCK = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Slices with a neighbour of another group, and how many share its label."""

    same: int
    compared: int

    @property
    def share(self) -> float:
        """Share of the same label; NaN where none was compared."""
        return self.same / self.compared if self.compared else float("nan")


def nearest_neighbours(unit_NE: np.ndarray, group_N: np.ndarray) -> np.ndarray:
    """The nearest other line of unit vectors that is not of the same group, int64 [N]; else -1."""
    nearest_N = np.empty(len(unit_NE), np.int64)
    for start in range(0, len(unit_NE), BLOCK):
        block = slice(start, start + BLOCK)
        similar_BN = unit_NE[block] @ unit_NE.T
        similar_BN[group_N[block, None] == group_N] = -np.inf
        best_B = similar_BN.argmax(axis=1)
        found_B = np.isfinite(similar_BN[np.arange(len(best_B)), best_B])
        nearest_N[block] = np.where(found_B, best_B, -1)
    return nearest_N


def label_agreement(
    unit_NE: np.ndarray, group_N: np.ndarray, label_N: np.ndarray, asked_N: np.ndarray | None = None
) -> Agreement:
    """Compares the label of each line, int64 [N], -1: none, with that of its nearest neighbour.

    `asked_N`: bool, the lines that are compared; all by default. Neighbours are any.
    """
    counts_N = label_N >= 0
    asked_N = counts_N if asked_N is None else counts_N & asked_N
    unit_NE, group_N, label_N = unit_NE[counts_N], group_N[counts_N], label_N[counts_N]
    nearest_N = nearest_neighbours(unit_NE, group_N)
    there_N = (nearest_N >= 0) & asked_N[counts_N]
    same_N = label_N[nearest_N] == label_N
    return Agreement(same=int((same_N & there_N).sum()), compared=int(there_N.sum()))
