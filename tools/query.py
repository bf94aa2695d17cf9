"""Look into a store with SQL: a table, a picture, files of sound and labels, or arrays.

    python -m tools.query --sql "SELECT primary_label, COUNT(*) AS n FROM slices GROUP BY ALL"
    python -m tools.query --sql "SELECT * FROM slices WHERE max_db > 0" --limit 12 --png sheet.png
    python -m tools.query --sql "SELECT row FROM slices WHERE slice_no = 0" --npy first.npy
    python -m tools.query --name loudest --limit 20 --wav loudest source.root=data
    python -m tools.query --name mislabelled query.experiment=exp_003 --csv suspects.csv

`slices` is the slice index joined with its recording's columns, `recordings` has one row each;
further tables are taxonomy, duplicates, rejects, and those of results that query.* names
(docs/queries.md). Named queries:

{named}
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from storage.errors import ConfigError
from storage.objects.urls import is_remote
from storage.read.sql import collect, select
from storage.source.table import SourceConfig
from storage.store import Store, open_store
from tools.cli.command import Arguments, Command, run
from tools.cli.config import StoreSection
from tools.cli.output_files import check_output, make_folder
from tools.cli.slice_files.outputs import FLAGS, check_outputs, print_table, write_outputs
from training.experiments.experiment import ExperimentConfig
from training.experiments.places import local_experiments
from training.inference.queries.config import QueryConfig
from training.inference.queries.named import NAMED, find_named
from training.inference.queries.tables import open_tables

ALL_SLICES = "SELECT * FROM slices"
LIST = "\n".join(f"    {name:<12} {query.answers}" for name, query in NAMED.items())


@dataclass(frozen=True, kw_only=True)
class Sections(StoreSection):
    """Config sections of this command."""

    query: QueryConfig = field(default_factory=QueryConfig)
    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)
    source: SourceConfig = field(default_factory=SourceConfig)


COMMAND = Command(
    doc=__doc__.format(named=LIST),
    sections=Sections,
    flags=(
        ("--sql", {"help": f"one SELECT (default: {ALL_SLICES})"}),
        ("--name", {"help": "a named query instead, such as loudest"}),
        ("--limit", {"type": int, "metavar": "N", "help": "at most N rows"}),
        *FLAGS,
        ("--wav", {"metavar": "FOLDER", "help": "excerpts of the recordings; needs source.root="}),
        ("--raven", {"metavar": "FILE", "help": "the slices as a Raven selection table"}),
        ("--audacity", {"metavar": "FOLDER", "help": "an Audacity label track per recording"}),
        (
            "--gallery",
            {
                "metavar": "FILE",
                "help": "Parquet with pictures for Embedding Atlas, Spotlight; needs query.map=",
            },
        ),
    ),
)


def main(config: Sections, arguments: Arguments) -> None:
    """Runs one query and writes what was asked for; prints the table's head."""
    if arguments.limit is not None and arguments.limit < 1:
        raise ConfigError(f"--limit {arguments.limit} must be at least 1")
    if arguments.sql and arguments.name:
        raise ConfigError("--sql and --name are two queries: give one")
    check_outputs(arguments)
    check_output("--raven", arguments.raven)
    check_output("--gallery", arguments.gallery)
    if arguments.gallery and not config.query.map:
        raise ConfigError("--gallery needs query.map=, a file of python -m tools.similar --map")
    for flag in ("wav", "audacity"):
        if folder := getattr(arguments, flag):
            make_folder(f"--{flag}", Path(folder))
    with open_store(config.store, config.remote) as store:
        names = [config.query.experiment] if config.query.experiment else []
        root = local_experiments(config.experiment, config.remote, names)
        tables = open_tables(store, config.query, root=root)
        found = select(_sql(config, arguments, store), tables)
        table = collect(found.head(arguments.limit) if arguments.limit else found)
        print_table(table)
        write_outputs(arguments, store, table)
        _write_sound(config, arguments, store, table)
        if arguments.gallery:
            _write_gallery(config, Path(arguments.gallery), store, table, tables["map"])


def _sql(config: Sections, arguments: Arguments, store: Store) -> str:
    """The SELECT to run; ConfigError where a named query lacks its tables or columns."""
    if not arguments.name:
        return arguments.sql or ALL_SLICES
    named = find_named(arguments.name)
    if named.needs_experiment and not config.query.experiment:
        raise ConfigError(f"--name {arguments.name} needs query.experiment=, as in exp_003")
    missing = [name for name in named.columns if name not in store.recordings().columns]
    if missing:
        raise ConfigError(
            f"--name {arguments.name} needs the columns {' and '.join(named.columns)} of the "
            f"recordings, and {store.url} has no {' and no '.join(missing)}: they come from the "
            "csv, or from names of files as recorders give them"
        )
    return named.sql


def _write_sound(config: Sections, arguments: Arguments, store: Store, table: pl.DataFrame) -> None:
    """Writes the excerpts and label files that were asked for."""
    if not (arguments.wav or arguments.raven or arguments.audacity):
        return
    from tools.cli.slice_files import audio  # libsndfile's import

    spans = audio.slice_spans(store, table)
    if arguments.raven:
        recipe = store.recipe
        band_hz = (recipe.fmin_hz, recipe.fmax_hz)
        audio.write_raven(spans, Path(arguments.raven), band_hz)
        print(f"raven: {arguments.raven}")
    if arguments.audacity:
        audio.write_audacity(spans, Path(arguments.audacity))
        print(f"audacity: {arguments.audacity}")
    if arguments.wav:
        folder = Path(arguments.wav)
        failed = audio.write_wavs(spans, folder, config.source, config.remote)
        print(f"wav: {arguments.wav}, {len(spans) - len(failed):,} files")
        if failed:
            print(f"{len(failed):,} could not be read: {', '.join(failed[:5])}", file=sys.stderr)


def _write_gallery(
    config: Sections, target: Path, store: Store, table: pl.DataFrame, places: pl.LazyFrame
) -> None:
    """Writes the slices with pictures, and the recordings of source.root as absolute paths."""
    from tools.cli.slice_files import audio  # libsndfile's import

    ids = audio.slice_spans(store, table)["recording_id"]
    paths = audio.recording_paths(config.source, config.remote, ids)
    absolute = {
        name: path if is_remote(path) else str(Path(path).absolute())
        for name, path in paths.items()
    }
    audio.write_gallery(store, table, target, places.collect(), absolute)
    print(f"gallery: {target}")


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
