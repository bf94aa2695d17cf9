"""Routes of pictures: sheets of small spectrograms, and a large one."""

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from storage.errors import AudioError, ConfigError, ObjectMissingError, StoreError
from storage.read.pictures.thumbnails import COLOUR_MAP, sheet_png, thumbnail_png
from tools.exploring.parameters import Parameters
from tools.exploring.sound_routes import detection_path
from training.inference.exploring.exploration import Exploration
from training.inference.exploring.pictures import MAX_TILES, Tile, sheet_of

DAY = "private, max-age=86400, immutable"


class PictureRoutes:
    """Draws stored slices, those of a file that was given, and those of detections."""

    def __init__(self, exploration: Exploration) -> None:
        self._exploration = exploration

    def routes(self) -> list[Route]:
        """The routes."""
        return [Route("/api/sheet", self.sheet), Route("/api/spectrogram", self.spectrogram)]

    def sheet(self, request: Request) -> Response:
        """Small spectrograms, one below the other."""
        given = Parameters(request.query_params)
        tile = Tile(
            width=given.whole("width", 156, 16, 640),
            height=given.whole("height", 64, 16, 256),
            colour=given.text("colour") or COLOUR_MAP,
        )
        if given.has("upload"):
            cells = self._exploration.neighbours.upload(given.text("upload")).cells
            return _png(sheet_png(cells[:MAX_TILES], (tile.width, tile.height), tile.colour))
        if given.has("detections"):
            return self._detections(given.wholes("detections", MAX_TILES), tile)
        rows = np.array(given.wholes("rows", MAX_TILES), np.int64)
        self._check(rows)
        return _png(sheet_of(self._exploration.store, rows, tile))

    def spectrogram(self, request: Request) -> Response:
        """A slice in full resolution."""
        given = Parameters(request.query_params)
        colour = Tile(colour=given.text("colour") or COLOUR_MAP).colour
        if given.has("detection"):
            cells = self._cells_of(given.wholes("detection", 1)[0])
            if cells is None:
                raise ObjectMissingError("the recording of the detection cannot be read")
            return _png(thumbnail_png(cells, colour))
        rows = np.array(given.wholes("row", 1), np.int64)
        self._check(rows)
        return _png(thumbnail_png(self._exploration.store.read(rows)[0], colour))

    def _check(self, rows: np.ndarray) -> None:
        try:
            self._exploration.frame.places_of(rows)
        except ConfigError as error:
            raise ObjectMissingError(str(error)) from error

    def _detections(self, numbers: list[int], tile: Tile) -> Response:
        recipe = self._exploration.store.recipe
        cells = np.zeros((len(numbers), *recipe.slice_shape), recipe.dtype)
        missing = []
        for place, number in enumerate(numbers):
            found = self._cells_of(number)
            if found is None:
                missing.append(str(place))
            else:
                cells[place] = found
        answer = _png(sheet_png(cells, (tile.width, tile.height), tile.colour))
        answer.headers["X-Missing"] = ",".join(missing)
        return answer

    def _cells_of(self, number: int) -> np.ndarray | None:
        """The cells of a detection: of its stored slice, or cut from its recording."""
        exploration = self._exploration
        if exploration.detections is None:
            raise ObjectMissingError("there are no detections")
        detection = exploration.detections.one(number)
        place = exploration.detections.place_of(detection)
        if place is not None:
            return np.asarray(exploration.store.read(exploration.frame.rows[[place]])[0])
        from training.inference.exploring.cutting import cut_stretch  # imports torch

        try:
            part = exploration.sounds.part(
                detection_path(exploration, detection), detection["start_s"], None
            )
            return cut_stretch(part, exploration.store.recipe)
        except (StoreError, AudioError, ConfigError):
            return None


def _png(data: bytes) -> Response:
    return Response(data, media_type="image/png", headers={"Cache-Control": DAY})
