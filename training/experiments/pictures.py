"""Two pictures of an experiment: how its folds learned, and which classes are taken for which.

    write_curves(preds / "log", preds / "curves.png")
    write_confusion(preds / "oof_recordings.parquet", labels, preds / "confusion.png")

Half a second each.
"""

from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from polars.exceptions import NoDataError
from sklearn.metrics import confusion_matrix

from datasets.labels import Labels
from training.model.metrics import METRICS

CURVES = {
    "train_loss_epoch": "training loss",
    **{f"val_{key}": metric.curve for key, metric in METRICS.items() if metric.curve},
}
MAX_NAMES = 60  # more labels than that cannot be read next to a picture


def write_curves(log: Path, target: Path) -> None:
    """One panel per score, one line per fold, from the csv files below `log`."""
    folds: dict[str, list[pl.DataFrame]] = {}
    for file in sorted(log.rglob("metrics.csv"), key=lambda path: path.stat().st_mtime_ns):
        if (table := _read_log(file)) is not None:
            folds.setdefault(file.parent.name, []).append(table)
    figure = Figure((4.2 * len(CURVES), 3.4), dpi=110, layout="tight")
    for place, (column, title) in enumerate(CURVES.items(), start=1):
        axes = figure.add_subplot(1, len(CURVES), place)
        for name, parts in sorted(folds.items()):
            table = pl.concat(parts, how="diagonal_relaxed")
            if column in table.columns:  # later lines of a resumed epoch count
                line = table.drop_nulls(column).unique("epoch", keep="last").sort("epoch")
                axes.plot(line["epoch"] + 1, line[column], marker=".", label=name.replace("_", " "))
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
    if figure.axes[0].lines:
        figure.axes[0].legend(fontsize=8)
    figure.savefig(target, format="png")


def _read_log(file: Path) -> pl.DataFrame | None:
    """Log of a training; None where a kill has left nothing usable."""
    try:
        table = pl.read_csv(file, infer_schema_length=None)
    except NoDataError:
        return None
    return table if "epoch" in table.columns else None


def write_confusion(oof_file: Path, labels: Labels, target: Path) -> None:
    """Shares of each label's recordings, a row each, by the label that they were taken for."""
    oof, names = pl.read_parquet(oof_file), np.array(labels.names)
    predicted_R = names[oof.select(f"p_{name}" for name in names).to_numpy().argmax(1)]
    primary_R = oof["target"].list.first().to_numpy()
    shares_CC = confusion_matrix(primary_R, predicted_R, labels=names, normalize="true")
    side = 3.0 + 0.16 * min(len(labels), MAX_NAMES)
    figure = Figure((side + 1.0, side), dpi=110, layout="tight")
    axes = figure.add_subplot()
    image = axes.imshow(shares_CC, cmap="viridis", vmin=0, vmax=1)
    if len(labels) <= MAX_NAMES:
        places = np.arange(len(labels))
        axes.set_xticks(places, labels.names, rotation=90, fontsize=7, parse_math=False)
        axes.set_yticks(places, labels.names, fontsize=7, parse_math=False)
    axes.set_xlabel("taken for")
    axes.set_ylabel("primary label")
    figure.colorbar(image, label="share of the label's recordings")
    figure.savefig(target, format="png")
