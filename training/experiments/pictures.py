"""Pictures of an experiment: how its folds learned, and how well it knows which classes.

    write_curves(preds / "log", preds / "curves.png", {0: 12, 1: 9})
    write_confusion(oof, names, preds / "confusion.png")
    write_classes(score_classes(oof, names), preds / "classes.png")

Half a second each. `oof` are predictions of recordings, `names` common names by label.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from polars.exceptions import NoDataError

from training.experiments.classes import NUM_SHOWN, SCORES, count_confusions, ranked_classes
from training.experiments.report import Held
from training.model.metrics import METRICS

CURVES = {
    "train_loss_epoch": "training loss",
    **{f"val_{key}": metric.curve for key, metric in METRICS.items() if metric.curve},
}
MAX_NAMES = 60  # more labels than that cannot be read next to a picture
NUM_PAIRS = 40


def write_curves(log: Path, target: Path, kept_epochs: Mapping[int, int]) -> None:
    """One panel per score, one line per fold, from the csv files below `log`.

    A star marks the epoch of each fold whose weights were kept, counted from 1.
    """
    folds: dict[str, list[pl.DataFrame]] = {}
    for file in sorted(log.rglob("metrics.csv"), key=lambda path: path.stat().st_mtime_ns):
        if (table := _read_log(file)) is not None:
            folds.setdefault(file.parent.name, []).append(table)
    tables = {name: pl.concat(parts, how="diagonal_relaxed") for name, parts in folds.items()}
    kept = {f"fold_{fold}": epoch for fold, epoch in kept_epochs.items()}
    figure = Figure((4.2 * len(CURVES), 3.4), dpi=110, layout="tight")
    for place, (column, title) in enumerate(CURVES.items(), start=1):
        axes = figure.add_subplot(1, len(CURVES), place)
        for name, table in sorted(tables.items()):
            if column in table.columns:
                _draw_curve(axes, name, table.select("epoch", score=column), kept.get(name))
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
    if figure.axes[0].lines:
        if kept:
            figure.axes[0].plot([], [], "*", color="grey", markersize=11, label="kept epoch")
        figure.axes[0].legend(fontsize=8)
    _save(figure, target)


def _save(figure: Figure, target: Path) -> None:
    """Writes a picture; a letter of a label that the font lacks is a box in it, without a word."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph ")
        figure.savefig(target, format="png")


def _draw_curve(axes: Axes, name: str, scores: pl.DataFrame, kept: int | None) -> None:
    # later lines of a resumed epoch count
    line = scores.drop_nulls().unique("epoch", keep="last").sort("epoch")
    line = line.with_columns(pl.col("epoch") + 1)
    (drawn,) = axes.plot(line["epoch"], line["score"], marker=".", label=name.replace("_", " "))
    star = line.filter(pl.col("epoch") == kept)
    axes.plot(star["epoch"], star["score"], "*", color=drawn.get_color(), markersize=11)


def _read_log(file: Path) -> pl.DataFrame | None:
    """Log of a training; None where a kill has left nothing usable."""
    try:
        table = pl.read_csv(file, infer_schema_length=None, glob=False)
    except NoDataError:
        return None
    return table if "epoch" in table.columns else None


def write_confusion(
    oof: pl.DataFrame, names: Mapping[str, str], target: Path, *, unit: str = "recordings"
) -> None:
    """Shares of each class's recordings, or windows, a row each, by the label that was predicted.

    More classes than can be named at the axes have the most confused pairs next to the matrix.
    """
    held = Held.of(oof)
    labels = [names.get(label, label) for label in held.labels.names]
    counts_CC = count_confusions(held)
    side = 3.0 + 0.16 * min(len(labels), MAX_NAMES)
    named = len(labels) <= MAX_NAMES
    widths = [side + 1.0] if named else [side + 1.0, 5.0]
    figure = Figure((sum(widths), side), dpi=110, layout="tight")
    columns = figure.add_gridspec(1, len(widths), width_ratios=widths)
    axes = figure.add_subplot(columns[0])
    shares_CC = counts_CC / counts_CC.sum(1, keepdims=True).clip(1)
    image = axes.imshow(shares_CC, cmap="viridis", vmin=0, vmax=1)
    if named:
        places = np.arange(len(labels))
        axes.set_xticks(places, labels, rotation=90, fontsize=7, parse_math=False)
        axes.set_yticks(places, labels, fontsize=7, parse_math=False)
    else:
        _list_pairs(figure.add_subplot(columns[1]), confused_pairs(counts_CC, labels))
    axes.set_xlabel("predicted label")
    axes.set_ylabel("primary label")
    figure.colorbar(image, ax=axes, label=f"share of the label's {unit}", shrink=0.8)
    _save(figure, target)


def confused_pairs(counts_CC: np.ndarray, names: Sequence[str]) -> list[str]:
    """Describes the classes that are most often taken for another: `7 of 9: owl as wren`."""
    wrong_CC = counts_CC.copy()
    np.fill_diagonal(wrong_CC, 0)
    totals_C = counts_CC.sum(1)
    share_CC = wrong_CC / totals_C[:, None].clip(1)
    order = np.lexsort((-share_CC.ravel(), -wrong_CC.ravel()))[:NUM_PAIRS]
    pairs = zip(*np.unravel_index(order, wrong_CC.shape), strict=True)
    return [
        f"{wrong_CC[true, predicted]} of {totals_C[true]}: {names[true]} as {names[predicted]}"
        for true, predicted in pairs
        if wrong_CC[true, predicted]
    ]


def _list_pairs(axes: Axes, pairs: Sequence[str]) -> None:
    axes.set_axis_off()
    axes.set_title(f"the {len(pairs)} most confused pairs", fontsize=10, loc="left")
    for number, pair in enumerate(pairs):
        height = 1 - (number + 0.5) / NUM_PAIRS
        axes.text(0, height, pair, fontsize=8, va="center", parse_math=False)


def write_classes(table: pl.DataFrame, target: Path) -> None:
    """Scores of the best and of the worst classes, from the table of `score_classes`."""
    ranked = ranked_classes(table)
    shown = [ranked.head(NUM_SHOWN)]
    if len(ranked) > NUM_SHOWN:
        shown.append(ranked[NUM_SHOWN:].tail(NUM_SHOWN))
    heights = [max(1, len(part)) for part in shown]
    figure = Figure((6.5, 1.2 + 0.28 * sum(heights)), dpi=110, layout="tight")
    grid = figure.add_gridspec(len(shown), 1, height_ratios=heights)
    for number, part in enumerate(shown):
        axes = figure.add_subplot(grid[number])
        title = ("best", "worst")[number]
        axes.set_title(f"{title} classes (recordings)", fontsize=10, loc="left")
        _draw_scores(axes, part)
    figure.axes[0].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    _save(figure, target)


def _draw_scores(axes: Axes, part: pl.DataFrame) -> None:
    places = np.arange(len(part))
    axes.barh(places, part["average_precision"], color="tab:blue", alpha=0.5, label="AP")
    for column, mark in (("roc_auc", "o"), ("f1", "x")):
        axes.plot(part[column], places, mark, label=SCORES[column])
    names = pl.format("{} ({})", pl.coalesce("common_name", "label"), "n").alias("name")
    axes.set_yticks(places, part.select(names)["name"].to_list(), fontsize=8, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.02)
    axes.grid(axis="x", alpha=0.3)
