"""Write slices of a store as .npy files, one each: train_melspectrograms/{stem}/{slice_no}.npy.

    python -m tools.export_npy store=data/store export_npy.root=data/npy
    python -m tools.export_npy "export_npy.where='rating >= 3'" limit=100 export_npy.root=data/few

Normalised float32, for code that wants such a folder; next to it train.csv. Killed at any moment,
it goes on where it was. Takes about 5 times the space of the store.
"""

import sys
from dataclasses import dataclass, field

from datasets.slice_source import select_recordings
from storage.maintenance.npy_export import NpyExportConfig, export_npy
from storage.store import open_store
from tools.cli.command import Arguments, Command, run
from tools.cli.config import LimitSection, StoreSection
from tools.cli.progress_bars import bar


@dataclass(frozen=True, kw_only=True)
class Sections(LimitSection, StoreSection):
    """Config sections of this command."""

    export_npy: NpyExportConfig = field(default_factory=NpyExportConfig)


COMMAND = Command(doc=__doc__, sections=Sections)


def main(config: Sections, _: Arguments) -> None:
    """Exports, prints a summary."""
    with open_store(config.store, config.remote) as store:
        recordings = select_recordings(
            store.recordings(), where=config.export_npy.where, limit=config.limit
        )
        print(export_npy(store, recordings, config.export_npy, bar).summary())


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
