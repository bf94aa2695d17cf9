"""Scores of probabilities against the labels of recordings.

    truth = Truth.of(recordings, labels, secondary_weight=0.5)
    truth.score(probabilities, recording_no)  # {"kl": 0.31, "roc_auc": 0.97, "cmap": 0.9, ...}

A metric is one entry in METRICS: logs, tables, curves and sorting take it from there.

Slices inherit the labels of their recording. KL divergence is the primary score; it and the
accuracies are of slices that have a label, NaN without any. ROC-AUC is NaN where no class has both
slices with and without it, cmAP where no class has a positive slice.

Shapes: N slices, R recordings, C classes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import polars as pl

from datasets.labels import Labels

KL_EPSILON = 1e-15
LEAST_PROBABILITY = 1e-30  # under a logarithm; the least normal number of 32 bits is 1e-38
DISTRIBUTION_TOLERANCE = 1e-3  # sums of 32-bit numbers, and of 16-bit ones before


Scores = dict[str, float]  # by the keys of METRICS; NaN where a score is not defined


class ScoredSlices(NamedTuple):
    """Input of a metric: predictions of N slices, and the labels of their recordings.

    Targets sum to one per row: primary and weighted secondary labels.
    """

    targets_NC: np.ndarray  # float32
    positives_NC: np.ndarray  # bool, primary and secondary labels alike
    primary_N: np.ndarray  # int64, class number
    probabilities_NC: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A score and its presentation.

    `bar` and `curve` are its names on the progress bar and in the picture of the curves, which
    leave it out without one. `needs_label`: slices without a label are left out.
    """

    title: str
    compute: Callable[[ScoredSlices], float]
    higher_is_better: bool = True
    needs_label: bool = False
    format: str = ".4f"
    bar: str = ""
    curve: str = ""

    def text(self, value: float | None) -> str:
        """Formats a score for tables; a dash where it is not defined."""
        return "-" if value is None or math.isnan(value) else format(value, self.format)


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Ground truth of R recordings, in the forms that the scores need."""

    targets_RC: np.ndarray  # float32, rows of sum one: primary and weighted secondary labels
    positives_RC: np.ndarray  # bool, primary and secondary labels alike
    primary_R: np.ndarray  # int64, class number

    @classmethod
    def of(cls, recordings: pl.DataFrame, labels: Labels, secondary_weight: float) -> Self:
        """The truth of recordings; one without a primary label has no class.

        KL compares with soft targets, so it depends on `secondary_weight`; ROC-AUC
        (every label of the recording counts) and accuracy (the primary one) do not.
        """
        targets = labels.targets(recordings, secondary_weight)
        number = {name: place for place, name in enumerate(labels.names)}
        primary = [number.get(name, -1) for name in recordings["primary_label"]]
        return cls(
            targets_RC=targets / targets.sum(1, keepdims=True).clip(1e-12),
            positives_RC=labels.targets(recordings, 1.0) > 0,
            primary_R=np.array(primary, np.int64),
        )

    def score(self, probabilities_NC: np.ndarray, recording_no_N: np.ndarray) -> Scores:
        """Computes all METRICS for N slices of these recordings."""
        if not len(probabilities_NC):
            return dict.fromkeys(METRICS, math.nan)
        slices = self.slices(probabilities_NC, recording_no_N)
        labelled_N = slices.primary_N >= 0
        labelled = slices
        if not labelled_N.all():
            labelled = ScoredSlices(*(values[labelled_N] for values in slices))
        return {
            key: metric.compute(labelled if metric.needs_label else slices)
            for key, metric in METRICS.items()
        }

    def slices(self, probabilities_NC: np.ndarray, recording_no_N: np.ndarray) -> ScoredSlices:
        """The input of metrics for N slices of these recordings."""
        return ScoredSlices(
            targets_NC=self.targets_RC[recording_no_N],
            positives_NC=self.positives_RC[recording_no_N],
            primary_N=self.primary_R[recording_no_N],
            probabilities_NC=probabilities_NC,
        )


def score_cells(scores: Mapping[str, float | None]) -> list[str]:
    """Formats scores as the cells of a table, in the order of METRICS."""
    return [metric.text(scores.get(key)) for key, metric in METRICS.items()]


def kl_divergence(targets_NC: np.ndarray, probabilities_NC: np.ndarray) -> float:
    """Mean over rows of the row's KL divergence, in nats, as Kaggle's HMS competition takes it.

    Predictions are clipped to 1e-15 from 0 and 1; cells with target 0 count nothing. Raises
    ValueError where rows are no distributions.
    """
    from scipy.special import xlogy  # here and below: tables of scores can do without, in seconds

    for name, values in (("targets", targets_NC), ("probabilities", probabilities_NC)):
        if not np.allclose(values.sum(1), 1, rtol=0, atol=DISTRIBUTION_TOLERANCE):
            raise ValueError(f"KL divergence needs {name} whose rows sum to one")
    clipped = probabilities_NC.astype(np.float64).clip(KL_EPSILON, 1 - KL_EPSILON)
    targets = targets_NC.astype(np.float64)
    return float((xlogy(targets, targets) - targets * np.log(clipped)).sum(1).mean())


def roc_areas(positives_NC: np.ndarray, probabilities_NC: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each class, float64 [C]; ties count half.

    NaN for classes without positives, or without negatives. The area is the rank statistic of
    Mann and Whitney (Hanley and McNeil, 1982).
    """
    from scipy.stats import rankdata

    num_positive = positives_NC.sum(0)
    defined = np.flatnonzero((num_positive > 0) & (num_positive < len(positives_NC)))
    areas_C = np.full(positives_NC.shape[1], math.nan)
    for place in defined:
        is_positive = positives_NC[:, place]
        ranks = rankdata(probabilities_NC[:, place])
        positive, negative = is_positive.sum(), (~is_positive).sum()
        above = ranks[is_positive].sum() - positive * (positive + 1) / 2
        areas_C[place] = above / (float(positive) * float(negative))
    return areas_C


def average_precisions(positives_NC: np.ndarray, probabilities_NC: np.ndarray) -> np.ndarray:
    """Average precision of each class, float64 [C]; NaN for classes without positives.

    scikit-learn's definition, without interpolation.
    """
    from sklearn.metrics import average_precision_score

    defined = positives_NC.any(0)
    precisions_C = np.full(positives_NC.shape[1], math.nan)
    if defined.any():
        precisions_C[defined] = average_precision_score(
            positives_NC[:, defined], probabilities_NC[:, defined], average=None
        )
    return precisions_C


def f1_scores(primary_N: np.ndarray, probabilities_NC: np.ndarray) -> np.ndarray:
    """F1 of each class, float64 [C]: its primary labels against the most probable classes.

    NaN for classes that are nobody's primary label.
    """
    predicted_N, num_classes = probabilities_NC.argmax(1), probabilities_NC.shape[1]
    num_primary_C = np.bincount(primary_N, minlength=num_classes)
    num_predicted_C = np.bincount(predicted_N, minlength=num_classes)
    num_right_C = np.bincount(primary_N[primary_N == predicted_N], minlength=num_classes)
    f1_C = 2 * num_right_C / (num_primary_C + num_predicted_C).clip(1)
    return np.where(num_primary_C > 0, f1_C, math.nan)


def macro_roc_auc(positives_NC: np.ndarray, probabilities_NC: np.ndarray) -> float:
    """Mean of `roc_areas` over the classes that have one, as in the BirdCLEF competitions."""
    return _mean_defined(roc_areas(positives_NC, probabilities_NC))


def macro_average_precision(positives_NC: np.ndarray, probabilities_NC: np.ndarray) -> float:
    """cmAP: mean of `average_precisions` over classes with positives, as in BirdCLEF 2021-2023."""
    return _mean_defined(average_precisions(positives_NC, probabilities_NC))


def _mean_defined(values_C: np.ndarray) -> float:
    defined = values_C[~np.isnan(values_C)]
    return float(defined.mean()) if len(defined) else math.nan


def accuracy(primary_N: np.ndarray, probabilities_NC: np.ndarray) -> float:
    """Share of slices whose most probable class is the primary label of their recording."""
    if not len(primary_N):
        return math.nan
    return float((probabilities_NC.argmax(1) == primary_N).mean())


def balanced_accuracy(primary_N: np.ndarray, probabilities_NC: np.ndarray) -> float:
    """Mean recall over the primary labels that there are (Brodersen et al., ICPR 2010).

    The recall of a class is the accuracy on its slices, so a rare class counts as much as any.
    """
    if not len(primary_N):
        return math.nan
    num_classes = probabilities_NC.shape[1]
    is_right_N = probabilities_NC.argmax(1) == primary_N
    num_right_C = np.bincount(primary_N[is_right_N], minlength=num_classes)
    num_primary_C = np.bincount(primary_N, minlength=num_classes)
    there_C = num_primary_C > 0
    return float((num_right_C[there_C] / num_primary_C[there_C]).mean())


def _normalised_kl(slices: ScoredSlices) -> float:
    """KL of the shares of the probabilities; a slice with none of any class has equal shares."""
    probabilities_NC = slices.probabilities_NC
    if not len(probabilities_NC):
        return math.nan
    total_N1 = probabilities_NC.sum(1, keepdims=True)
    shares_NC = np.full_like(probabilities_NC, 1 / probabilities_NC.shape[1])
    np.divide(probabilities_NC, total_N1, out=shares_NC, where=total_N1 > 0)
    return kl_divergence(slices.targets_NC, shares_NC)


METRICS = {
    "kl": Metric(
        title="KL",
        compute=_normalised_kl,
        higher_is_better=False,
        needs_label=True,
        bar="KL",
        curve="KL divergence",
    ),
    "roc_auc": Metric(
        title="ROC-AUC",
        compute=lambda slices: macro_roc_auc(slices.positives_NC, slices.probabilities_NC),
        bar="AUC",
        curve="ROC-AUC",
    ),
    "cmap": Metric(
        title="cmAP",
        compute=lambda slices: macro_average_precision(
            slices.positives_NC, slices.probabilities_NC
        ),
        curve="cmAP",
    ),
    "accuracy": Metric(
        title="accuracy",
        compute=lambda slices: accuracy(slices.primary_N, slices.probabilities_NC),
        needs_label=True,
        bar="acc",
    ),
    "balanced_accuracy": Metric(
        title="BalAcc",  # columns of 6, so that the tables fit a terminal
        compute=lambda slices: balanced_accuracy(slices.primary_N, slices.probabilities_NC),
        needs_label=True,
    ),
}
TITLES = tuple(metric.title for metric in METRICS.values())
