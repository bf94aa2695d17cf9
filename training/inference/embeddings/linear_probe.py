"""A linear classifier on embeddings: fit, predictions, and a file without code.

    probe = fit_probe(embeddings_NE, classes_N, labels, config)
    probe.probabilities(embeddings_NE)
    write_probe(probe, about, "weights/exp_012/fold_0.safetensors")

Multinomial logistic regression of scikit-learn on standardised embeddings (Alain and Bengio 2016);
the standardisation is part of the weights. Shapes: N slices, E numbers of an embedding, C classes.
"""

import json
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from datasets.labels import Labels
from storage.errors import ConfigError, StoreError
from storage.recipe import Recipe
from storage.untrusted import parse_json, record_of, text_of, whole_of
from training.inference.embeddings.config import ProbeConfig
from training.inference.embeddings.record import ModelRecord
from training.inference.export.metadata import Names, parse_names, parse_recipe

KEY = "melbank.probe"
FORMAT = 1
ENDING = ".safetensors"
WEIGHTS, BIAS = "weights_CE", "bias_C"
NEVER = -1e9  # bias of a class that no recording to learn from has
MAX_BYTES = 2**31
UNREADABLE = (SafetensorError, OSError, KeyError, TypeError)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinearProbe:
    """Probabilities are the softmax of weights times embedding plus bias."""

    labels: Labels
    weights_CE: np.ndarray  # float32
    bias_C: np.ndarray  # float32

    def probabilities(self, embeddings_NE: np.ndarray) -> np.ndarray:
        """float32 [N, C]; ConfigError on embeddings of another length."""
        if embeddings_NE.shape[1] != self.weights_CE.shape[1]:
            raise ConfigError(
                f"the probe takes embeddings of {self.weights_CE.shape[1]} numbers, and these have "
                f"{embeddings_NE.shape[1]}: embed with the model that it has learned from"
            )
        logits_NC = embeddings_NE.astype(np.float64) @ self.weights_CE.T + self.bias_C
        shifted_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
        found: np.ndarray = shifted_NC / shifted_NC.sum(axis=1, keepdims=True)
        return found.astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOrigin:
    """Fold that a probe has not seen, and the model of its embeddings.

    `recipe`: of the slices that were embedded; files from before it was written have None.
    `names`: by label, columns of a taxonomy.
    """

    fold: int
    model: ModelRecord
    recipe: Recipe | None = None
    names: Names = field(default_factory=dict)


def fit_probe(
    embeddings_NE: np.ndarray, classes_N: np.ndarray, labels: Labels, config: ProbeConfig
) -> LinearProbe:
    """Learns from embeddings and class numbers; ConfigError where there is one class only."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    seen = np.unique(classes_N)
    if len(seen) < 2:
        raise ConfigError(f"a probe needs two classes to learn from, and there is {len(seen)}")
    mean_E, spread_E = embeddings_NE.mean(0, dtype=np.float64), embeddings_NE.std(0, dtype=float)
    spread_E[spread_E == 0] = 1
    solver = LogisticRegression(C=config.strength, max_iter=config.max_iterations)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # what was reached is scored anyway
        solver.fit((embeddings_NE - mean_E) / spread_E, classes_N)
    weights, bias = solver.coef_, solver.intercept_
    if len(seen) == 2:  # scikit-learn gives the difference of the two
        weights, bias = np.concatenate([0 * weights, weights]), np.append(0 * bias, bias)
    weights = weights / spread_E
    weights_CE = np.zeros((len(labels), embeddings_NE.shape[1]), np.float32)
    bias_C = np.full(len(labels), NEVER, np.float32)
    weights_CE[seen], bias_C[seen] = weights, bias - weights @ mean_E
    return LinearProbe(labels=labels, weights_CE=weights_CE, bias_C=bias_C)


def write_probe(probe: LinearProbe, origin: ProbeOrigin, path: Path) -> None:
    """Writes the weights, and labels and origin as metadata in JSON."""
    recipe = origin.recipe.to_dict() if origin.recipe else None
    about = {**asdict(origin), "recipe": recipe}
    about |= {"format": FORMAT, "labels": list(probe.labels.names)}
    tensors = {WEIGHTS: probe.weights_CE, BIAS: probe.bias_C}
    save_file(tensors, path, metadata={KEY: json.dumps(about, sort_keys=True)})


def read_probe(path: Path) -> tuple[LinearProbe, ProbeOrigin]:
    """A probe and its origin; ConfigError where a file is none, StoreError where it is damaged."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path} is larger than any probe")
        with safe_open(path, "numpy") as file:
            text = (file.metadata() or {}).get(KEY)
            tensors = {name: file.get_tensor(name) for name in (WEIGHTS, BIAS) if text}
    except UNREADABLE as error:
        raise ConfigError(f"{path} is no probe: {str(error).splitlines()[0]}") from error
    if text is None:
        raise ConfigError(f"{path} is no probe: python -m tools.probe writes such files")
    try:
        return _parse(text, tensors)
    except ValueError as error:
        raise StoreError(f"{path} is damaged ({error}): fit the probe again") from error


def _parse(text: str, tensors: dict[str, Any]) -> tuple[LinearProbe, ProbeOrigin]:
    values = record_of(parse_json(text.encode()))
    whole_of(values, "format", least=FORMAT, most=FORMAT)
    labels = values.get("labels")
    if not isinstance(labels, list) or not all(isinstance(name, str) for name in labels):
        raise ValueError("its labels are no list of names")
    weights_CE, bias_C = tensors[WEIGHTS], tensors[BIAS]
    if weights_CE.ndim != 2 or bias_C.shape != (len(labels),) or len(weights_CE) != len(labels):
        raise ValueError(f"weights {weights_CE.shape} and bias {bias_C.shape} for {len(labels)}")
    if not (np.isfinite(weights_CE).all() and np.isfinite(bias_C).all()):
        raise ValueError("weights that are not finite")
    model = record_of(values.get("model"), "its model")
    names = ModelRecord.__dataclass_fields__
    origin = ProbeOrigin(
        fold=whole_of(values, "fold"),
        model=ModelRecord(**{name: text_of(model, name) for name in names}),
        recipe=parse_recipe(values["recipe"]) if values.get("recipe") is not None else None,
        names=parse_names(values.get("names", {})),
    )
    probe = LinearProbe(labels=Labels(tuple(labels)), weights_CE=weights_CE, bias_C=bias_C)
    return probe, origin
