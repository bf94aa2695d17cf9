"""Spreading over a genus, a class of animals or another column of the taxonomy."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from storage.errors import ConfigError
from storage.options import check_between, check_choice
from training.inference.post.step import GENUS, Step, hint, taxon
from training.inference.predictions import ClassTable, WindowPredictions

MEAN, MAX = "mean", "max"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread(Step):
    """Share of the relatives: p = min(1, p + w mean(p of the class's group)), or max.

    `by`: column of the taxonomy that makes the groups; a class without an entry is its own group.
    First place of BirdCLEF 2026: genus 0.15, class 0.05.
    """

    by: str = GENUS
    how: str = MEAN
    weight: float = 0.15

    def __post_init__(self) -> None:
        check_between(self, "post: spread", 0, 1, "weight")
        check_choice(self, "post: spread", "how", (MEAN, MAX))

    def prepare(self, run: Iterable[WindowPredictions], classes: ClassTable) -> list[np.ndarray]:
        """Lists the places of the classes of each group with two or more."""
        del run
        places: dict[str, list[int]] = {}
        for place, label in enumerate(classes.labels):
            if (group := taxon(classes, label, self.by)) is not None:
                places.setdefault(group, []).append(place)
        if not places:
            known = sorted({name for names in classes.names.values() for name in names})
            raise ConfigError(
                f"post: spread: by={self.by}: no class has an entry in that column of the taxonomy"
                f"{hint(self.by, known)}"
            )
        return [np.array(group) for group in places.values() if len(group) > 1]

    def apply(self, windows: WindowPredictions, state: list[np.ndarray]) -> np.ndarray:
        before_WC = windows.probabilities.astype(np.float64)
        after_WC = before_WC.copy()
        for group in state:
            members_WG = before_WC[:, group]
            masked = np.isnan(members_WG)
            if self.how == MAX:
                relatives_W = np.where(masked, 0, members_WG).max(1)
            else:
                num_W = (~masked).sum(1).clip(1)
                relatives_W = np.where(masked, 0, members_WG).sum(1) / num_W
            after_WC[:, group] += self.weight * relatives_W[:, None]
        return np.minimum(after_WC, 1)
