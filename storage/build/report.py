"""Report of a build: the recordings that it found, and those that the store now holds."""

from dataclasses import dataclass, field
from typing import NamedTuple

import polars as pl

from storage.format.state import StoreState
from storage.format.tables import DUPLICATE, PARTIAL
from storage.share import Share
from storage.source.table import Source

MAX_SHOWN = 10


class BuildResult(NamedTuple):
    """Result of a build: new slices, recordings dropped, parts that other builders have left.

    `is_closed`: the store is complete, and this builder was the last one.
    """

    new_slices: int
    num_dropped: int
    num_left: int
    is_closed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """Summary of a build: what it found, and what the store now holds of it.

    `notes` and `disputed`: see `Source`. `unclosed` says what other builders have still to do.
    """

    url: str
    num_found: int
    num_stored: int
    num_partial: int
    num_rejected: int
    num_duplicates: int
    num_dropped: int
    num_unlisted: int
    num_slices: int
    new_slices: int
    audio_s: float
    wall_s: float
    rejects: pl.DataFrame = field(repr=False)
    notes: tuple[str, ...] = ()
    disputed: tuple[str, ...] = ()
    unclosed: str = ""

    @property
    def holds_nothing(self) -> bool:
        """True where not one recording could be stored."""
        return not self.unclosed and not self.num_stored + self.num_partial + self.num_duplicates

    def summary(self) -> str:
        """A few lines for the user."""
        if self.unclosed:
            return f"{self.url}: {self.unclosed}"
        lines = [
            f"{self.url}: {self.num_found:,} recordings found = {self.num_stored:,} stored + "
            f"{self.num_partial:,} partial + {self.num_rejected:,} rejected + "
            f"{self.num_duplicates:,} duplicates",
            f"{self.num_slices:,} slices of {self.audio_s / 3600:.2f} h of audio; "
            f"{self.new_slices:,} of them new, in {self.wall_s:.1f} s",
        ]
        if self.num_dropped:
            lines.append(f"{self.num_dropped:,} recordings left the store: the source lacks them")
        if self.num_unlisted:
            lines.append(f"{self.num_unlisted:,} recordings are not named in the csv: left out")
        shown = self.rejects.head(MAX_SHOWN)
        for name, partial, reason in shown.select("filename", "partial", "reason").iter_rows():
            lines.append(f"  {'partial' if partial else 'rejected'} {name}: {reason}")
        if len(self.rejects) > len(shown):
            lines.append(f"  ... and {len(self.rejects) - len(shown):,} more: see rejects/")
        lines += [f"  labels joined: {sentence}" for sentence in self.disputed[:MAX_SHOWN]]
        if len(self.disputed) > MAX_SHOWN:
            lines.append(f"  ... and {len(self.disputed) - MAX_SHOWN:,} more of these")
        lines += [f"note: {sentence}" for sentence in self.notes]
        return "\n".join(lines)


def report_build(
    source: Source,
    wanted: pl.DataFrame,
    state: StoreState,
    *,
    url: str,
    result: BuildResult,
    share: Share | None,
    wall_s: float,
) -> BuildReport:
    """Reports on the wanted recordings, by the state of the store after the build."""
    keys = ["recording_id", "filename"]
    live = state.live_recordings().join(wanted, on=keys, how="semi")
    rejects = state.rejects.join(wanted, on=keys, how="semi")
    gone = rejects.filter(~pl.col("partial")).join(live, on=keys, how="anti")
    kept = live.filter(pl.col("status") != DUPLICATE)
    num_partial = int((live["status"] == PARTIAL).sum())
    return BuildReport(
        url=url,
        num_found=len(wanted),
        num_stored=len(kept) - num_partial,
        num_partial=num_partial,
        num_rejected=len(gone),
        num_duplicates=len(live) - len(kept),
        num_dropped=result.num_dropped,
        num_unlisted=source.num_unlisted,
        num_slices=int(kept["num_slices"].sum()),
        new_slices=result.new_slices,
        audio_s=float(kept["duration_s"].sum()),
        wall_s=wall_s,
        rejects=rejects,
        notes=(*source.notes, *_empty_classes(wanted, kept)),
        disputed=source.disputed,
        unclosed="" if result.is_closed else _unclosed(result, share, wall_s),
    )


def _unclosed(result: BuildResult, share: Share | None, wall_s: float) -> str:
    """Sentence on a share that is done while others are not."""
    left = f"{result.num_left:,} parts of other shares are not built yet"
    if not result.num_left:
        left = "others are at work"
    return (
        f"share {share} is done, {result.new_slices:,} new slices in {wall_s:.1f} s; {left}: the "
        "last share to end closes the store; after a kill, run its share again"
    )


def _empty_classes(wanted: pl.DataFrame, kept: pl.DataFrame) -> list[str]:
    """Sentence on the classes of the source of which no recording is stored."""
    classes = set(wanted["primary_label"].drop_nulls())
    empty = sorted(classes - set(kept["primary_label"].drop_nulls()))
    if not empty:
        return []
    more = f" and {len(empty) - MAX_SHOWN:,} more" if len(empty) > MAX_SHOWN else ""
    return [
        f"no recording is stored of {len(empty):,} of {len(classes):,} classes: "
        f"{', '.join(empty[:MAX_SHOWN])}{more}"
    ]
