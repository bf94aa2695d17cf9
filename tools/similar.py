"""Find slices that sound alike: nearest to a slice, a recording or an audio file; or draw a map.

    python -m tools.similar store=data/store similar.row=1042 --png alike.png
    python -m tools.similar store=data/store similar.file=unknown.wav similar.count=10
    python -m tools.similar store=data/store similar.by=exp_003/fold_0 \\
        similar.recording=blackc1/XC134896 similar.leave_out=author
    python -m tools.similar store=data/store --map map.parquet
    python -m tools.similar store=data/store similar.agreement=fold

Slices are compared by the cosine of their embeddings: by default a spectral one that needs no model
(docs/similarity.md says what it consists of), by those of a checkpoint, an ONNX file or BirdNET,
or by a file of tools.embed. Embeddings are computed once and kept in similar.folder.
"""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from storage.errors import ConfigError
from storage.output_files import output_file
from storage.source.table import SourceConfig
from storage.store import Store, open_store
from tools.cli.command import Arguments, Command, importing, run
from tools.cli.config import StoreSection
from tools.cli.output_files import check_output
from tools.cli.progress_bars import bar
from tools.cli.slice_files.outputs import FLAGS, check_outputs, print_table, write_outputs
from training.experiments.experiment import ExperimentConfig
from training.experiments.places import local_entries
from training.inference.embeddings.config import BIRDNET, EmbedConfig
from training.inference.similarity.config import SimilarConfig
from training.inference.similarity.place import EmbeddingPlace

if TYPE_CHECKING:
    from training.inference.embeddings.embedders import Embedder
    from training.inference.similarity.query import Collection


@dataclass(frozen=True, kw_only=True)
class Sections(StoreSection):
    """Config sections of this command."""

    similar: SimilarConfig = field(default_factory=SimilarConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    source: SourceConfig = field(default_factory=SourceConfig)
    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)


COMMAND = Command(
    doc=__doc__,
    sections=Sections,
    flags=(
        *FLAGS,
        ("--map", {"metavar": "FILE", "help": "two coordinates of each slice, as Parquet"}),
    ),
)


def main(config: Sections, arguments: Arguments) -> None:
    """Answers what was asked: neighbours, agreement of labels, a map."""
    if not (config.similar.asks or config.similar.agreement or arguments.map):
        raise ConfigError(
            "nothing is asked for: give similar.row, similar.recording or similar.file, "
            "similar.agreement=COLUMN, or --map FILE"
        )
    if config.embed.model:
        raise ConfigError(f"embed.model={config.embed.model}: here it is given as similar.by")
    check_outputs(arguments)
    check_output("--map", arguments.map)
    if config.similar.by == BIRDNET:
        from training.inference.embeddings.birdnet import NOTICE

        print(NOTICE, flush=True)
    with importing("similar"):
        from training.inference.similarity.opening import make_embeddings, open_collection
    (model,) = local_entries([config.similar.by], config.experiment, config.remote)
    place = EmbeddingPlace(
        similar=replace(config.similar, by=model),
        embed=config.embed,
        root=config.experiment.read_folder,
        source=config.source,
        remote=config.remote,
    )
    with open_store(config.store, config.remote) as store:
        file, embedder = make_embeddings(place, store, bar)
        collection = open_collection(file, store)
        if config.similar.asks:
            found = _neighbours(config.similar, store, collection, embedder, file)
            print_table(found)
            write_outputs(arguments, store, found)
        if config.similar.agreement:
            _print_agreement(config.similar, collection)
        if arguments.map:
            _write_map(config.similar, collection, Path(arguments.map))


def _neighbours(
    config: SimilarConfig,
    store: Store,
    collection: "Collection",
    embedder: "Embedder | None",
    file: Path,
) -> pl.DataFrame:
    """The nearest slices, with similarity, place and labels of each."""
    from training.inference.similarity.opening import open_search, slice_starts
    from training.inference.similarity.query import allowed_slices, ask, ask_file

    frame = slice_starts(collection, store.slice_index())
    if config.file:
        if embedder is None:
            raise ConfigError(
                f"similar.by={config.by} is a file, but similar.file needs the model itself: give "
                "the one that made it, such as spectral or exp_003/fold_0"
            )
        question = ask_file(Path(config.file), embedder, collection)
    else:
        question = ask(config, collection, frame["start_s"].to_numpy())
    allowed_N = allowed_slices(question, collection, config.leave_out)
    if not allowed_N.any():
        raise ConfigError(
            f"similar.leave_out={config.leave_out} leaves none of {len(frame):,} slices"
        )
    search = open_search(config, collection, file, bar)
    found = search.nearest(question.vectors_QE, config.count, allowed_N)
    names = ("primary_label", "common_name")
    labels = [name for name in names if name in collection.recordings.columns]
    lines = frame[found.places].with_columns(
        similarity=pl.Series(found.similarities),
        asked_s=pl.Series(question.start_s[found.query_no]),
    )
    known = collection.recordings.select("recording_id", *labels)
    lines = lines.join(known, on="recording_id", how="left", maintain_order="left")
    return lines.select("row", "similarity", "start_s", "recording_id", *labels, "asked_s")


def _print_agreement(config: SimilarConfig, collection: "Collection") -> None:
    from training.inference.similarity.agreement import label_agreement

    labels = _numbers(collection.values("primary_label"))
    groups = collection.values(config.agreement).fill_null("").cast(pl.String)
    asked = (groups == config.agreement_of).to_numpy() if config.agreement_of else None
    if asked is not None and not asked.any():
        raise ConfigError(
            f"similar.agreement_of={config.agreement_of}: no slice has that {config.agreement}"
        )
    found = label_agreement(collection.unit_NE, _numbers(groups), labels, asked)
    of = f"of {config.agreement} {config.agreement_of}, " if config.agreement_of else ""
    print(
        f"{of}the nearest slice with another {config.agreement} has the same primary label in "
        f"{found.same:,} of {found.compared:,} cases: {found.share:.3f}"
    )


def _numbers(values: pl.Series) -> np.ndarray:
    """A number for each different value, int64; -1 for none."""
    return values.rank("dense").cast(pl.Int64).fill_null(-1).to_numpy()


def _write_map(config: SimilarConfig, collection: "Collection", target: Path) -> None:
    from training.inference.similarity.maps import map_points

    points = map_points(collection.unit_NE, config.map, seed=config.seed)
    table = collection.table.frame.with_columns(
        x=pl.Series(points[:, 0]), y=pl.Series(points[:, 1])
    )
    with output_file(target) as file:
        table.write_parquet(file)
    print(f"map: {target}, {len(table):,} slices by {config.map}")


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
