"""Write a store as plain tar shards that any WebDataset reader understands.

    python -m tools.write_shards store=data/store shards=data/shards
    python -m tools.write_shards shards=data/good "write_shards.where='rating >= 3'"
    python -m tools.write_shards shards=data/small limit=100
    python -m tools.write_shards write_shards.fresh=true
    python -m tools.write_shards store=s3://birds/store shards=s3://birds/shards \\
        write_shards.part=3/16

Run again after the store has grown, it puts new and changed recordings into new shards and leaves
finished ones as they are; what has left the store leaves the index, and new labels go into
recordings.parquet alone. Killed at any moment, it goes on where it was. With write_shards.part,
each of sixteen processes writes its share of the tars, and the last one to end commits the set.
About 0.3 ms of CPU per slice; the shards take 1.4 times the space of the store, since nothing in
them is compressed. Exit code 1: a slice of the store is damaged, or the disk is full; 2: the folder
holds other shards.
"""

import sys
from dataclasses import dataclass, field

from datasets.shards.writer import ShardConfig
from datasets.shards.writer import write_shards as write
from storage.store import open_store
from tools.cli.command import Arguments, Command, run
from tools.cli.config import LimitSection, ShardsSection, StoreSection
from tools.cli.progress_bars import bar


@dataclass(frozen=True, kw_only=True)
class Sections(LimitSection, ShardsSection, StoreSection):
    """Config sections of this command."""

    write_shards: ShardConfig = field(default_factory=ShardConfig)


COMMAND = Command(doc=__doc__, sections=Sections)


def main(config: Sections, _: Arguments) -> None:
    """Writes, prints a summary."""
    with open_store(config.store, config.remote) as store:
        report = write(store, config.shards, config.write_shards, limit=config.limit, progress=bar)
    print(report.summary())


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
