"""Route of sound: a slice, a detection or a whole recording as WAV, in ranges of bytes."""

from pathlib import Path
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from storage.errors import ConfigError, ObjectMissingError
from storage.objects.urls import is_remote
from tools.exploring.answers import range_of
from tools.exploring.parameters import Parameters
from training.inference.exploring.exploration import Exploration
from training.inference.exploring.sound import WavPart

MAX_CONTEXT_S = 30.0


class SoundRoutes:
    """Answers with sound of the source."""

    def __init__(self, exploration: Exploration) -> None:
        self._exploration = exploration

    def routes(self) -> list[Route]:
        """The route."""
        return [Route("/api/audio", self.audio)]

    def audio(self, request: Request) -> Response:
        """Sound, or the reason why there is none."""
        given = Parameters(request.query_params)
        before_s = given.number("before", 0, 0, MAX_CONTEXT_S)
        after_s = given.number("after", 0, 0, MAX_CONTEXT_S)
        path, begin_s, end_s = self._stretch(given)
        start_s = max(0.0, begin_s - before_s)
        last_s = None if end_s is None else end_s + after_s
        part = self._exploration.sounds.part(path, start_s, last_s)
        return _wav(part, request, start_s)

    def _stretch(self, given: Parameters) -> tuple[str, float, float | None]:
        """Path of the recording, start and end in it, s."""
        exploration = self._exploration
        if given.has("recording"):
            return source_path(exploration, given.text("recording")), 0.0, None
        if given.has("detection"):
            number = given.wholes("detection", 1)[0]
            if exploration.detections is None:
                raise ObjectMissingError("there are no detections: give explore.predictions=")
            found = exploration.detections.one(number)
            return detection_path(exploration, found), found["start_s"], found["end_s"]
        rows = np.array(given.wholes("row", 1), np.int64)
        try:
            places = exploration.frame.places_of(rows)
        except ConfigError as error:
            raise ObjectMissingError(str(error)) from error
        row = exploration.frame.take(places, ["recording_id", "start_s"]).row(0, named=True)
        path = source_path(exploration, row["recording_id"])
        return path, row["start_s"], row["start_s"] + exploration.frame.slice_s


def source_path(exploration: Exploration, recording_id: str) -> str:
    """The file of a recording; ObjectMissingError, with the reason, where there is none."""
    root = exploration.inputs.embeddings.source.root
    try:
        path = exploration.paths.get(recording_id)
    except ConfigError as error:
        raise ObjectMissingError(f"the recordings are not there: {error}") from error
    if path is None:
        raise ObjectMissingError(
            f"{recording_id} has no file in source.root={root}: give the source.* keys by which "
            "the store was built"
        )
    return path


def detection_path(exploration: Exploration, detection: dict[str, Any]) -> str:
    """The file of a detection: as predicted from, or that of the source."""
    path = str(detection.get("path") or "")
    if path and (is_remote(path) or Path(path).is_file()):
        return path
    return source_path(exploration, detection["recording_id"])


def _wav(part: WavPart, request: Request, start_s: float) -> Response:
    headers = {"Accept-Ranges": "bytes", "X-Start-S": f"{start_s:.6f}"}
    try:
        found = range_of(request.headers.get("range"), part.size)
    except ValueError:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{part.size}"})
    start, end = found or (0, part.size)
    headers["Content-Length"] = str(end - start)
    if found is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{part.size}"
    status = 200 if found is None else 206
    if request.method == "HEAD":
        return Response(status_code=status, media_type="audio/wav", headers=headers)
    return StreamingResponse(part.read(start, end), status, media_type="audio/wav", headers=headers)
