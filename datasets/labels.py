"""Class names and target vectors."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl

from storage.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Labels:
    """Class names in the order of the columns of a target; C = len(labels)."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if not self.names:
            raise ConfigError("there is no class: no recording has a primary_label")
        if len(set(self.names)) < len(self.names):
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise ConfigError(f"class names must differ; given twice: {', '.join(twice)}")

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of(cls, recordings: pl.DataFrame, extra: Iterable[str] = ()) -> Self:
        """Builds from the primary labels of recordings and extra names, sorted."""
        primary = recordings["primary_label"].drop_nulls().unique().to_list()
        return cls(tuple(sorted({*primary, *extra})))

    def targets(self, recordings: pl.DataFrame, secondary_weight: float | None) -> np.ndarray:
        """Returns float32 [n, C]: 1 for the primary label, `secondary_weight` for secondary ones.

        With None, secondary labels become NaN (unknown), which the loss masks out. Secondary
        labels that are no class are ignored; a recording without a primary label has none. Raises
        ConfigError on a primary label that is no class.
        """
        if secondary_weight is None:
            secondary_weight = math.nan
        elif not 0 <= secondary_weight <= 1:
            raise ConfigError(f"secondary_weight={secondary_weight:g} must lie between 0 and 1")
        targets = np.zeros((len(recordings), len(self)), np.float32)
        second = (
            recordings.select(pl.int_range(pl.len()).alias("index"), "secondary_labels")
            .explode("secondary_labels")
            .with_columns(self._codes("secondary_labels"))
            .drop_nulls()
        )
        targets[second["index"], second["secondary_labels"]] = secondary_weight
        first = recordings.select(
            pl.int_range(pl.len()).alias("index"), self._codes("primary_label")
        ).drop_nulls()
        if len(first) < recordings["primary_label"].count():
            unknown = set(recordings["primary_label"].drop_nulls()) - set(self.names)
            raise ConfigError(
                f"{len(unknown)} primary labels are not among the {len(self)} classes, among them "
                f"{', '.join(sorted(unknown)[:5])}: leave those recordings out, or name them too"
            )
        targets[first["index"], first["primary_label"]] = 1
        return targets

    def _codes(self, column: str) -> pl.Expr:
        """Converts a column of names to class numbers, null where the name is no class."""
        numbers = {name: number for number, name in enumerate(self.names)}
        return pl.col(column).replace_strict(numbers, default=None, return_dtype=pl.Int64)
