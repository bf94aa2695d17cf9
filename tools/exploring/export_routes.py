"""Route of exports: slices of a view, detections, verdicts, and a corrected train.csv.

Formats are those of tools.query: csv, Parquet, a Raven selection table, a zip of Audacity tracks.
"""

import io
import tempfile
import zipfile
from pathlib import Path

import polars as pl
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from datasets.corrections import corrected_recordings
from datasets.reviews import decided_labels
from storage.errors import ConfigError, ObjectMissingError
from storage.format.tables import OUR_COLUMNS
from tools.cli.slice_files.audio import slice_spans, write_audacity, write_raven
from tools.cli.slice_files.outputs import flat_lists
from tools.exploring.answers import file_answer
from tools.exploring.parameters import Parameters
from training.inference.exploring.exploration import Exploration

MAX_EXPORTED = 100_000
CSV, PARQUET, RAVEN, AUDACITY = "csv", "parquet", "raven", "audacity"
FORMATS = (CSV, PARQUET, RAVEN, AUDACITY)
VIEW, REVIEWS, DETECTIONS, TRAIN = "view", "reviews", "detections", "train"


class ExportRoutes:
    """Answers with files."""

    def __init__(self, exploration: Exploration) -> None:
        self._exploration = exploration

    def routes(self) -> list[Route]:
        """The route."""
        return [Route("/api/export", self.export)]

    def export(self, request: Request) -> Response:
        """A table, or labels for a program of sound."""
        given = Parameters(request.query_params)
        what, kind = given.text("what") or VIEW, given.text("format") or CSV
        if kind not in FORMATS:
            raise ConfigError(f"format={kind[:40]} is none of {', '.join(FORMATS)}")
        if what == TRAIN:
            return file_answer(self._train().write_csv().encode(), "train.csv", "text/csv")
        makers = {VIEW: self._view, REVIEWS: self._reviews, DETECTIONS: self._detections}
        if what not in makers:
            raise ConfigError(f"what={what[:40]} is none of {', '.join((*makers, TRAIN))}")
        table = makers[what](given, kind in (RAVEN, AUDACITY))
        if kind == CSV:
            return file_answer(flat_lists(table).write_csv().encode(), f"{what}.csv", "text/csv")
        if kind == PARQUET:
            file = io.BytesIO()
            table.write_parquet(file)
            return file_answer(file.getvalue(), f"{what}.parquet", "application/octet-stream")
        return self._labels(table, what, kind)

    def _labels(self, spans: pl.DataFrame, what: str, kind: str) -> Response:
        recipe = self._exploration.store.recipe
        with tempfile.TemporaryDirectory(prefix="melbank-") as name:
            folder = Path(name)
            if kind == RAVEN:
                target = folder / "raven.txt"
                write_raven(spans, target, (recipe.fmin_hz, recipe.fmax_hz))
                return file_answer(target.read_bytes(), f"{what}.selections.txt", "text/plain")
            write_audacity(spans, folder)
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in sorted(folder.glob("*.txt")):
                    archive.write(path, path.name)
        return file_answer(packed.getvalue(), f"{what}_audacity.zip", "application/zip")

    def _view(self, given: Parameters, as_spans: bool) -> pl.DataFrame:
        view = given.view()
        places = self._exploration.views.places(view)
        self._check_count(len(places))
        if as_spans:
            rows = pl.DataFrame({"row": self._exploration.frame.rows[places]})
            return slice_spans(self._exploration.store, rows)
        table = self._exploration.frame.take(places)
        if view.like:
            similar = self._exploration.views.similarities(view, places)
            table = table.with_columns(pl.Series("similarity", similar))
        return table

    def _detections(self, given: Parameters, as_spans: bool) -> pl.DataFrame:
        found = self._exploration.detections
        if found is None:
            raise ObjectMissingError("there are no detections: give explore.predictions=")
        places = found.places(given.view())
        self._check_count(len(places))
        table = found.table(places)
        return self._spans(table) if as_spans else table

    def _reviews(self, given: Parameters, as_spans: bool) -> pl.DataFrame:
        del given
        current = self._exploration.desk.current()
        if not as_spans:
            return current.drop("takes_back")
        heard = decided_labels(current).filter(pl.col("present"))
        return self._spans(heard.with_columns(score=pl.lit(1.0)))

    def _spans(self, table: pl.DataFrame) -> pl.DataFrame:
        """Stretches with the columns of `slice_spans`, and the names of their labels."""
        recordings = self._exploration.store.recordings()
        if table.is_empty():
            raise ObjectMissingError("there is nothing to write yet")
        known = recordings.select("recording_id", "filename", "duration_s")
        names = [name for name in ("common_name", "scientific_name") if name in recordings.columns]
        classes = recordings.group_by(pl.col("primary_label").alias("label")).agg(
            pl.col(name).drop_nulls().first() for name in names
        )
        plain = table.select("recording_id", "start_s", "end_s", "label", "score")
        spans = plain.join(known, on="recording_id", how="left", maintain_order="left").join(
            classes, on="label", how="left", maintain_order="left"
        )
        ends = spans.group_by("recording_id").agg(pl.col("end_s").max().alias("last_s"))
        spans = spans.join(ends, on="recording_id", how="left", maintain_order="left")
        found = [
            pl.coalesce([*([name] if name in names else []), "label"]).alias(name)
            for name in ("common_name", "scientific_name")
        ]
        return spans.with_columns(
            *found,
            pl.col("filename").fill_null(pl.col("recording_id")),
            pl.col("duration_s").fill_null(pl.col("last_s")),
        )

    def _check_count(self, count: int) -> None:
        if count > MAX_EXPORTED:
            raise ConfigError(
                f"{count:,} are more than {MAX_EXPORTED:,}, which a page exports: filter, or take "
                "tools.query"
            )
        if not count:
            raise ObjectMissingError("there is nothing to write")

    def _train(self) -> pl.DataFrame:
        """The csv of the recordings with corrected labels, as a build reads it."""
        recordings = self._exploration.store.recordings()
        decided = decided_labels(self._exploration.desk.current())
        corrected = corrected_recordings(recordings, decided)
        labels = corrected["secondary_labels"].to_list()
        texts = pl.Series("secondary_labels", [str(list(one or [])) for one in labels], pl.String)
        kept = [name for name in corrected.columns if name not in OUR_COLUMNS]
        return flat_lists(corrected.select(kept).with_columns(texts))
