"""Routes of neighbours and of the map: files that are given, points, their colours and filters."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from storage.errors import MelbankError
from tools.exploring.answers import json_answer, packed_answer
from tools.exploring.parameters import Parameters
from training.inference.exploring.exploration import Exploration

MAX_NAMED = 1_000  # values of a column of text that have a number of their own
NO_VALUE, OTHER_VALUE = 65_535, 65_534
UPLOADS_AT_ONCE = 2  # each is held in memory
MAX_NAME = 200  # characters of the name of a file


class BusyError(MelbankError):
    """More at once than is answered."""


class NearnessRoutes:
    """Answers from the embeddings."""

    def __init__(self, exploration: Exploration) -> None:
        self._exploration = exploration
        self._num_adding = 0

    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/api/uploads", self.add, methods=["POST"]),
            Route("/api/map", self.map),
            Route("/api/map/column", self.column),
            Route("/api/map/passing", self.passing),
        ]

    async def add(self, request: Request) -> Response:
        """Takes a sound file, to be compared with."""
        if self._num_adding >= UPLOADS_AT_ONCE:
            raise BusyError("other files are being read: ask again")
        self._num_adding += 1
        try:
            data = await request.body()
            name = request.query_params.get("name", "")[:MAX_NAME]
            return json_answer(await run_in_threadpool(self._add, data, name), 201)
        finally:
            self._num_adding -= 1

    def _add(self, data: bytes, name: str) -> dict[str, Any]:
        neighbours = self._exploration.neighbours
        with tempfile.NamedTemporaryFile(prefix="melbank-", suffix=_ending(name)) as file:
            file.write(data)
            file.flush()
            upload_id = neighbours.add_file(name, Path(file.name))
        upload = neighbours.upload(upload_id)
        return {
            "upload": upload_id,
            "name": name,
            "seconds": upload.seconds,
            "slices": len(upload.cells),
        }

    def map(self, _: Request) -> Response:
        """The points of all slices."""
        points = self._exploration.plane.points()
        arrays = {
            "row": self._exploration.frame.rows[points.places].astype(np.float64),
            "x": np.ascontiguousarray(points.xy[:, 0]),
            "y": np.ascontiguousarray(points.xy[:, 1]),
        }
        about = {
            "count": len(points.places),
            "sampled": points.is_sampled,
            "method": points.method,
        }
        return packed_answer(about, arrays)

    def column(self, request: Request) -> Response:
        """A column of the same slices, to colour them by."""
        name = request.query_params.get("name", "")
        frame = self._exploration.frame
        frame.dtype(name)  # or an error
        values = frame.values(name, self._exploration.plane.points().places)
        if frame.kind(name) in ("number", "flag"):
            return _numbers(name, values)
        return _codes(name, values)

    def passing(self, request: Request) -> Response:
        """1 for each of the same slices that passes the filters of a view, else 0."""
        view = Parameters(request.query_params).view()
        found = self._exploration.views.found(view)
        passing = np.isin(self._exploration.plane.points().places, found).astype(np.uint8)
        return packed_answer({"number": int(passing.sum())}, {"passing": passing})


def _numbers(name: str, values: pl.Series) -> Response:
    numbers = values.cast(pl.Float32).fill_null(np.nan).to_numpy()
    finite = numbers[np.isfinite(numbers)]
    ends = {"low": float(finite.min()), "high": float(finite.max())} if len(finite) else {}
    about = {"name": name, "kind": "number", "low": None, "high": None, **ends}
    return packed_answer(about, {"value": numbers})


def _codes(name: str, values: pl.Series) -> Response:
    if isinstance(values.dtype, pl.List):
        values = values.cast(pl.List(pl.String)).list.join(" ")
    texts = values.cast(pl.String)
    counted = texts.drop_nulls().alias("value").value_counts(name="count")
    ranked = counted.sort("count", "value", descending=[True, False])["value"]
    named = ranked.head(MAX_NAMED)
    numbers = pl.Series(range(len(named)), dtype=pl.UInt16)
    codes = texts.replace_strict(named, numbers, default=OTHER_VALUE, return_dtype=pl.UInt16)
    codes = codes.set(texts.is_null(), NO_VALUE)
    about = {"name": name, "kind": "text", "values": named.to_list()}
    return packed_answer(about, {"code": codes.to_numpy()})


def _ending(name: str) -> str:
    """The ending of a file, where it is a plain one."""
    ending = Path(name).suffix
    return ending if ending[1:].isalnum() and len(ending) <= 6 else ""
