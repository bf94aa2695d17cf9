"""The application: all routes, which the guard protects; errors are one sentence of JSON."""

import re
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from storage.errors import ConfigError, MelbankError, ObjectMissingError
from tools.exploring.answers import json_answer
from tools.exploring.export_routes import ExportRoutes
from tools.exploring.guard import Guard, Rules, TooLargeError
from tools.exploring.nearness_routes import BusyError, NearnessRoutes
from tools.exploring.picture_routes import PictureRoutes
from tools.exploring.review_routes import ReviewRoutes
from tools.exploring.row_routes import RowRoutes
from tools.exploring.sound_routes import SoundRoutes
from tools.exploring.start import start_config
from training.inference.exploring.exploration import Exploration
from training.inference.exploring.nearness.neighbours import ForgottenError, TooLongError
from training.inference.exploring.nearness.waiting import ComputingError
from training.inference.exploring.reviewing.review_desk import TakenBackError

PAGE = Path(__file__).parent / "page"
INDEX = "index.html"
_NAME = re.compile(r"(?:(?:script|style)/)?[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".json": "application/json",
    ".woff2": "font/woff2",
}
# By the first that fits.
STATUS: tuple[tuple[type[MelbankError], int], ...] = (
    (ForgottenError, 410),
    (TooLongError, 413),
    (TooLargeError, 413),
    (TakenBackError, 409),
    (ComputingError, 503),
    (BusyError, 503),
    (ObjectMissingError, 404),
    (ConfigError, 400),
    (MelbankError, 500),
)


def create_app(exploration: Exploration, rules: Rules, page: Path = PAGE) -> Guard:
    """The application of an exploration; `page` is the folder of its files."""
    config = start_config(exploration)

    def index(_: Request) -> Response:
        return page_file(page, INDEX)

    def file(request: Request) -> Response:
        return page_file(page, request.path_params["name"])

    def start(_: Request) -> Response:
        return json_answer(config)

    routes: list[BaseRoute] = [
        Route("/", index),
        Route("/page/{name:path}", file),
        Route("/api/config", start),
    ]
    for group in (
        RowRoutes(exploration),
        PictureRoutes(exploration),
        SoundRoutes(exploration),
        NearnessRoutes(exploration),
        ReviewRoutes(exploration),
        ExportRoutes(exploration),
    ):
        routes += group.routes()
    handlers = {MelbankError: _failed, HTTPException: _refused, Exception: _broken}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), rules)


def page_file(folder: Path, name: str) -> Response:
    """A file of the page; ObjectMissingError where there is none of that name."""
    path = folder / name
    kind = _TYPES.get(path.suffix)
    if kind is None or not _NAME.fullmatch(name) or not path.is_file():
        raise ObjectMissingError(f"the page has no file {name[:80]!r}")
    return FileResponse(path, media_type=kind, headers={"Cache-Control": "no-cache"})


def _failed(_: Request, error: Exception) -> Response:
    status = next(code for kind, code in STATUS if isinstance(error, kind))
    body: dict[str, object] = {"error": str(error)}
    if status == 503:
        body["retry"] = True
    if isinstance(error, ComputingError):
        body |= {"what": error.what, "progress": error.progress}
    answer = json_answer(body, status)
    if status == 503:
        answer.headers["Retry-After"] = "1"
    return answer


def _broken(_: Request, __: Exception) -> Response:
    """An error of ours, which is also printed with its place."""
    return json_answer({"error": "the server has made an error: see its terminal"}, 500)


def _refused(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return json_answer({"error": "there is no such page or method"}, status)
