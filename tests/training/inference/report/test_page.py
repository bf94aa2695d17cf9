"""training.inference.report: text is escaped, images are within the page, calibration by hand."""

from html.parser import HTMLParser

import numpy as np
import polars as pl

from training.inference.report.experiment_part import calibration
from training.inference.report.page import Part, histogram, page, picture, table


class Tags(HTMLParser):
    """All tags of a page, and whether they are closed in order."""

    EMPTY = ("meta", "img", "rect")

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *one) for one in attrs]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.EMPTY:
            assert self.open.pop() == tag


def test_a_page_is_closed_escapes_text_and_loads_nothing():
    hostile = '<script src="http://x/y.js">"&\''
    html = (
        table([{hostile: hostile, "n": 3.0}, {hostile: None, "n": None}], bar="n")
        + picture(b"\x00", "png", hostile, caption=hostile)
        + histogram(np.array([1.0, 2.0, np.nan]), hostile, hostile)
    )
    found = Tags(page(hostile, hostile, [Part(name="a", title=hostile, html=html)]))
    assert found.open == []
    assert not [tag for tag, *_ in found.attributes if tag == "script"]
    for _, name, value in found.attributes:
        if name in ("src", "href"):
            assert value.startswith(("data:", "#"))


def test_an_empty_table_or_histogram_is_said_or_left_out():
    assert "None." in table([])
    assert histogram(np.array([np.nan]), "t", "s") == ""


def test_calibration_counts_by_score_and_weighs_the_differences():
    frame = pl.DataFrame(
        {
            "score": [0.55, 0.55, 0.95, 1.0],
            "predicted": ["a", "a", "b", "b"],
            "label": ["a", "b", "b", "b"],
        }
    )
    html = calibration(frame)
    assert "0.5 to 0.6" in html
    assert "0.9 to 1.0" in html
    # |0.5 - 0.55| and |1 - 0.975|, half of the recordings each
    assert "Expected calibration error 0.037" in html or "error 0.038" in html
