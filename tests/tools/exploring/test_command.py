"""tools.explore as typed: its link, its end, wrong calls, other stores, many requests at once."""

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from storage.store import open_store
from tests.paths import ROOT
from tests.tools.exploring.conftest import Client, inputs_of, write_predictions
from tools.cli.command import run
from tools.explore import COMMAND, main
from training.inference.exploring.exploration import Exploration
from training.inference.queries.config import QueryConfig

NUM_REQUESTS = 10_000


@pytest.fixture
def explore(folder, monkeypatch):
    """Runs the command on the store, in the folder of the tests; returns its exit code."""
    monkeypatch.chdir(folder)
    return lambda *words: run(COMMAND, main, ["store=store", "explore.port=0", *words])


@pytest.fixture
def started(folder, tmp_path):
    """A server as a user starts it, with sound and predictions; yields process and client."""
    words = [
        f"store={folder}/store",
        f"experiment.root={folder}",
        "explore.experiment=exp_003",
        f"explore.reviews={tmp_path}/reviews",
        f"source.root={folder}/source",
        "explore.port=0",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.explore", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    port, token = re.fullmatch(r"open http://127\.0\.0\.1:(\d+)/\?token=(\S+)\n", line).groups()
    yield process, Client(int(port), {"Authorization": f"Bearer {token}"})
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_it_prints_a_link_survives_a_browser_that_dies_and_ends_with_ctrl_c(started):
    process, client = started
    name = client.get("/api/rows", count=1).json["rows"][0]["recording_id"]
    head = f"Host: localhost\r\nAuthorization: {client.headers['Authorization']}\r\n\r\n"
    for path in (f"/api/audio?recording={name}", "/api/facets", "/api/sheet?rows=0,1,2"):
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", client.port)) as browser:
                browser.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
                browser.sendall(f"GET {path} HTTP/1.1\r\n{head}".encode())
    with socket.create_connection(("127.0.0.1", client.port)) as browser:
        browser.sendall(b"POST /api/reviews HTTP/1.1\r\nContent-Length: 1000\r\n" + head.encode())
    assert client.get("/api/rows").status == 200
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "\nstopped; what is committed stays\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("store=nowhere",), "nowhere"),
        (("explore.experiment=exp_9",), "explore.experiment=exp_9: there is no preds/exp_9/oof"),
        (("explore.experiment=../x",), "no name such as exp_003"),
        (("explore.experiment=exp_003", "explore.compare=exp_9"), "exp_9"),
        (("explore.compare=exp_003",), "needs explore.experiment"),
        (("explore.predictions=nowhere",), "there is no nowhere/detections.parquet"),
        (("explore.token=short",), "at least 16"),
        (("explore.port=99999",), "explore.port=99999"),
        (("explore.host=no such host",), "no name of a host"),
        (("explore.host=nobody.invalid",), "is no address"),
        (("explore.host=203.0.113.1",), "explore.host=203.0.113.1"),
        (("explore.map=nowhere.parquet",), "there is no nowhere.parquet"),
    ],
    ids=str,
)
def test_a_wrong_call_ends_with_one_sentence(explore, capsys, words, message):
    assert explore(*words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_port_in_use_is_one_sentence(explore, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert explore(f"explore.port={other.getsockname()[1]}") == 2
    assert "is in use" in capsys.readouterr().err


def test_an_experiment_of_another_store_is_refused(explore, folder, capsys, tmp_path):
    preds = tmp_path / "preds" / "exp_001"
    preds.mkdir(parents=True)
    for name in ("oof", "oof_recordings"):
        table = pl.read_parquet(folder / "preds" / "exp_003" / f"{name}.parquet")
        if name == "oof":
            table = table.with_columns(pl.col("row") + 100_000)
        table.write_parquet(preds / f"{name}.parquet")
    assert explore("explore.experiment=exp_001", f"experiment.root={tmp_path}") == 2
    assert "is of another store" in capsys.readouterr().err


def test_an_experiment_may_lack_slices(folder, tmp_path):
    with open_store(str(folder / "store")) as store:
        write_predictions(tmp_path, store, "exp_001", 0)
        file = tmp_path / "preds" / "exp_001" / "oof.parquet"
        pl.read_parquet(file)[::2].sample(fraction=1.0, shuffle=True, seed=1).write_parquet(file)
        place = replace(inputs_of(folder, tmp_path / "reviews").embeddings, root=tmp_path)
        inputs = inputs_of(
            folder,
            tmp_path / "reviews",
            embeddings=place,
            compare="",
            query=QueryConfig(experiment="exp_001"),
        )
        opened = Exploration.open(store, inputs)
        held = pl.read_parquet(file).sort("row")
        scores = opened.scores.of_class("spec0")
        assert scores[::2].tolist() == pytest.approx(held["p_spec0"].to_list())
        assert np.isnan(opened.frame.numbers("loss")[1::2]).all()
        assert opened.scores.best(1) == []
        assert len(opened.scores.best(0)) == 3


@pytest.mark.slow
def test_ten_thousand_requests_at_once_are_answered_or_refused(started):
    process, client = started
    row = client.get("/api/rows", count=1).json["rows"][0]
    outcomes: Counter[int | str] = Counter()
    kept, lock = set(), threading.Lock()
    numbers = iter(range(NUM_REQUESTS))

    def ask():
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            try:
                if number % 10:
                    answer = client.get("/api/rows", start=number % 20, sort="-loss", count=5)
                else:
                    body = {
                        "annotator": f"p{number}",
                        "verdict": "yes",
                        "label": "spec0",
                        "recording_id": row["recording_id"],
                        "start_s": row["start_s"],
                        "end_s": row["end_s"],
                    }
                    answer = client.post("/api/reviews", body)
            except OSError as error:
                with lock:
                    outcomes["lost" if isinstance(error, ConnectionError) else repr(error)] += 1
                continue
            with lock:
                outcomes[answer.status] += 1
                if answer.status == 201:
                    kept.add(answer.json["verdict_id"])

    threads = [threading.Thread(target=ask) for _ in range(400)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(outcomes.values()) == NUM_REQUESTS
    assert set(outcomes) <= {200, 201, 503, "lost"}
    assert outcomes[200] > 0
    time.sleep(1.5)
    found, start = set(), 0
    while page := client.get("/api/reviews", start=start, count=500).json["verdicts"]:
        found |= {verdict["verdict_id"] for verdict in page}
        start += len(page)
    assert kept <= found
    assert process.poll() is None
