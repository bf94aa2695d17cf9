"""Routes of review: queues, verdicts that are on disk when they are confirmed, undo, progress."""

import json
import re
from dataclasses import fields
from typing import Any

import polars as pl
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from datasets.reviews import OTHER, UNDO, Verdict
from storage.errors import ConfigError
from tools.exploring.answers import json_answer
from tools.exploring.parameters import Parameters
from tools.exploring.row_table import review_of
from training.inference.exploring.exploration import Exploration
from training.inference.exploring.reviewing.queue_items import DETECTED, SUSPECTS

_ID = re.compile(r"[0-9a-f]{32}")
_TEXTS = ("annotator", "verdict", "label", "recording_id", "other_label", "model", "queue", "note")
_NUMBERS = ("start_s", "end_s", "score")


class ReviewRoutes:
    """Answers with what is to be judged, and keeps the verdicts."""

    def __init__(self, exploration: Exploration) -> None:
        self._exploration, self._desk = exploration, exploration.desk

    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/api/queue", self.queue),
            Route("/api/reviews", self.reviews),
            Route("/api/reviews", self.add, methods=["POST"]),
            Route("/api/reviews/undo", self.undo, methods=["POST"]),
            Route("/api/reviews/progress", self.progress),
        ]

    def queue(self, request: Request) -> Response:
        """The items of a queue."""
        given, queues = Parameters(request.query_params), self._exploration.queues
        kind, order, view = given.text("of") or "labels", given.order(), given.view()
        items = queues.items(kind, view, order, given.text("label"))
        facts = queues.facts(items)
        self._desk.refresh()
        shown = [
            self._shown(number, kind, item, fact)
            for number, (item, fact) in enumerate(zip(items, facts, strict=True))
        ]
        name = kind if kind == SUSPECTS else f"{kind} {order}"
        return json_answer({"queue": name, "total": len(shown), "items": shown})

    def _shown(self, number: int, kind: str, item: Any, fact: dict[str, Any]) -> dict[str, Any]:
        inputs = self._exploration.inputs.query
        model = inputs.predictions if kind == DETECTED else inputs.experiment
        verdicts = self._desk.of_item(item.recording_id, item.start_s, item.label)
        known = {"primary_label": "given", "start_s": "slice_start_s"}
        given = {known.get(name, name): value for name, value in fact.items()}
        return {
            "no": number,
            "recording_id": item.recording_id,
            "start_s": item.start_s,
            "end_s": item.end_s,
            "label": item.label,
            "score": item.score,
            "model": "" if item.score is None else model,
            "row": None,
            "detection": item.detection,
            **given,
            "review": review_of(verdicts),
        }

    def reviews(self, request: Request) -> Response:
        """A page of the standing verdicts, the last first."""
        given = Parameters(request.query_params)
        found = self._desk.current()
        for name, column in (
            ("annotator", "annotator"),
            ("recording", "recording_id"),
            ("label", "label"),
        ):
            if given.has(name):
                found = found.filter(pl.col(column) == given.text(name))
        start, count = given.window()
        page = found.reverse()[start : start + count].drop("takes_back")
        return json_answer({"total": len(found), "verdicts": page.to_dicts()})

    async def add(self, request: Request) -> Response:
        """Keeps a verdict; answers when it is on disk."""
        verdict = _verdict(await _object(request))
        return await run_in_threadpool(self._add, verdict)

    def _add(self, verdict: Verdict) -> Response:
        added = self._desk.add(verdict)
        item = (verdict.recording_id, verdict.start_s, verdict.label)
        others = [one for one in self._desk.of_item(*item) if one["annotator"] != verdict.annotator]
        body = {"verdict_id": verdict.verdict_id, "time": verdict.time, "others": others}
        return json_answer(body, 201 if added else 200)

    async def undo(self, request: Request) -> Response:
        """Takes a verdict back."""
        body = await _object(request)
        verdict_id, annotator = _text(body, "verdict_id"), _text(body, "annotator")
        undo_id = await run_in_threadpool(self._desk.take_back, verdict_id, annotator)
        return json_answer({"verdict_id": undo_id, "takes_back": verdict_id}, 201)

    def progress(self, _: Request) -> Response:
        """Counts and agreement."""
        return json_answer(self._desk.progress())


async def _object(request: Request) -> dict[str, Any]:
    """The JSON object of a body; ConfigError where it is none."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ConfigError("the body must be JSON, with Content-Type: application/json")
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise ConfigError("the body is no JSON") from error
    if not isinstance(body, dict):
        raise ConfigError("the body must be a JSON object")
    return body


def _verdict(body: dict[str, Any]) -> Verdict:
    """The verdict of a body; ConfigError where a field is unknown or of another kind."""
    known = {entry.name for entry in fields(Verdict)} - {"time", "takes_back"}
    if unknown := sorted(set(body) - known):
        raise ConfigError(f"a verdict has no field {unknown[0][:40]!r}")
    values: dict[str, Any] = {name: _text(body, name) for name in _TEXTS}
    for name in _NUMBERS:
        value = body.get(name)
        if value is None and name == "score":
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{name} must be a number")
        values[name] = float(value)
    row = body.get("row")
    if row is not None and (isinstance(row, bool) or not isinstance(row, int) or abs(row) > 2**53):
        raise ConfigError("row must be a whole number")
    if values["verdict"] == UNDO:
        raise ConfigError("an undo is sent to /api/reviews/undo")
    if values["verdict"] != OTHER:
        values["other_label"] = ""
    if not (values["label"] and values["recording_id"]):
        raise ConfigError("a verdict needs label and recording_id")
    if verdict_id := _text(body, "verdict_id"):
        if not _ID.fullmatch(verdict_id):
            raise ConfigError("verdict_id must be 32 hex digits")
        values["verdict_id"] = verdict_id
    return Verdict(row=row, **values)


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name, "")
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be a text")
    return value
