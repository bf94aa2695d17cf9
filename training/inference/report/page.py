"""HTML of a report: sections, tables with bars, histograms, pictures; all within one file.

All text is escaped here. Follows the reader's light or dark scheme, and prints on white.
"""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

STYLE = """
:root { color-scheme: light dark; --text: #1b1b1b; --paper: #fff; --faint: #5c5c5c;
  --rule: #d4d4d4; --bar: #8a4fa0; }
@media (prefers-color-scheme: dark) {
  :root { --text: #ececec; --paper: #16161a; --faint: #b0b0b0; --rule: #3c3c44; --bar: #c58ad9; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--paper);
  max-width: 70rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem;
  border-bottom: 1px solid var(--rule); } h3 { font-size: 1rem; margin-bottom: 0.3rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.9rem; }
th, td { padding: 0.15rem 0.7rem 0.15rem 0; text-align: left; vertical-align: top; }
th { border-bottom: 1px solid var(--rule); } td.number, th.number { text-align: right;
  font-variant-numeric: tabular-nums; }
.bar { display: inline-block; height: 0.7rem; background: var(--bar); }
.note { color: var(--faint); } figure { display: inline-block; margin: 0 0.6rem 0.6rem 0;
  vertical-align: top; }
figcaption { font-size: 0.75rem; color: var(--faint); overflow-wrap: anywhere; }
img, svg { max-width: 100%; } figure.small { width: 156px; }
svg text { fill: var(--text); font-size: 11px; }
svg rect { fill: var(--bar); } nav a { margin-right: 1rem; color: inherit; }
@media print { :root { --text: #000; --paper: #fff; --faint: #444; --rule: #bbb; --bar: #8a4fa0; }
  body { max-width: none; font-size: 11px; } nav { display: none; }
  h2 { break-after: avoid; } figure, tr, svg { break-inside: avoid; } }
"""
CHART = (320, 120)  # of a histogram, pixels
MARGIN = 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One section: an id for links, a title, and its HTML."""

    name: str
    title: str
    html: str


def page(title: str, note: str, parts: Sequence[Part]) -> str:
    """The whole document."""
    links = "".join(f'<a href="#{part.name}">{escape(part.title)}</a>' for part in parts)
    body = "".join(
        f'<section id="{part.name}"><h2>{escape(part.title)}</h2>{part.html}</section>'
        for part in parts
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f'<h1>{escape(title)}</h1><p class="note">{escape(note)}</p>'
        f"<nav>{links}</nav><main>{body}</main></body></html>\n"
    )


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def heading(text: str) -> str:
    """A heading within a section."""
    return f"<h3>{escape(text)}</h3>"


def table(rows: Sequence[Mapping[str, Any]], *, bar: str = "") -> str:
    """A table of rows with equal keys; the column `bar` is also drawn."""
    if not rows:
        return paragraph("None.")
    names = list(rows[0])
    numeric = {name for name in names if all(_is_number(row[name]) for row in rows)}
    largest = max((float(row[bar] or 0) for row in rows), default=0.0) if bar else 0.0
    head = "".join(_cell("th", name.replace("_", " "), name in numeric) for name in names)
    body = "".join(
        f"<tr>{_cells(row, names, numeric)}{_bar(row, bar, largest)}</tr>" for row in rows
    )
    more = "<th></th>" if bar else ""
    return f'<div class="scroll"><table><tr>{head}{more}</tr>{body}</table></div>'


def picture(data: bytes, kind: str, text: str, *, caption: str = "", width: int = 0) -> str:
    """An image within the page; `text` describes it to those who cannot see it."""
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    size, style = (f' width="{width}"', ' class="small"') if width else ("", "")
    image = f'<img src="{source}" alt="{escape(text)}"{size} loading="lazy">'
    return f"<figure{style}>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def histogram(values: np.ndarray, title: str, unit: str, *, bins: int = 24) -> str:
    """An SVG histogram of finite values, with its range below it."""
    values = values[np.isfinite(values)]
    if not len(values):
        return ""
    counts, edges = np.histogram(values, bins=bins)
    width, height = CHART
    step, most = width / bins, max(1, int(counts.max()))
    bars = "".join(
        f'<rect x="{number * step:.1f}" y="{height - height * count / most:.1f}" '
        f'width="{step - 1:.1f}" height="{height * count / most:.1f}"/>'
        for number, count in enumerate(counts.tolist())
    )
    low, high = shown(float(edges[0])), shown(float(edges[-1]))
    middle = shown(float(np.median(values)))
    text = f"{title}: {len(values):,} values from {low} to {high} {unit}, median {middle} {unit}"
    return (
        f'<figure><svg width="{width}" height="{height + MARGIN}" role="img" '
        f'aria-label="{escape(text)}">{bars}<text x="0" y="{height + 14}">{low}</text>'
        f'<text x="{width}" y="{height + 14}" text-anchor="end">{high} {escape(unit)}</text></svg>'
        f"<figcaption>{escape(title)}, median {middle} {escape(unit)}</figcaption></figure>"
    )


def shown(value: Any) -> str:
    """A value as text: numbers with separators and three digits, `-` for none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _cells(row: Mapping[str, Any], names: Iterable[str], numeric: set[str]) -> str:
    return "".join(_cell("td", shown(row[name]), name in numeric) for name in names)


def _cell(tag: str, text: str, is_number: bool) -> str:
    kind = ' class="number"' if is_number else ""
    return f"<{tag}{kind}>{escape(text)}</{tag}>"


def _bar(row: Mapping[str, Any], name: str, largest: float) -> str:
    if not name:
        return ""
    width = 160 * float(row[name] or 0) / largest if largest else 0.0
    return f'<td><span class="bar" style="width:{width:.0f}px"></span></td>'
