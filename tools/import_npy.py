"""Make a store of the usual Kaggle folder, train_melspectrograms/{stem}/{slice_no}.npy.

    python -m tools.import_npy source.root=data store=data/imported
    python -m tools.import_npy source.npy_dir=mels recipe.fmin_hz=50 store=data/imported
    python -m tools.import_npy source.root=data source.npy_layout=id store=data/imported

The files hold values in [0, 1], [mel bands, frames]; source.root has the csv that names them.
`recipe` says how they were made: times and frequencies are read off it. The store trains like any
other. Slice numbers with gaps, NaN, other shapes: see rejects/. About 2 ms of CPU per slice.
"""

import sys

from storage.source.npy_folder import foreign_recipe
from tools.cli.building import BuildSections, build
from tools.cli.command import Arguments, Command, run

COMMAND = Command(doc=__doc__, sections=BuildSections)


def main(config: BuildSections, _: Arguments) -> int:
    """Imports, prints a summary; 1 where `build.strict` found something."""
    return build(config, foreign_recipe(config.source, config.recipe))


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
