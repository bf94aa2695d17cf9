"""Pictures of evaluations and calibrations: precision and recall, reliability.

Shapes: N windows, C classes.
"""

import warnings
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.inference.evaluation.evaluate import Evaluation
from training.inference.evaluation.thresholds import expected_calibration_error, reliability

NUM_NAMED = 8  # classes with a colour and a name, those of most windows
Curve = tuple[np.ndarray, np.ndarray]


def write_precision_recall(evaluation: Evaluation, target: Path) -> None:
    """Curves of all cells together, of each class, and the names of the most frequent classes."""
    positives_NC, scores_NC = evaluation.positives_NC, evaluation.probabilities_NC
    figure = Figure((7.5, 5), dpi=110, layout="tight")
    axes = figure.add_subplot()
    num_C = positives_NC.sum(0)
    order = np.argsort(-num_C, kind="stable")
    for rank, place in enumerate(order[num_C[order] > 0]):
        recall, precision = precision_recall(positives_NC[:, place], scores_NC[:, place])
        label = evaluation.classes.labels[place]
        if rank < NUM_NAMED:
            name = evaluation.classes.name(label, "common_name")
            axes.plot(recall, precision, linewidth=1.2, label=f"{name} ({num_C[place]})")
        else:
            axes.plot(recall, precision, color="grey", linewidth=0.5, alpha=0.4)
    if positives_NC.any():
        recall, precision = precision_recall(positives_NC.ravel(), scores_NC.ravel())
        axes.plot(recall, precision, color="black", linewidth=2, label="all classes together")
        _name_lines(axes)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.set_xlim(0, 1.01)
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    _save(figure, target)


def precision_recall(positive_N: np.ndarray, scores_N: np.ndarray) -> Curve:
    """Recall and precision at each score, the highest first."""
    order = np.argsort(-scores_N, kind="stable")
    scores, right = scores_N[order], np.cumsum(positive_N[order])
    last = np.append(scores[1:] < scores[:-1], True)
    number = np.arange(1, len(scores) + 1)
    return right[last] / max(1, int(right[-1])), right[last] / number[last]


def write_reliability(
    before: np.ndarray, after: np.ndarray, positives: np.ndarray, target: Path
) -> None:
    """Share of positives by score, before and after calibration, with the sizes of the bins."""
    figure = Figure((5.5, 5.5), dpi=110, layout="tight")
    grid = figure.add_gridspec(2, 1, height_ratios=(3, 1))
    axes, sizes = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--")
    for name, scores, mark in (("as predicted", before, "o"), ("calibrated", after, "s")):
        centres, shares, counts = reliability(scores, positives)
        error = expected_calibration_error(scores, positives)
        axes.plot(centres, shares, marker=mark, label=f"{name}: expected error {error:.3f}")
        sizes.plot(centres, counts, marker=mark)
    axes.set_ylabel("share of positives")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left")
    sizes.set_yscale("log")
    sizes.set_xlim(0, 1)
    sizes.set_xlabel("score")
    sizes.set_ylabel("cells")
    sizes.grid(alpha=0.3)
    _save(figure, target)


def _name_lines(axes: Axes) -> None:
    legend = axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    for text in legend.get_texts():
        text.set_parse_math(False)


def _save(figure: Figure, target: Path) -> None:
    """Writes a picture; a letter of a label that the font lacks is a box in it, without a word."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph ")
        figure.savefig(target, format="png")
