"""Reads annotations: tables of labelled times or recordings, in the forms that people have.

    csv of segments       file, start_s, end_s, labels; labels are separated by `;`, times are
                          seconds or 0:00:05
    csv of recordings     train.csv of BirdCLEF: filename, primary_label, secondary_labels
    Raven                 selection tables (tab, `Begin Time (s)`), one per recording, named after
                          it, or one for many, with `Begin Path` or `Begin File`, and `File Offset`
    labelled recordings   a folder that tools.build_store reads, or a store

A file without a label, such as an empty selection table, is annotated: nothing is in it.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from datasets.annotations import SECONDARY, AnnotationTables, Row, or_none
from storage.errors import ConfigError
from storage.format.manifest import NAME as MANIFEST
from storage.objects.client import DEFAULT, RemoteConfig
from storage.objects.urls import is_remote
from storage.source.table import SourceConfig, read_source
from storage.store import open_store

SCHEMA = {"file": pl.String, "start_s": pl.Float64, "end_s": pl.Float64, "label": pl.String}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Annotations:
    """Rows with the columns of SCHEMA, one per label, in the order of the tables.

    `file` as written. Null times: the label is of the whole recording. Null labels: the file is
    annotated, and no label is in it. `where` names the sources for messages.
    """

    table: pl.DataFrame
    where: str


def read_annotations(
    paths: Sequence[str],
    known: Collection[str] = (),
    *,
    label_column: str = "",
    remote: RemoteConfig = DEFAULT,
) -> Annotations:
    """Reads and joins annotations; `known` are labels and names of classes, for lists of them.

    Raises ConfigError where a path is none of the forms above.
    """
    tables = AnnotationTables(
        key="evaluate.annotations",
        known=known,
        label_column=label_column,
        label_key="evaluate.label_column",
    )
    rows: list[Row] = []
    for path in paths:
        rows += _read(path, tables, remote)
    if not rows:
        raise ConfigError(f"evaluate.annotations={', '.join(paths)}: there is no annotation")
    table = pl.DataFrame(rows, schema=SCHEMA, orient="row").unique(maintain_order=True)
    return Annotations(table=table, where=", ".join(paths))


def _read(path: str, tables: AnnotationTables, remote: RemoteConfig) -> Iterable[Row]:
    if is_remote(path) or (Path(path) / MANIFEST).is_file():
        with open_store(path, remote) as store:
            return _rows_of_recordings(store.recordings())
    if not Path(path).is_dir():
        return tables.read_file(Path(path))
    rows = tables.read_folder(Path(path))
    if rows is not None:
        return rows
    return _rows_of_recordings(read_source(SourceConfig(root=path), remote).recordings)


def _rows_of_recordings(recordings: pl.DataFrame) -> list[Row]:
    rows: list[Row] = []
    columns = recordings.select("filename", "primary_label", SECONDARY)
    for name, primary, secondary in columns.iter_rows():
        labels = [label for label in (primary, *(secondary or ())) if label]
        rows += [(name, None, None, one) for one in or_none(labels)]
    return rows
