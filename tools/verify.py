"""Check a store, and its shards, down to the last byte; repair what can be repaired.

    python -m tools.verify store=data/store
    python -m tools.verify store=data/store shards=data/shards
    python -m tools.verify store=none shards=data/shards
    python -m tools.verify store=data/store source.root=data --repair

Exit code 0: all valid. 1: damage was found (and, with --repair, not all of it could be repaired).
About 0.1 ms of CPU per slice. Repairing needs the audio, and gives back the same rows.
"""

import sys
from dataclasses import dataclass, field

from datasets.shards.verify import verify_shards
from storage.maintenance.repair import repair_store
from storage.maintenance.verify import verify_store
from storage.options import option
from storage.source.table import SourceConfig
from tools.cli.command import Arguments, Command, run
from tools.cli.config import StoreSection
from tools.cli.progress_bars import bar


@dataclass(frozen=True, kw_only=True)
class Sections(StoreSection):
    """Config sections of this command."""

    shards: str = option("", "folder of tar shards to compare with the store as well")
    source: SourceConfig = field(default_factory=SourceConfig)


COMMAND = Command(
    doc=__doc__,
    sections=Sections,
    flags=(
        (
            "--repair",
            {"action": "store_true", "help": "build damaged parts again from their audio"},
        ),
    ),
)


def main(config: Sections, arguments: Arguments) -> int:
    """Prints what was found; 1 where damage is left."""
    if config.store == "none" and config.shards:
        alone = verify_shards(config.shards, None, bar, config.remote)
        print(alone.summary())
        return int(bool(alone.damage))
    report = verify_store(config.store, bar, config.remote)
    print(report.summary())
    if report.damage and arguments.repair:
        print(repair_store(config.source, report, bar, config.remote).summary())
        report = verify_store(config.store, bar, config.remote)
        print(report.summary())
    if config.shards and not report.damage:
        shards = verify_shards(config.shards, config.store, bar, config.remote)
        print(shards.summary())
        return int(bool(report.damage or shards.damage))
    return int(bool(report.damage))


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
