"""Make a store of the usual Kaggle folder, train_melspectrograms/{stem}/{slice_no}.npy.

    python -m tools.import_npy source.root=data store=data/imported
    python -m tools.import_npy source.npy_dir=mels recipe.fmin_hz=50 store=data/imported
    python -m tools.import_npy source.root=data source.npy_layout=id store=data/imported

The files hold values in [0, 1], [mel bands, frames]; source.root has the csv that names them.
`recipe` says how they were made: times and frequencies are read off it. The store trains like any
other. Slice numbers with gaps, NaN, other shapes: see rejects/. About 2 ms of CPU per slice.
"""

import sys
from dataclasses import dataclass, field

from storage.build import BuildConfig, build_store
from storage.npy_folder import foreign_recipe
from storage.recipe import Recipe
from storage.source import SourceConfig
from tools.bars import bar
from tools.command import Arguments, Command, run
from tools.config import LimitSection, StoreSection


@dataclass(frozen=True, kw_only=True)
class Sections(LimitSection, StoreSection):
    """What this command uses."""

    source: SourceConfig = field(default_factory=SourceConfig)
    recipe: Recipe = field(default_factory=Recipe)
    build: BuildConfig = field(default_factory=BuildConfig)


COMMAND = Command(doc=__doc__, sections=Sections)


def main(config: Sections, _: Arguments) -> int:
    """Imports, prints a summary; 1 where `build.strict` found something."""
    recipe = foreign_recipe(config.source, config.recipe)
    report = build_store(
        config.source, recipe, config.store, config.build, limit=config.limit, progress=bar
    )
    print(report.summary())
    if config.build.strict and len(report.rejects):
        print(f"error: build.strict and {len(report.rejects)} problems", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
