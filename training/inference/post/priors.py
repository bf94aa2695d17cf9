"""Priors of site and hour, added in logits.

    logit(p) += lambda * N / (N + k) * (logit(prior of the class here) - logit(prior overall))

N counts the recordings that the prior of a site or hour is from: one that few recordings support is
shrunk to none. Without a csv a prior is the mean probability of the run, a first pass over it.
Third place of BirdCLEF 2026: lambda 0.2 to 0.5, k = 8. It was harmful to strong models there, which
know the site by its sound: compare with and without.
"""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from storage.errors import ConfigError
from storage.options import check_at_least
from storage.source.cells import tidy, tidy_label
from storage.source.csv_text import read_csv
from training.inference.evaluation.platt import logits
from training.inference.post.step import Step, hint, shift_logits
from training.inference.predictions import ClassTable, PredictedRecording, WindowPredictions

SECONDS_OF_DAY, SECONDS_OF_HOUR = 86_400, 3600
LEAST_PRIOR = 1e-4
MANY = 1e12  # recordings of a prior in a csv without `n`: no shrinkage

Shifts = dict[str, np.ndarray]  # what is added to the logits [C], by site or hour


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior(Step):
    """Base of the steps with a prior for each value of a key, such as the site."""

    needs_run: ClassVar[bool] = True
    key: ClassVar[str]

    weight: float = 0.3
    k: float = 8.0
    csv: str = ""

    def __post_init__(self) -> None:
        check_at_least(self, f"post: {self.key}_prior", 0, "weight", "k")

    @abstractmethod
    def keys(self, windows: WindowPredictions) -> list[str | None]:
        """Returns the key of each window; None where it is not known."""

    def prepare(self, run: Iterable[WindowPredictions], classes: ClassTable) -> Shifts:
        """Computes the shift of each key from the csv, or from a pass over the run."""
        if self.csv:
            return self._shifts(*_read_priors(Path(self.csv), self.key, classes))
        totals: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(len(classes.labels)))
        num_windows: dict[str, int] = defaultdict(int)
        recordings: dict[str, set[str]] = defaultdict(set)
        for windows in run:
            keys = np.array([key or "" for key in self.keys(windows)])
            for key in sorted(set(keys.tolist()) - {""}):
                part = windows.probabilities[keys == key].astype(np.float64)
                totals[key] += part.sum(0)
                num_windows[key] += len(part)
                recordings[key].add(windows.recording.recording_id)
        means = {key: total / num_windows[key] for key, total in totals.items()}
        return self._shifts(means, {key: float(len(recordings[key])) for key in means})

    def _shifts(self, priors: dict[str, np.ndarray], support: dict[str, float]) -> Shifts:
        """The rule above; NaN of a class is no shift."""
        if not priors:
            return {}
        weights = np.array([support[key] for key in priors])
        overall_C = np.average(np.stack(list(priors.values())), axis=0, weights=weights)
        return {
            key: np.nan_to_num(
                self.weight
                * (support[key] / (support[key] + self.k))
                * (_log_odds(prior_C) - _log_odds(overall_C))
            )
            for key, prior_C in priors.items()
        }

    def apply(self, windows: WindowPredictions, state: Shifts) -> np.ndarray:
        shift_WC = np.zeros(windows.probabilities.shape)
        for row, key in enumerate(self.keys(windows)):
            if key is not None and key in state:
                shift_WC[row] = state[key]
        return shift_logits(windows.probabilities, shift_WC)


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePrior(Prior):
    """Prior of the recording's site."""

    key: ClassVar[str] = "site"

    def keys(self, windows: WindowPredictions) -> list[str | None]:
        return [windows.recording.site] * len(windows.start_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class HourPrior(Prior):
    """Prior of the hour of day in which a window begins."""

    key: ClassVar[str] = "hour"

    def keys(self, windows: WindowPredictions) -> list[str | None]:
        begin_s = _second_of_day(windows.recording)
        if begin_s is None:
            return [None] * len(windows.start_s)
        seconds = (begin_s + windows.start_s) % SECONDS_OF_DAY
        return [str(int(second // SECONDS_OF_HOUR)) for second in seconds]


def _log_odds(prior_C: np.ndarray) -> np.ndarray:
    return logits(prior_C.clip(LEAST_PRIOR, 1 - LEAST_PRIOR))


def _second_of_day(recording: PredictedRecording) -> float | None:
    if not recording.time:
        return None
    hours, minutes, seconds = (float(part) for part in f"{recording.time}:0:0".split(":")[:3])
    return hours * SECONDS_OF_HOUR + minutes * 60 + seconds


def _read_priors(
    path: Path, key: str, classes: ClassTable
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Reads the columns KEY, label, prior and, if it is there, n, the recordings of the prior.

    A class that a site or an hour has no row of gets the mean of the others, so no shift.
    """
    try:
        table = read_csv(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigError(f"post: {key}_prior: {path} cannot be read: {error.strerror}") from error
    for name in (key, "label", "prior"):
        if name not in table.columns:
            raise ConfigError(
                f"post: {key}_prior: {path} lacks the column {name}{hint(name, table.columns)}"
            )
    priors: dict[str, np.ndarray] = {}
    support: dict[str, float] = {}
    places = {label: place for place, label in enumerate(classes.labels)}
    for value, label, prior, number in _rows(table.columns, key, path):
        if label not in places:
            continue
        prior_C = priors.setdefault(value, np.full(len(places), np.nan))
        prior_C[places[label]] = prior
        support[value] = number
    if priors:
        stacked = np.stack(list(priors.values()))
        num = (~np.isnan(stacked)).sum(0)
        means = np.divide(np.nansum(stacked, 0), num, out=np.full(len(places), 0.5), where=num > 0)
        priors = {name: np.where(np.isnan(row), means, row) for name, row in priors.items()}
    return priors, support


def _rows(
    columns: dict[str, list[str]], key: str, path: Path
) -> Iterator[tuple[str, str | None, float, float]]:
    numbers = columns.get("n") or [""] * len(columns[key])
    cells = zip(columns[key], columns["label"], columns["prior"], numbers, strict=True)
    for line, (value, label, prior, number) in enumerate(cells, start=2):
        try:
            share, count = float(prior), float(number or MANY)
            name = str(int(tidy(value))) if key == "hour" else tidy(value)
        except ValueError as error:
            raise ConfigError(f"post: {key}_prior: {path}, row {line}: {error}") from error
        if not 0 <= share <= 1 or not count > 0:
            raise ConfigError(
                f"post: {key}_prior: {path}, row {line}: prior={prior} must be within 0 to 1, and "
                "n above 0"
            )
        yield name, tidy_label(label), share, count
