"""Sound of the slices that a command has found: WAV excerpts, Raven and Audacity files.

Slices are found in the recordings of source.*, as at the build. A table needs the column `row`.
"""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from storage.errors import ConfigError, ObjectMissingError
from storage.objects.client import RemoteConfig
from storage.output_files import output_file
from storage.source.files import RecordingFiles
from storage.source.table import SourceConfig, read_source
from storage.store import Store
from tools.cli.progress_bars import bar
from training.inference.outputs.raven import HEADER, selection_lines
from training.inference.outputs.text import one_line, safe_name, seconds, short_seconds

MAX_EXCERPTS = 10_000


def slice_spans(store: Store, table: pl.DataFrame) -> pl.DataFrame:
    """Recording, span in s and names of each slice of a table, in its order, whatever it selects.

    Columns: row, recording_id, filename, duration_s, start_s, end_s, label, common_name,
    scientific_name.
    """
    if "row" not in table.columns:
        raise ConfigError("files of sound and labels need the column `row` in the SELECT")
    if table.is_empty():
        raise ConfigError("the query found no slices: there is nothing to write")
    columns = store.recordings().columns
    names = {
        name: pl.coalesce([one for one in (name, "primary_label") if one in columns])
        for name in ("common_name", "scientific_name")
    }
    known = store.slice_table().select(
        "row",
        "recording_id",
        "filename",
        "duration_s",
        "start_s",
        label="primary_label",
        **names,
    )
    rows = table.select("row")
    spans = rows.join(known.collect(), on="row", how="left", maintain_order="left")
    end_s = pl.min_horizontal(pl.col("start_s") + store.recipe.slice_s, "duration_s")
    return spans.with_columns(end_s=end_s, score=pl.lit(1.0)).fill_null("")


def write_wavs(
    spans: pl.DataFrame, folder: Path, source: SourceConfig, remote: RemoteConfig
) -> list[str]:
    """Writes `ROW_STEM_START-END.wav` for each slice; returns those that could not be read."""
    from soundfile import LibsndfileError

    from training.inference.outputs.excerpts import read_wav

    if len(spans) > MAX_EXCERPTS:
        raise ConfigError(
            f"--wav would write {len(spans):,} files; at most {MAX_EXCERPTS:,}: give --limit"
        )
    paths = _paths(source, remote, spans)
    files, failed = RecordingFiles(remote), []
    with bar("excerpts", len(spans), "file") as step:
        for row in spans.iter_rows(named=True):
            stem = safe_name(row["recording_id"].rpartition("/")[2])
            span = f"{short_seconds(row['start_s'])}-{short_seconds(row['end_s'])}"
            name = f"{row['row']:06d}_{stem}_{span}.wav"
            try:
                with files.open(paths[row["recording_id"]]) as path:
                    data = read_wav(path, row["start_s"], row["end_s"])
            except (LibsndfileError, ObjectMissingError, OSError):
                data = b""
            if data:
                with output_file(folder / name) as unfinished:
                    unfinished.write_bytes(data)
            else:
                failed.append(name)
            step(1)
    return failed


def write_raven(spans: pl.DataFrame, target: Path, band_hz: tuple[float, float]) -> None:
    """Writes one selection table; its recordings count one after the other, as Raven opens them."""
    before_s, lines, number = 0.0, [HEADER], 1
    for (name,), slices in spans.group_by("filename", maintain_order=True):
        found = slices.sort("start_s")
        path = one_line(str(name))
        lines += selection_lines(found, path, band_hz, first=number, before_s=before_s)
        before_s += float(found["duration_s"][0])
        number += len(found)
    with output_file(target) as unfinished:
        unfinished.write_text("".join(lines), encoding="utf-8")


def write_audacity(spans: pl.DataFrame, folder: Path) -> None:
    """Writes a label track for each recording."""
    for (name,), slices in spans.group_by("recording_id", maintain_order=True):
        lines = [
            f"{seconds(start_s)}\t{seconds(end_s)}\t{one_line(label)}\n"
            for start_s, end_s, label in slices.sort("start_s")
            .select("start_s", "end_s", "common_name")
            .iter_rows()
        ]
        with output_file(folder / f"{safe_name(str(name).replace('/', '_'))}.txt") as unfinished:
            unfinished.write_text("".join(lines), encoding="utf-8")


def _paths(source: SourceConfig, remote: RemoteConfig, spans: pl.DataFrame) -> Mapping[str, str]:
    """Paths of the recordings; ConfigError where the source lacks one."""
    recordings = read_source(source, remote).recordings
    paths = dict(recordings.select("recording_id", "path").iter_rows())
    missing = [name for name in spans["recording_id"].unique() if paths.get(name) is None]
    if missing:
        raise ConfigError(
            f"{len(missing)} recordings have no file in source.root={source.root}, such as "
            f"{missing[0]}: give the source.* keys by which the store was built"
        )
    return paths
