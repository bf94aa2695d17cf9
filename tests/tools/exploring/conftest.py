"""A small store with predictions and detections, and a real server of it on a free port."""

import http.client
import json
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import polars as pl
import pytest

from storage.source.table import SourceConfig
from storage.store import open_store
from tests.small_store import build_small_store
from tools.exploring.app import create_app
from tools.exploring.config import ExploreConfig
from tools.exploring.server import listen, rules_of, web_server
from training.inference.exploring.exploration import Exploration, ExplorationInputs
from training.inference.outputs.detect import SCHEMA
from training.inference.queries.config import QueryConfig
from training.inference.similarity.config import SimilarConfig
from training.inference.similarity.place import EmbeddingPlace

TOKEN = "a-token-of-the-tests"
SECONDS = (6, 11, 8, 7, 3, 9)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


@dataclass(frozen=True)
class Client:
    """Asks a server; with the token, unless `headers` has others."""

    port: int
    headers: dict[str, str] = field(default_factory=lambda: {"Authorization": f"Bearer {TOKEN}"})

    def ask(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, {**self.headers, **named})
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()

    def get(self, path, _headers=None, **parameters):
        query = urlencode(parameters, doseq=True)
        return self.ask("GET", f"{path}?{query}" if query else path, **(_headers or {}))

    def post(self, path, value):
        return self.ask("POST", path, json.dumps(value), Content_Type="application/json")


def write_predictions(folder, store, name, seed):
    """Out-of-fold predictions of an experiment, drawn at random."""
    index, recordings = store.slice_index(), store.recordings()
    preds = folder / "preds" / name
    preds.mkdir(parents=True)
    targets = pl.concat_list("primary_label").alias("target")
    fold = (pl.int_range(pl.len()) % 3).alias("fold")
    whole = recordings.select("recording_id", fold, targets)
    labels = sorted(set(recordings["primary_label"]))
    slices = index.select("row", "recording_id").join(whole, on="recording_id")
    for frame, file in ((whole, "oof_recordings"), (slices.sort("row"), "oof")):
        scores = np.random.default_rng(seed).dirichlet(np.ones(len(labels)), len(frame))
        columns = [pl.Series(f"p_{label}", scores[:, no]) for no, label in enumerate(labels)]
        frame.with_columns(columns).write_parquet(preds / f"{file}.parquet")


def write_detections(folder, store):
    """Detections in the recordings of the store; one of each begins with a slice."""
    draw = np.random.default_rng(3)
    rows = [
        {
            **dict.fromkeys(SCHEMA.names()),
            "recording_id": recording["recording_id"],
            "path": str(folder / "source" / "train_audio" / recording["filename"]),
            "start_s": start_s,
            "end_s": start_s + 2,
            "label": f"spec{number % 3}",
            "score": float(draw.uniform(0.2, 1)),
            "site": f"S{number % 2}",
            "date": "2024-05-01",
        }
        for number, recording in enumerate(store.recordings().iter_rows(named=True))
        for start_s in (0.0, float(draw.uniform(0.5, 2)))
    ]
    predictions = folder / "predictions"
    predictions.mkdir()
    pl.DataFrame(rows, schema=SCHEMA).write_parquet(predictions / "detections.parquet")


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("explore")
    build_small_store(made, SECONDS)
    with open_store(str(made / "store")) as store:
        write_predictions(made, store, "exp_003", 0)
        write_predictions(made, store, "exp_004", 1)
        write_detections(made, store)
    page = made / "page"
    page.mkdir()
    (page / "index.html").write_text("<!doctype html><title>page</title>")
    (page / "page.js").write_text("0;")
    (made / "secret.js").write_text("no")
    return made


def inputs_of(folder, reviews, **changed):
    given = {
        "query": QueryConfig(experiment="exp_003", predictions=str(folder / "predictions")),
        "compare": "exp_004",
        "embeddings": EmbeddingPlace(
            similar=SimilarConfig(folder=str(folder / "embeddings")),
            root=folder,
            source=SourceConfig(root=str(folder / "source")),
        ),
        "reviews": reviews,
    }
    return ExplorationInputs(**{**given, **changed})


@pytest.fixture(scope="session")
def exploration(folder):
    with open_store(str(folder / "store")) as store:
        opened = Exploration.open(store, inputs_of(folder, folder / "reviews"))
        yield opened
        opened.close()


@contextmanager
def served(exploration: Exploration, page: Path, **changed):
    """Serves in a thread; yields a client that has the token."""
    config = ExploreConfig(port=0, token=TOKEN, **changed)
    bound, ready = listen(config), threading.Event()
    rules = rules_of(config, bound.getsockname()[1])
    server = web_server(create_app(exploration, rules, page), ready.set)
    thread = threading.Thread(target=server.run, args=([bound],))
    thread.start()
    try:
        assert ready.wait(30)
        yield Client(bound.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(30)
        bound.close()


@pytest.fixture(scope="session")
def client(exploration, folder):
    with served(exploration, folder / "page") as client:
        yield client


def raw(port: int, data: bytes, *, ends: bool = False) -> bytes:
    """Sends bytes as they are, and no more if `ends`; returns the first that come back."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(data)
        if ends:
            connection.shutdown(socket.SHUT_WR)
        return connection.recv(65536)
