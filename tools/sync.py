"""Copy a store or a set of shards to another place, or bring the copy up to date.

    python -m tools.sync data/store s3://bucket/store
    python -m tools.sync s3://bucket/shards /scratch/shards
    python -m tools.sync data/shards s3://bucket/shards --dry-run
    python -m tools.sync data/store s3://bucket/store --delete sync.in_flight=8

Places are folders and s3://, gs://, az:// URLs; http:// and https:// can be copied from. Objects
that are there with equal bytes are left alone; all that is copied is held against its checksum
before and after. Killed at any moment, the copy is what it was, or opens for nobody until the same
command has been run again. Needs memory for sync.in_flight objects, 30 MB each for a store.
Exit code 1: the source is damaged, or a server cannot be reached; 2: the target is something else.
"""

import sys
from dataclasses import dataclass, field

from datasets.shards.copy import SHARDS
from storage.errors import StoreError
from storage.maintenance.copy import STORE
from storage.objects.open import open_objects
from storage.objects.protocol import Objects
from storage.objects.sync import SetKind, Sync, SyncConfig
from tools.cli.command import Arguments, Command, run
from tools.cli.config import RemoteSection
from tools.cli.progress_bars import bar


@dataclass(frozen=True, kw_only=True)
class Sections(RemoteSection):
    """Config sections of this command."""

    sync: SyncConfig = field(default_factory=SyncConfig)


COMMAND = Command(
    doc=__doc__,
    sections=Sections,
    flags=(
        ("source", {"metavar": "FROM", "help": "folder or URL of a store or of tar shards"}),
        ("target", {"metavar": "TO", "help": "folder or URL of the copy"}),
        ("--delete", {"action": "store_true", "help": "delete in TO what FROM has no more"}),
        ("--dry-run", {"action": "store_true", "help": "compare and tell, change nothing"}),
    ),
)


def main(config: Sections, arguments: Arguments) -> None:
    """Copies, prints a summary."""
    kind = kind_of(open_objects(arguments.source, remote=config.remote))
    sync = Sync(
        kind=kind,
        source=open_objects(arguments.source, kind.listing, remote=config.remote),
        target=open_objects(arguments.target, kind.listing, remote=config.remote),
        config=config.sync,
        progress=bar,
    )
    print(sync.run(delete=arguments.delete, dry_run=arguments.dry_run).summary())


def kind_of(objects: Objects) -> SetKind:
    """Returns the kind of a set, a store or a shard set; raises StoreError where it is neither."""
    for kind in (STORE, SHARDS):
        if objects.exists(kind.head):
            return kind
    raise StoreError(
        f"{objects.url} is neither a store nor a shard set: it has no {STORE.head} and no "
        f"{SHARDS.head}; give the folder itself that has one"
    )


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
