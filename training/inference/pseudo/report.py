"""Report of a round: mass and counts of each class, and agreement with the round before.

Shapes: N slices, C classes.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from training.inference.post.ranks import rank_in
from training.inference.pseudo.given import GivenTargets
from training.inference.pseudo.pool import PoolTargets

HALF = 0.5
MAX_CLASSES = 20  # lines of the printed table


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Comparison with the round before, over the slices that both have.

    `top_1`: share of them with the same highest class. `rank_correlation`: mean over classes of
    Spearman's, of the classes that vary in both. `mass_change`: (sum of all targets now - then) /
    then.
    """

    num_slices: int
    top_1: float
    rank_correlation: float
    mass_change: float

    def says_stop(self, *, agreement: float, mass: float) -> bool:
        """True where another round would change little."""
        return self.num_slices > 0 and self.top_1 >= agreement and abs(self.mass_change) <= mass


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundReport:
    """Facts on a round; `classes` has label, mass, slices (p >= 0.5), top (slices), recordings."""

    num_recordings: int
    num_slices: int
    num_left_out: int
    mass: float
    classes: pl.DataFrame
    agreement: Agreement | None

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        values = {name: getattr(self, name) for name in ("num_recordings", "num_slices", "mass")}
        values["num_left_out"] = self.num_left_out
        values["classes"] = self.classes.to_dicts()
        values["agreement"] = asdict(self.agreement) if self.agreement else None
        return values

    def lines(self) -> list[str]:
        """Sentences for a terminal, without the table of classes."""
        per_slice = self.mass / max(1, self.num_slices)
        found = [
            f"{self.num_slices:,} slices of {self.num_recordings:,} recordings have targets, "
            f"{self.num_left_out:,} are left out; mass {self.mass:,.1f}, {per_slice:.2f} a slice"
        ]
        if self.agreement:
            one = self.agreement
            found.append(
                f"round before: {one.num_slices:,} slices in common, top class equal in "
                f"{one.top_1:.3f}, rank correlation {one.rank_correlation:.3f}, mass "
                f"{one.mass_change:+.1%}"
            )
        return found

    def table(self) -> list[tuple[str, ...]]:
        """The classes of the largest mass as cells of a table, with a header."""
        largest = self.classes.sort("mass", descending=True).head(MAX_CLASSES)
        rows = [
            (row[0], f"{row[1]:.1f}", *(f"{value:,}" for value in row[2:]))
            for row in largest.iter_rows()
        ]
        return [("class", "mass", "p >= 0.5", "top", "recordings"), *rows]


def report_round(
    pool: PoolTargets, num_before: int, before: GivenTargets | None = None
) -> RoundReport:
    """Counts the targets of a round; `num_before`: slices before the transform."""
    values_NC = pool.values_NC
    top_N = values_NC.argmax(axis=1) if values_NC.size else np.zeros(len(pool), np.int64)
    is_any_N = values_NC.max(axis=1, initial=0) > 0
    tops = np.bincount(top_N[is_any_N], minlength=len(pool.labels))
    _, maxima_RC = pool.maxima()
    classes = pl.DataFrame(
        {
            "label": list(pool.labels),
            "mass": values_NC.sum(axis=0, dtype=np.float64),
            "slices": (values_NC >= HALF).sum(axis=0),
            "top": tops[: len(pool.labels)],
            "recordings": (maxima_RC >= HALF).sum(axis=0),
        }
    )
    return RoundReport(
        num_recordings=len(maxima_RC),
        num_slices=len(pool),
        num_left_out=num_before - len(pool),
        mass=float(values_NC.sum(dtype=np.float64)),
        classes=classes,
        agreement=compare(pool, before) if before is not None else None,
    )


def compare(pool: PoolTargets, before: GivenTargets) -> Agreement:
    """Compares targets with those of the round before, by slice and class."""
    then_NC, known_N = before.of(pool.row_N, pool.labels)
    now_NC, then_NC = pool.values_NC[known_N], then_NC[known_N]
    if not len(now_NC):
        return Agreement(num_slices=0, top_1=0.0, rank_correlation=0.0, mass_change=0.0)
    mass, mass_then = (float(values.sum(dtype=np.float64)) for values in (now_NC, then_NC))
    return Agreement(
        num_slices=len(now_NC),
        top_1=float((now_NC.argmax(axis=1) == then_NC.argmax(axis=1)).mean()),
        rank_correlation=rank_correlation(now_NC, then_NC),
        mass_change=(mass - mass_then) / max(mass_then, 1e-9),
    )


def rank_correlation(one_NC: np.ndarray, other_NC: np.ndarray) -> float:
    """Mean of Spearman's rank correlation over the classes that vary in both; 0 without any."""
    ranks = [rank_in(values, np.sort(values, axis=0)) for values in (one_NC, other_NC)]
    centred = [rank - rank.mean(axis=0) for rank in ranks]
    spread = [np.sqrt((rank**2).sum(axis=0)) for rank in centred]
    varies = (spread[0] > 0) & (spread[1] > 0)
    if not varies.any():
        return 0.0
    products = (centred[0] * centred[1]).sum(axis=0)
    return float((products[varies] / (spread[0] * spread[1])[varies]).mean())
