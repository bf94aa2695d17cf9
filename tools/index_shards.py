"""Make the side index of a folder of tar shards from the tars alone.

    python -m tools.index_shards shards=data/shards
    python -m tools.index_shards shards=theirs index_shards.recordings=theirs/train.csv
    python -m tools.index_shards shards=theirs index_shards.member=mel.npy recipe.slice_s=10
    python -m tools.index_shards shards=theirs "index_shards.recording_pattern='^(.+)_[0-9]+$'"

For tars of melbank whose shards.json is lost or damaged, and for tars by any other program, such
as webdataset.ShardWriter, with .npy members (uint8, float16 or float32, [mel bands, frames], all
alike) and labels in .json, .cls or .txt members. Then they train like any other set: the tars stay
as they are. `recipe` says how slices made elsewhere were made. Exit code 1: a tar is damaged or
cannot be used; it is named. About 0.4 ms of CPU per slice.
"""

import sys
from dataclasses import dataclass, field

from datasets.shards.reindex import IndexConfig
from datasets.shards.reindex import index_shards as index
from storage.recipe import Recipe
from tools.cli.command import Arguments, Command, run
from tools.cli.config import ShardsSection
from tools.cli.progress_bars import bar


@dataclass(frozen=True, kw_only=True)
class Sections(ShardsSection):
    """Config sections of this command."""

    index_shards: IndexConfig = field(default_factory=IndexConfig)
    recipe: Recipe = field(default_factory=Recipe)


COMMAND = Command(doc=__doc__, sections=Sections)


def main(config: Sections, _: Arguments) -> None:
    """Indexes, prints a summary."""
    print(index(config.shards, config.recipe, config.index_shards, bar, config.remote).summary())


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
