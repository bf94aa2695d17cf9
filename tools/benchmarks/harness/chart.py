"""Horizontal bars, side by side, as a PNG."""

import math
from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """One panel; `values` are next to `labels`, NaN where there is none."""

    title: str
    labels: tuple[str, ...]
    values: tuple[float, ...]
    logarithmic: bool = False


def write_bars(file: Path, *panels: Bars) -> None:
    """Draws panels that share their labels."""
    figure = Figure(figsize=(4.5 * len(panels) + 1.5, 0.42 * len(panels[0].labels) + 1.1), dpi=120)
    FigureCanvasAgg(figure)
    for place, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), place + 1)
        colours = ["#2a7f62" if "melbank" in label else "#9aa5b1" for label in panel.labels]
        drawn = axes.barh(range(len(panel.labels)), panel.values, color=colours)
        style = "{:.3g}" if panel.logarithmic else "{:,.0f}"
        texts = ["" if math.isnan(value) else style.format(value) for value in panel.values]
        axes.bar_label(drawn, labels=texts, padding=3)
        axes.set_yticks(range(len(panel.labels)), panel.labels if place == 0 else [])
        axes.invert_yaxis()
        if panel.logarithmic:
            axes.set_xscale("log")
        axes.margins(x=0.15)
        axes.set_title(panel.title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
