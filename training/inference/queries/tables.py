"""Tables of a query: those of the store, and those of results that the config names.

    tables = open_tables(store, QueryConfig(experiment="exp_003"), root=Path("."))
    storage.read.sql.select("SELECT label, AVG(loss) FROM oof GROUP BY label", tables)

slices, recordings    of the store, see `Store`
duplicates, rejects   recordings without slices of their own, with the reason
taxonomy              a line per class: its label, names and other columns that all of its
                      recordings share, and how many recordings it has
oof, oof_recordings   see `training.inference.queries.oof`
detections            of tools.predict
embeddings            row, recording_id, embedding
map                   row, recording_id, x, y
reviews               verdicts that stand; see `datasets.reviews`
"""

from pathlib import Path

import polars as pl

from datasets.reviews import current_reviews, read_reviews
from storage.errors import ConfigError, StoreError
from storage.store import Store
from training.inference.queries.config import QueryConfig
from training.inference.queries.oof import described
from training.inference.queries.same_store import check_same_store

NAMES = ("scientific_name", "common_name", "class_name", "order", "family", "genus")
OOF, OOF_RECORDINGS = "oof.parquet", "oof_recordings.parquet"
BY_ROW = {"oof": "experiment", "embeddings": "embeddings", "map": "map"}  # tables, with their key
DETECTIONS = "detections.parquet"


def open_tables(
    store: Store, config: QueryConfig, *, root: Path, section: str = "query"
) -> dict[str, pl.LazyFrame]:
    """The tables by name, read lazily; ConfigError where a file is not there, or of another store.

    `section` is named in errors: that of the command line that the config comes from.
    """
    tables = {
        "slices": store.slice_table(),
        "recordings": store.recordings().lazy(),
        "duplicates": store.duplicates().lazy(),
        "rejects": store.rejects().lazy(),
        "taxonomy": taxonomy(store).lazy(),
    }
    if config.experiment:
        folder = root / "preds" / config.experiment
        key = f"{section}.experiment={config.experiment}"
        tables["oof"] = described(_scan(folder / OOF, key), key)
        tables["oof_recordings"] = described(_scan(folder / OOF_RECORDINGS, key), key)
    if config.predictions:
        key = f"{section}.predictions={config.predictions}"
        tables["detections"] = _scan(Path(config.predictions) / DETECTIONS, key)
    if config.embeddings:
        tables["embeddings"] = _scan(
            Path(config.embeddings), f"{section}.embeddings={config.embeddings}"
        )
    if config.map:
        tables["map"] = _scan(Path(config.map), f"{section}.map={config.map}")
    for name, word in BY_ROW.items():
        if value := getattr(config, word):
            check_same_store(tables[name], store, f"{section}.{word}={value}")
    if config.reviews:
        tables["reviews"] = current_reviews(read_reviews(Path(config.reviews))).lazy()
    return tables


def taxonomy(store: Store) -> pl.DataFrame:
    """Classes of a store with names, and the number of their recordings, by label."""
    recordings = store.recordings()
    names = [name for name in NAMES if name in recordings.columns]
    known = recordings.group_by("primary_label").agg(
        *(pl.col(name).drop_nulls().first() for name in names), recordings=pl.len()
    )
    others = [name for name in store.classes if name not in set(known["primary_label"])]
    unheard = pl.DataFrame(
        {"primary_label": others, "recordings": [0] * len(others)},
        schema={"primary_label": pl.String, "recordings": known.schema["recordings"]},
    )
    every = pl.concat([known, unheard], how="diagonal").filter(
        pl.col("primary_label").is_not_null()
    )
    return every.sort("primary_label")


def _scan(path: Path, key: str) -> pl.LazyFrame:
    """A Parquet file, lazily; its columns are read now, so that a damaged one is named."""
    if not path.is_file():
        raise ConfigError(
            f"{key}: there is no {path}: give the results of a finished run; experiments are "
            "looked for below experiment.root="
        )
    try:
        frame = pl.scan_parquet(path, glob=False)
        frame.collect_schema()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise StoreError(
            f"{path} is damaged ({str(error).splitlines()[0]}): make it again, or give another"
        ) from error
    return frame
