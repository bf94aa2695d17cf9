"""Report of writing a shard set."""

from dataclasses import dataclass

from storage.share import Share


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardReport:
    """Result of a run: contents of the shard set, and changes.

    `num_dropped`: recordings that left the set. `num_dead`: slices in the tars that are no longer
    in the index. `num_relabelled`: recordings whose .json members have older labels. `unclosed`
    says what writers of other shares have still to do.
    """

    url: str
    num_shards: int = 0
    num_recordings: int = 0
    num_slices: int = 0
    size_bytes: int = 0
    new_shards: int
    num_dropped: int = 0
    num_dead: int = 0
    num_relabelled: int = 0
    unclosed: str = ""

    def summary(self) -> str:
        """Formats a few lines for the user."""
        if self.unclosed:
            return f"{self.url}: {self.unclosed}"
        lines = [
            f"{self.url}: {self.num_slices:,} slices of {self.num_recordings:,} recordings in "
            f"{self.num_shards:,} shards, {self.size_bytes / 1e6:,.1f} MB; "
            f"{self.new_shards:,} shards newly written"
        ]
        if self.num_dropped:
            lines.append(f"{self.num_dropped:,} recordings left the index: no longer wanted")
        if self.num_dead:
            lines.append(
                f"{self.num_dead:,} slices in the tars are not in the index; "
                "write_shards.fresh=true writes tars without them"
            )
        if self.num_relabelled:
            lines.append(
                f"{self.num_relabelled:,} recordings have older labels in their .json members "
                "than in recordings.parquet, which counts here"
            )
        return "\n".join(lines)


def report_share(url: str, share: Share, new_shards: int, num_left: int) -> ShardReport:
    """Reports on a share that is done while `num_left` shards of others are not."""
    left = f"{num_left:,} shards of other shares are not written yet"
    if not num_left:
        left = "others are at work"
    return ShardReport(
        url=url,
        new_shards=new_shards,
        unclosed=f"share {share} is done, {new_shards:,} shards newly written; {left}: the last "
        "share to end commits the set; after a kill, run its share again",
    )
