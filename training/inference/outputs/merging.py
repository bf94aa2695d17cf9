"""Joins detections of one class in neighbouring windows.

Two detections of a class are joined where the later one begins at most `gap_s` after the earlier
one ends; windows that touch or overlap have a gap of 0 or less. The joined detection begins with
its first window and ends with its last; its score is the highest of them.
"""

from dataclasses import dataclass

import numpy as np

TOLERANCE_S = 1e-6  # of sums of window lengths in float64; a sample at 500 kHz is longer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spans:
    """N detections of a recording as arrays [N]: times in s, scores, places of the classes."""

    start_s: np.ndarray  # float64
    end_s: np.ndarray  # float64
    score: np.ndarray  # float32
    place: np.ndarray  # int64, in the table of classes

    def take(self, rows: np.ndarray) -> "Spans":
        """Returns some detections, by number or by mask."""
        return Spans(
            start_s=self.start_s[rows],
            end_s=self.end_s[rows],
            score=self.score[rows],
            place=self.place[rows],
        )


def merge_spans(spans: Spans, gap_s: float) -> Spans:
    """Joins detections, in order of class and start."""
    spans = spans.take(np.lexsort((spans.start_s, spans.place)))
    if not len(spans.start_s):
        return spans
    # All windows of a run have one length, so the end of the window before is the latest so far.
    is_first = np.ones(len(spans.start_s), bool)
    gaps_s = spans.start_s[1:] - spans.end_s[:-1]
    is_first[1:] = (np.diff(spans.place) != 0) | (gaps_s > gap_s + TOLERANCE_S)
    firsts = np.flatnonzero(is_first)
    return Spans(
        start_s=spans.start_s[firsts],
        end_s=np.maximum.reduceat(spans.end_s, firsts),
        score=np.maximum.reduceat(spans.score, firsts),
        place=spans.place[firsts],
    )
