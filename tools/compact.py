"""Free the space of slices that are no longer in the index, and of interrupted work.

    python -m tools.compact store=data/store

Only zarr shards without a single live slice go; rows keep their numbers.
"""

import sys

from storage.maintenance.compact import compact_store
from tools.cli.command import Arguments, Command, run
from tools.cli.config import StoreSection

COMMAND = Command(doc=__doc__, sections=StoreSection)


def main(config: StoreSection, _: Arguments) -> None:
    """Compacts, prints what went."""
    print(compact_store(config.store, config.remote).summary())


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
