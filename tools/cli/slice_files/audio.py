"""Sound of the slices that a command has found: WAV excerpts, Raven and Audacity files.

Slices are found in the recordings of source.*, as at the build. A table needs the column `row`.
"""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from storage.errors import ConfigError, ObjectMissingError
from storage.objects.client import RemoteConfig
from storage.output_files import output_file
from storage.read.pictures.thumbnails import thumbnail_png
from storage.source.files import RecordingFiles
from storage.source.table import SourceConfig, read_source
from storage.store import Store
from tools.cli.progress_bars import bar
from training.inference.outputs.raven import HEADER, selection_lines
from training.inference.outputs.text import (
    one_line,
    safe_name,
    seconds,
    short_seconds,
    unused_name,
)

MAX_EXCERPTS = 10_000
MAX_IMAGES = 50_000  # some 25 kB each
IMAGES_AT_ONCE = 256


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
    paths = recording_paths(source, remote, spans["recording_id"])
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


def write_gallery(
    store: Store,
    table: pl.DataFrame,
    target: Path,
    places: pl.DataFrame,
    paths: Mapping[str, str],
) -> None:
    """Writes a Parquet of slices as Embedding Atlas and Spotlight read it, see docs/similarity.md.

    The columns of the table and of `slice_spans`; `image`, a PNG as bytes; `audio`, the path of the
    recording; x and y of `places`, by row. Raises ConfigError where a slice has no place.
    """
    if len(table) > MAX_IMAGES:
        raise ConfigError(
            f"--gallery would write {len(table):,} images; at most {MAX_IMAGES:,}: give --limit"
        )
    spans = slice_spans(store, table).drop("score")
    spans = spans.join(places.select("row", "x", "y"), on="row", how="left", maintain_order="left")
    if lost := spans["x"].null_count():
        raise ConfigError(
            f"query.map has no place for {lost:,} of {len(spans):,} slices: make it again by "
            "python -m tools.similar --map"
        )
    images: list[bytes] = []
    with bar("images", len(spans), "slice") as step:
        for part in spans.iter_slices(IMAGES_AT_ONCE):
            images += map(thumbnail_png, store.slices(part))
            step(len(part))
    others = table.drop(
        [name for name in table.columns if name in (*spans.columns, "image", "audio")]
    )
    audio = pl.col("recording_id").replace_strict(paths, return_dtype=pl.String)
    gallery = spans.with_columns(pl.Series("image", images, pl.Binary), audio=audio)
    gallery = gallery.with_columns(others.get_columns())
    with output_file(target) as file:
        gallery.write_parquet(file)


def write_raven(spans: pl.DataFrame, target: Path, band_hz: tuple[float, float]) -> None:
    """Writes one selection table; its recordings count one after the other, as Raven opens them."""
    before_s, lines, number = 0.0, [HEADER], 1
    for (name,), slices in spans.group_by("filename", maintain_order=True):
        found = slices.sort("start_s")
        path = one_line(str(name))
        lines += selection_lines(found, path, band_hz, first=number, before_s=before_s)
        before_s += float(found["duration_s"][0] or 0.0)
        number += len(found)
    with output_file(target) as unfinished:
        unfinished.write_text("".join(lines), encoding="utf-8")


def write_audacity(spans: pl.DataFrame, folder: Path) -> None:
    """Writes a label track for each recording."""
    names: set[str] = set()
    for (name,), slices in spans.group_by("recording_id", maintain_order=True):
        lines = [
            f"{seconds(start_s)}\t{seconds(end_s)}\t{one_line(label)}\n"
            for start_s, end_s, label in slices.sort("start_s")
            .select("start_s", "end_s", "common_name")
            .iter_rows()
        ]
        track = unused_name(safe_name(str(name).replace("/", "_")), ".txt", names)
        with output_file(folder / track) as unfinished:
            unfinished.write_text("".join(lines), encoding="utf-8")


def recording_paths(
    source: SourceConfig, remote: RemoteConfig, recording_ids: pl.Series
) -> Mapping[str, str]:
    """Paths of recordings by id; ConfigError where the source lacks one."""
    recordings = read_source(source, remote).recordings
    paths = dict(recordings.select("recording_id", "path").iter_rows())
    missing = [name for name in recording_ids.unique() if paths.get(name) is None]
    if missing:
        raise ConfigError(
            f"{len(missing)} recordings have no file in source.root={source.root}, such as "
            f"{missing[0]}: give the source.* keys by which the store was built"
        )
    return {name: paths[name] for name in recording_ids.unique()}
