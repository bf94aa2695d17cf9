"""Build a mel store from a folder of recordings, or bring one up to date.

    python -m tools.build_store source.root=data store=data/store
    python -m tools.build_store source.root=data limit=100 store=data/small
    python -m tools.build_store source.root=data store=data/store --dry-run
    python -m tools.build_store source.root=sounds source.csv=none recipe.slice_s=3
    python -m tools.build_store source.root=data build.executor=dask://HOST:8786
    python -m tools.build_store source.root=data store=s3://birds/store build.part=3/16
    python -m tools.build_store source.root=data build.part=1/16 --dry-run

The source has train.csv and train_audio/ as in BirdCLEF, or a folder per label. Killed at any
moment, it goes on where it was. About 0.2 s of CPU per minute of audio. With build.part, each of
sixteen processes, on as many machines, builds its share of one store on a shared disk or in a
bucket; the last one to end closes it. A dry run forecasts the time of all of them.
"""

import sys
from dataclasses import replace

from storage.build.forecast import forecast_build
from storage.build.rounds import open_build
from tools.cli.building import BuildSections, build
from tools.cli.command import Arguments, Command, run
from tools.cli.progress_bars import bar

COMMAND = Command(
    doc=__doc__,
    sections=BuildSections,
    flags=(
        ("--dry-run", {"action": "store_true", "help": "say what would be done, and do nothing"}),
    ),
)


def main(config: BuildSections, arguments: Arguments) -> int:
    """Builds, or says what would be done."""
    if arguments.dry_run:
        build_ahead = open_build(
            config.source,
            config.recipe,
            config.store,
            replace(config.build, part=None),  # probes alone, and writes nothing
            limit=config.limit,
            progress=bar,
            remote=config.remote,
        )
        print(forecast_build(build_ahead, config.build.share))
        return 0
    return build(config, config.recipe)


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
