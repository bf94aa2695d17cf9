"""Opens what neighbours are looked for in: embeddings of a store, computed where they are missing.

place = EmbeddingPlace(similar=config, embed=EmbedConfig(), root=Path("."))
file, embedder = make_embeddings(place, store, progress)
collection = open_collection(file, store)
open_search(config, collection, file, progress)
"""

import re
from dataclasses import replace
from pathlib import Path

import polars as pl

from storage.errors import ConfigError
from storage.progress import Progress
from storage.source.table import read_source
from storage.store import Store
from training.inference.embeddings.embed import audio_of, embed_store
from training.inference.embeddings.embedders import Embedder, open_embedder
from training.inference.embeddings.table import read_table
from training.inference.similarity.config import SimilarConfig
from training.inference.similarity.place import EmbeddingPlace
from training.inference.similarity.query import Collection
from training.inference.similarity.search import ExactSearch, Search, open_index


def make_embeddings(
    place: EmbeddingPlace, store: Store, progress: Progress
) -> tuple[Path, Embedder | None]:
    """The file of the embeddings, computed where they are not yet there, and their model."""
    similar = place.similar
    if similar.is_table:
        return Path(similar.by), None
    name = f"{re.sub('[^A-Za-z0-9]+', '_', similar.by).strip('_')}_{store.store_id[:8]}.parquet"
    file = Path(similar.folder) / name
    embed = replace(place.embed, model=similar.by, out=str(file))
    embedder = open_embedder(embed, place.root, store.recipe, key="similar.by")
    audio = None
    if embedder.takes is not None and not file.is_file():
        source = read_source(place.source, place.remote)
        audio = audio_of(source, place.source.channel, place.remote)
    embed_store(store, store.recordings(), embedder, embed, audio=audio, progress=progress)
    return file, embedder


def open_collection(file: Path, store: Store) -> Collection:
    """The embeddings, all of slices of the store; ConfigError where they are of another."""
    table = read_table(file)
    if table.about.store_id != store.store_id:
        raise ConfigError(
            f"{file} has embeddings of another store than {store.url}: give the store that was "
            "embedded"
        )
    unknown = table.frame.join(store.slice_index().select("row"), on="row", how="anti")
    if len(unknown):
        raise ConfigError(
            f"{file} has {len(unknown):,} slices that are no longer in {store.url}: remove it, and "
            "the embeddings are computed again"
        )
    return Collection(table=table, recordings=store.recordings())


def slice_starts(collection: Collection, index: pl.DataFrame) -> pl.DataFrame:
    """row, recording_id and start_s of each slice of a collection, in its order."""
    starts = index.select("row", "start_s")
    return collection.table.frame.join(starts, on="row", how="left", maintain_order="left")


def open_search(
    config: SimilarConfig, collection: Collection, file: Path, progress: Progress
) -> Search:
    """Compares all, or asks an index that is kept next to the embeddings."""
    if len(collection.unit_NE) <= config.exact_rows:
        return ExactSearch(collection.unit_NE)
    digest = collection.table.about.digest()
    return open_index(file.with_name(f"{file.stem}_{digest}.usearch"), collection.unit_NE, progress)
