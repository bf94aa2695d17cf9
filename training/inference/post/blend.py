"""Blending of branches: one probability from those of several models.

    blender = prepare_blend(config, branch_names, classes, (raw for raw in run))
    probabilities_WC = blender(probabilities_BWC)

mean: sum_b w_b p_b / sum_b w_b. geometric: the same mean of log p, exp of it. rank: the mean of the
ranks of each branch within the class over the whole run, for branches that differ in scale; a first
pass over the run holds 4 bytes per branch, window and class. A class that a branch lacks is NaN
there and left out of its mean; one that all lack stays NaN.

Shapes: B branches, W windows, C classes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from storage.errors import ConfigError
from storage.options import check_choice, option
from training.inference.post.ranks import rank_in
from training.inference.post.step import limited_places
from training.inference.predictions import ClassTable

MEAN, GEOMETRIC, RANK = "mean", "geometric", "rank"
METHODS = (MEAN, GEOMETRIC, RANK)
LEAST = 1e-15  # of a probability under a logarithm
ONLY, WEIGHTS = "only", "weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlendConfig:
    """Config of blending the entries of `predict.from`."""

    method: str = option(MEAN, "mean, geometric, or rank: per class, over the whole run")
    weights: list[float] = field(
        default_factory=list,
        metadata={"help": "one per entry of predict.from, in order; []: all alike"},
    )
    class_weights: list[dict[str, Any]] = field(
        default_factory=list,
        metadata={
            "help": "other weights for some classes, as in [{only: {class_name: Amphibia}, "
            "weights: [1,3]}]; the last that fits counts"
        },
    )

    def __post_init__(self) -> None:
        check_choice(self, "blend", "method", METHODS)
        for weights in (self.weights, *(entry.get(WEIGHTS) for entry in self.class_weights)):
            is_list = isinstance(weights, list)
            if not is_list or any(not _is_weight(weight) for weight in weights or ()):
                raise ConfigError(f"blend: weights={weights} must be a list of numbers from 0 on")
            if weights and not any(weights):
                raise ConfigError(f"blend: weights={weights}: one must be above 0")
        for entry in self.class_weights:
            if set(entry) != {ONLY, WEIGHTS} or not isinstance(entry[ONLY], Mapping):
                raise ConfigError(
                    f"blend.class_weights: {entry} must have two keys, as in "
                    "{only: {labels: [robin]}, weights: [1,3]}"
                )


def _is_weight(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value < float("inf")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blender:
    """Blends recordings; `sorted_BNC` are the run's probabilities for `rank`."""

    method: str
    weights_BC: np.ndarray
    sorted_BNC: np.ndarray | None = None

    def __call__(self, probabilities_BWC: np.ndarray) -> np.ndarray:
        """Returns float32 [W, C]; NaN where no branch with a weight has the class."""
        if self.sorted_BNC is not None:
            pairs = zip(probabilities_BWC, self.sorted_BNC, strict=True)
            probabilities_BWC = np.stack([rank_in(*pair) for pair in pairs])
        return blend(probabilities_BWC, self.method, self.weights_BC)


def blend(probabilities_BWC: np.ndarray, method: str, weights_BC: np.ndarray) -> np.ndarray:
    """Weighted mean over branches, float32 [W, C]; of logarithms for `geometric`.

    `rank` takes ranks here, which `Blender` makes.
    """
    if len(probabilities_BWC) == 1:  # exactly as predicted
        only_WC: np.ndarray = probabilities_BWC[0].astype(np.float32)
        return only_WC
    values_BWC = probabilities_BWC.astype(np.float64)
    lacking_BWC = np.isnan(values_BWC)
    if method == GEOMETRIC:
        values_BWC = np.log(values_BWC.clip(LEAST))
    weights_BWC = np.where(lacking_BWC, 0, weights_BC[:, None, :])
    total_WC = weights_BWC.sum(0)
    sum_WC = (weights_BWC * np.where(lacking_BWC, 0, values_BWC)).sum(0)
    mean_WC = np.divide(sum_WC, total_WC, out=np.full_like(sum_WC, np.nan), where=total_WC > 0)
    if method == GEOMETRIC:
        mean_WC = np.exp(mean_WC)
    blended_WC: np.ndarray = mean_WC.clip(0, 1).astype(np.float32)
    return blended_WC


def prepare_blend(
    config: BlendConfig,
    branches: Sequence[str],
    classes: ClassTable,
    run: Iterable[np.ndarray],
) -> Blender:
    """Prepares blending; `run` are the probabilities [B, W, C] of the recordings, once iterated.

    It is iterated over for `rank` alone. Raises ConfigError on weights that do not fit.
    """
    weights_BC = np.ones((len(branches), len(classes.labels)))
    _put_weights(weights_BC, config.weights, branches, slice(None))
    for entry in config.class_weights:
        places = limited_places(entry[ONLY], classes)
        _put_weights(weights_BC, entry[WEIGHTS], branches, places)
    if config.method != RANK or len(branches) == 1:
        return Blender(method=config.method, weights_BC=weights_BC)
    nothing = np.empty((len(branches), 0, len(classes.labels)), np.float32)
    joined_BNC = np.concatenate([nothing, *run], axis=1).astype(np.float32)
    return Blender(
        method=config.method, weights_BC=weights_BC, sorted_BNC=np.sort(joined_BNC, axis=1)
    )


def _put_weights(
    weights_BC: np.ndarray, given: Sequence[float], branches: Sequence[str], places: Any
) -> None:
    if not given:
        return
    if len(given) != len(branches):
        raise ConfigError(
            f"blend: {len(given)} weights for {len(branches)} entries of predict.from "
            f"({', '.join(branches)}): give one each, in that order"
        )
    weights_BC[:, places] = np.array(given, np.float64)[:, None]
