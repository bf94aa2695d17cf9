"""Horizontal bars, side by side, as a PNG in docs/."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path


def write_bars(
    name: str,
    caption: str,
    labels: Sequence[str],
    panels: Mapping[str, Sequence[float]],
    *,
    logarithmic: bool = False,
) -> str:
    """Draws panels, values by title next to shared labels, NaN where there is none.

    Returns the Markdown that shows the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # a second, not for `--help`
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(panels) + 1.5, 0.42 * len(labels) + 1.1), dpi=120)
    FigureCanvasAgg(figure)
    colours = ["#2a7f62" if "melbank" in label else "#9aa5b1" for label in labels]
    style = "{:.3g}" if logarithmic else "{:,.0f}"
    for place, (title, values) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), place + 1)
        drawn = axes.barh(range(len(labels)), values, color=colours)
        texts = ["" if math.isnan(value) else style.format(value) for value in values]
        axes.bar_label(drawn, labels=texts, padding=3)
        axes.set_yticks(range(len(labels)), labels if place == 0 else [])
        axes.invert_yaxis()
        if logarithmic:
            axes.set_xscale("log")
        axes.margins(x=0.15)
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    file = Path("docs") / f"benchmark_{name.replace(' ', '_')}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
    return f"![{caption}]({file.name})"
