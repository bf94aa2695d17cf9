"""Base of the steps of post-processing, and the classes that a step is limited to.

Shapes: W windows of a recording, C classes.
"""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from storage.errors import ConfigError
from training.inference.predictions import ClassTable, WindowPredictions

LABELS, GENUS = "labels", "genus"
MAX_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(ABC):
    """Options of a step and its rule.

    `only` limits it to classes: by label, `{labels: [a, b]}`, or by a column of the taxonomy,
    `{class_name: Amphibia}`; of several entries all must hold.
    """

    needs_run: ClassVar[bool] = False  # a first pass over the whole run comes before

    only: dict[str, Any] = field(default_factory=dict)

    def prepare(self, run: Iterable[WindowPredictions], classes: ClassTable) -> Any:
        """Collects from the run, or the classes, what `apply` needs; None where it needs nothing.

        `run` gives the input of this step, limited to its classes; `classes` are those.
        """
        del run, classes

    @abstractmethod
    def apply(self, windows: WindowPredictions, state: Any) -> np.ndarray:
        """Returns probabilities [W, C], C being the step's classes; NaN stays NaN."""


def limited_places(only: Mapping[str, Any], classes: ClassTable) -> np.ndarray:
    """Finds the classes that `only` names, int64, in order; without an entry all of them.

    Raises ConfigError on an unknown label, column or value, with near names.
    """
    chosen = np.ones(len(classes.labels), bool)
    for column, given in only.items():
        wanted = [str(name) for name in (given if isinstance(given, list | tuple) else [given])]
        if column == LABELS:
            values: list[str | None] = list(classes.labels)
        else:
            values = [taxon(classes, label, column) for label in classes.labels]
            if not any(values):
                known = sorted({name for names in classes.names.values() for name in names})
                raise ConfigError(
                    f"post: only: {column}: the taxonomy has no such column"
                    f"{hint(column, [LABELS, *known])}"
                )
        there = {value for value in values if value is not None}
        for name in wanted:
            if name not in there:
                raise ConfigError(
                    f"post: only: {column}: {name} is none of the classes{hint(name, there)}"
                )
        chosen &= np.isin([value or "" for value in values], wanted)
    return np.flatnonzero(chosen)


def taxon(classes: ClassTable, label: str, column: str) -> str | None:
    """Returns what the taxonomy says of a class; a genus is also taken from scientific_name."""
    names = classes.names.get(label, {})
    if column == GENUS and not names.get(GENUS):
        return names.get("scientific_name", "").partition(" ")[0] or None
    return names.get(column) or None


def hint(name: str, known: Iterable[str]) -> str:
    """Names what is near to a wrong name; else the first of those that there are."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f". Did you mean {' or '.join(close)}?"
    return f"; there are {shown(names)}" if names else ""


def shown(names: Sequence[str]) -> str:
    """Lists the first names, and counts the others."""
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return ", ".join(names[:MAX_SHOWN]) + more


def shift_logits(probabilities: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Probabilities after `shift` is added to their log-odds; 0, 1 and a shift of 0 are exact."""
    p, odds = probabilities.astype(np.float64), np.exp(shift)
    shifted: np.ndarray = p * odds / (p * odds + (1 - p))
    return shifted
