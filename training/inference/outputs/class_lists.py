"""Reads lists of classes that restrict detections: thresholds, and species of sites.

Both are csv files of the user. A threshold for a class that the model lacks is an error, with the
nearest labels. A list of the species of a region may name more than the model knows.
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from storage.errors import ConfigError
from storage.source.cells import is_missing, tidy, tidy_label
from storage.source.csv_text import TextTable, read_csv
from training.inference.predictions import ClassTable

MAX_SHOWN = 5
SCIENTIFIC = "scientific_name"
ANY_SITE = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeciesLists:
    """Classes that can be a detection, by site; `ANY_SITE` holds for every site.

    `num_unknown`: entries of the list that are no class of the model.
    """

    by_site: Mapping[str, np.ndarray]  # bool [C]
    num_unknown: int = 0

    def of(self, site: str | None) -> np.ndarray | None:
        """Classes of a site, bool [C]; None where the list says nothing on it."""
        everywhere, here = self.by_site.get(ANY_SITE), self.by_site.get(site or ANY_SITE)
        if everywhere is None or here is None:
            return everywhere if here is None else here
        either: np.ndarray = everywhere | here
        return either


def read_thresholds(
    path: str, classes: ClassTable, *, calibrated: bool = False
) -> dict[str, float]:
    """Thresholds by label; ConfigError on unknown classes and on values outside [0, 1].

    Those of a csv of tools.calibrate, which has a and b, are of scores as predicted; where scores
    are `calibrated` they are changed alike, p = sigmoid(a logit(p) + b).
    """
    key = "detect.thresholds"
    table = _read(key, path)
    if not {"label", "threshold"} <= table.columns.keys():
        raise _lacks(key, path, "label and threshold", table)
    found: dict[str, float] = {}
    cells = zip(table.columns["label"], table.columns["threshold"], strict=True)
    for row, (cell, text) in enumerate(cells):
        label = tidy_label(cell)
        if label is None or is_missing(text):
            continue
        value = _number(text, table)
        if value is None or not 0 <= value <= 1:
            raise ConfigError(f"{key}={path}: {label} has {text}, no number from 0 to 1")
        if calibrated and {"a", "b"} <= table.columns.keys():
            value = _calibrated(value, (table.columns["a"][row], table.columns["b"][row]), table)
        if found.setdefault(label, value) != value:
            raise ConfigError(f"{key}={path} has two thresholds for {label}")
    check_known(f"{key}={path}", found, classes.labels)
    return found


def _calibrated(value: float, cells: tuple[str, str], table: TextTable) -> float:
    """A threshold of scores after Platt scaling; as it is where a or b are no numbers."""
    a, b = (_number(cell, table) for cell in cells)
    if a is None or b is None or not 0 < value < 1:
        return value
    return 1 / (1 + math.exp(-(a * math.log(value / (1 - value)) + b)))


def read_species(path: str, classes: ClassTable) -> SpeciesLists:
    """Species lists by site; ConfigError where not one entry is a class of the model."""
    key = "detect.species"
    table = _read(key, path)
    columns = [name for name in ("label", "primary_label", SCIENTIFIC) if name in table.columns]
    if not columns:
        raise _lacks(key, path, "label or scientific_name", table)
    labels_C = np.array(classes.labels)
    scientific_C = np.array([classes.name(label, SCIENTIFIC) or "" for label in classes.labels])
    sites = table.columns.get("site") or [ANY_SITE] * table.num_rows
    by_site: dict[str, np.ndarray] = {}
    num_unknown = 0
    for row, site in enumerate(sites):
        names = [tidy_label(table.columns[name][row]) for name in columns]
        given = [name for name in names if name]
        meant = (labels_C == name for name in given), (scientific_C == name for name in given)
        found_C = next((mask_C for mask_C in chain(*meant) if mask_C.any()), None)
        allowed_C = by_site.setdefault(
            ANY_SITE if is_missing(site) else tidy(site), np.zeros(len(classes.labels), bool)
        )
        if found_C is None:
            num_unknown += bool(given)
        else:
            allowed_C |= found_C
    if not any(allowed_C.any() for allowed_C in by_site.values()):
        raise ConfigError(
            f"{key}={path} names no class of the model, whose labels are "
            f"{shown(classes.labels)}: write these, or scientific names with predict.taxonomy"
        )
    return SpeciesLists(by_site=by_site, num_unknown=num_unknown)


def species_of_place(
    presence: Mapping[str, float], least: float, classes: ClassTable
) -> np.ndarray:
    """Classes that are at a place and week, bool [C], by probabilities of presence.

    `presence` is by label or scientific name, such as from BirdNET's range model. A class that it
    lacks is none of the place.
    """
    values = (
        presence.get(label, presence.get(classes.name(label, SCIENTIFIC), 0.0))
        for label in classes.labels
    )
    allowed_C = np.array([value >= least for value in values], dtype=bool)
    if not allowed_C.any():
        raise ConfigError(
            f"not one of the {len(allowed_C)} classes has a probability of presence of at least "
            f"detect.min_presence={least:g} at this place: give scientific names by "
            "predict.taxonomy, or a lower value"
        )
    return allowed_C


def check_known(where: str, names: Iterable[str], labels: Iterable[str]) -> None:
    """Raises ConfigError on names that are no label, with the nearest ones."""
    known = list(labels)
    unknown = [name for name in names if name not in set(known)]
    if not unknown:
        return
    near = difflib.get_close_matches(unknown[0], known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {shown(known)}"
    raise ConfigError(f"{where}: the model has no class {shown(unknown)}; {hint}")


def shown(names: Iterable[str]) -> str:
    """Lists the first names, and counts the others."""
    listed = list(names)
    more = f" and {len(listed) - MAX_SHOWN} more" if len(listed) > MAX_SHOWN else ""
    return ", ".join(listed[:MAX_SHOWN]) + more


def _read(key: str, path: str) -> TextTable:
    try:
        return read_csv(Path(path).read_bytes(), path)
    except OSError as error:
        raise ConfigError(f"{key}={path} cannot be read ({error.strerror})") from error


def _lacks(key: str, path: str, needed: str, table: TextTable) -> ConfigError:
    return ConfigError(f"{key}={path} needs {needed}, and has {shown(table.columns)}")


def _number(text: str, table: TextTable) -> float | None:
    try:
        return float(text.replace(",", ".") if table.decimal_comma else text)
    except ValueError:
        return None
