"""Base class of the augmentations, and the ranges of their options."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import Any

from datasets.augment.draws import Draws, Samples
from storage.options import (
    check_at_least,
    check_between,
    check_choice,
    check_order,
    check_positive,
)

UNIT, POSITIVE = "0 to 1", "positive"
Range = float | str | tuple[str, ...] | None  # a number is the least value, a tuple the choices


def ranged(default: Any, text: str, values: Range = None) -> Any:
    """Returns a config field with a default, a line of help and its range."""
    return field(default=default, metadata={"help": text, "range": values})


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationConfig(ABC):
    """Augmentation with its options. `AugmentConfig` checks the ranges of all of them."""

    p: float = ranged(0.0, "probability per sample", UNIT)

    @abstractmethod
    def apply(self, samples: Samples, draws: Draws) -> Samples:
        """Changes each sample with probability `p`; the numbers drawn are all from `draws`."""


def check_ranges(config: AugmentationConfig, section: str) -> None:
    """Raises ConfigError where an option is out of its range, or `min_X` is above `max_X`."""
    names = {one.name: one.metadata["range"] for one in fields(config)}
    for name, values in names.items():
        if values == UNIT:
            check_between(config, section, 0, 1, name)
        elif values == POSITIVE:
            check_positive(config, section, name)
        elif isinstance(values, tuple):
            check_choice(config, section, name, values)
        elif values is not None:
            check_at_least(config, section, values, name)
        upper = name.replace("min_", "max_")
        if upper != name and upper in names:
            check_order(config, section, name, upper)
