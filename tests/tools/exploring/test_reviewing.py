"""Review in tools.explore: queues, verdicts that are kept once, undo, several people, kills."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.reviews import YES, ReviewLog, Verdict, read_reviews
from storage.store import open_store
from tests.paths import ROOT
from tests.tools.exploring.conftest import Client, inputs_of, served
from tools.exploring.answers import plain
from training.inference.exploring.exploration import Exploration
from training.inference.exploring.reviewing.queues import ORDERS, QueueOrder, choose

SERVER = """
import sys
from pathlib import Path
from tests.tools.exploring.killed_server import serve_and_fork
serve_and_fork(*map(Path, sys.argv[1:3]), int(sys.argv[3]))
"""


@pytest.fixture
def desk(folder, tmp_path):
    """A client of a server with reviews of its own, in `tmp_path/reviews`."""
    with open_store(str(folder / "store")) as store:
        opened = Exploration.open(store, inputs_of(folder, tmp_path / "reviews"))
        with served(opened, folder / "page") as client:
            yield client
        opened.close()


def verdict(item, annotator="ana", what="yes", **more):
    names = ("label", "recording_id", "start_s", "end_s", "row", "score", "model")
    return {"annotator": annotator, "verdict": what, **{n: item[n] for n in names}, **more}


def queue(client, **parameters):
    return client.get("/api/queue", **parameters).json["items"]


@given(
    order=st.sampled_from(ORDERS),
    seed=st.integers(0, 5),
    count=st.integers(1, 30),
    cap=st.integers(0, 3),
    group=st.integers(1, 4),
)
def test_a_queue_is_decided_by_its_seed_and_keeps_its_caps(order, seed, count, cap, group):
    size = 60
    candidates = pl.DataFrame(
        {
            "key": range(size),
            "score": [(7 * n % size) / size if n % 11 else None for n in range(size)],
            "uncertainty": [(5 * n % size) / size for n in range(size)],
            "recording": [n % 13 for n in range(size)],
            "group": [f"g{n % 7}" for n in range(size)],
        },
        schema_overrides={"key": pl.UInt64},
    )
    how = QueueOrder(order=order, seed=seed, count=count, per_recording=cap, per_group=group)
    places = choose(candidates, how)
    assert places.tolist() == choose(candidates, how).tolist()
    assert len(set(places.tolist())) == len(places) <= count
    chosen = candidates[places]
    if cap:
        assert max(Counter(chosen["recording"]).values(), default=0) <= cap
    if order in ("labels", "sites"):
        assert max(Counter(chosen["group"]).values()) <= group
    scores = chosen["score"].drop_nulls().to_list()
    if order == "highest":
        assert scores == sorted(scores, reverse=True)
        assert chosen["score"].to_list()[: len(scores)] == scores
    if order == "lowest":
        assert scores == sorted(scores)
    if order == "uncertain":
        assert chosen["uncertainty"].is_sorted()


def test_bands_are_shown_evenly(desk):
    items = queue(desk, of="predictions", order="bands", bands=2, count=6, label="spec1")
    high = [item["score"] > 0.5 for item in items]
    assert sum(high) in (2, 3, 4)
    assert high[:2] == [True, False]


@pytest.mark.parametrize("kind", ["labels", "predictions", "detections", "mislabelled"])
def test_each_kind_of_queue_asks_about_its_labels(desk, kind):
    answer = desk.get("/api/queue", of=kind, count=50, order="lowest").json
    items = answer["items"]
    assert answer["total"] == len(items) > 3
    assert answer == desk.get("/api/queue", of=kind, count=50, order="lowest").json
    assert [item["no"] for item in items] == [*range(len(items))]
    for item in items:
        assert item["end_s"] > item["start_s"] >= 0
        assert item["label"] == {"predictions": item["predicted"]}.get(kind, item["label"])
        if kind in ("labels", "mislabelled"):
            assert item["label"] == item["given"]
        assert item["model"].endswith("predictions" if kind == "detections" else "exp_003")
    if kind == "mislabelled":
        assert len({item["recording_id"] for item in items}) == len(items)
        assert {item["start_s"] for item in items} == {0}  # of the whole recording
        assert all(0 <= item["slice_start_s"] < item["end_s"] for item in items)
        gaps = [item["score"] - item["other_score"] for item in items]
        assert gaps[0] < 0


def test_filters_hold_for_queues(desk):
    items = queue(desk, of="labels", order="random", **{"is": "primary_label:spec2"})
    assert {item["label"] for item in items} == {"spec2"}
    found = queue(desk, of="detections", order="sites", per_group=2, **{"is": "site:S1"})
    assert len(found) == 2


def test_a_verdict_is_on_disk_when_it_is_confirmed(desk, tmp_path):
    items = queue(desk, of="labels", order="random")
    for number, item in enumerate(items[:5]):
        answer = desk.post("/api/reviews", verdict(item, queue="labels random", note="é ü"))
        assert answer.status == 201
        held = read_reviews(tmp_path / "reviews")
        assert len(held) == number + 1
        last = held.row(-1, named=True)
        assert last["verdict_id"] == answer.json["verdict_id"]
        assert (last["row"], last["label"], last["note"]) == (item["row"], item["label"], "é ü")
    states = [item["review"]["state"] for item in queue(desk, of="labels", order="random")]
    assert states == ["yes"] * 5 + ["none"] * (len(items) - 5)
    rows = desk.get("/api/rows", **{"is": "review:yes"}).json["rows"]
    assert {row["row"] for row in rows} == {item["row"] for item in items[:5]}
    assert desk.get("/api/rows", **{"is": "review:none"}).json["total"] == len(items) - 5


def test_the_same_verdict_sent_again_is_kept_once(desk, tmp_path):
    item = queue(desk, of="labels", order="random")[0]
    body = verdict(item, verdict_id=secrets.token_hex(16))
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: desk.post("/api/reviews", body), range(16)))
    assert sorted(answer.status for answer in answers) == [200] * 15 + [201]
    assert len(read_reviews(tmp_path / "reviews")) == 1


def test_two_people_on_one_item_see_each_other_and_both_are_kept(desk, tmp_path):
    items = queue(desk, of="labels", order="random")[:10]
    jobs = [(item, name) for item in items for name in ("ana", "ben")]
    with ThreadPoolExecutor(6) as threads:
        answers = list(
            threads.map(lambda job: desk.post("/api/reviews", verdict(*job, what="no")), jobs)
        )
    assert {answer.status for answer in answers} == {201}
    held = read_reviews(tmp_path / "reviews")
    assert Counter(held["annotator"]) == {"ana": 10, "ben": 10}
    assert len({answer.json["verdict_id"] for answer in answers}) == 20
    body = verdict(items[0], "cy", "other", other_label="spec2")
    others = desk.post("/api/reviews", body).json["others"]
    assert {one["annotator"] for one in others} == {"ana", "ben"}
    progress = desk.get("/api/reviews/progress").json
    assert progress["agreement"] == {"shared": 10, "same": 9}
    assert [one["annotator"] for one in progress["annotators"]] == ["ana", "ben", "cy"]
    assert progress["items"] == 10


def test_an_undo_takes_back_and_nothing_is_deleted(desk, tmp_path):
    item = queue(desk, of="labels", order="random")[0]
    first = desk.post("/api/reviews", verdict(item)).json["verdict_id"]
    body = {"annotator": "ana", "verdict_id": first}
    assert desk.post("/api/reviews/undo", {**body, "annotator": "ben"}).status == 409
    assert desk.post("/api/reviews/undo", body).status == 201
    assert desk.post("/api/reviews/undo", body).status == 409
    assert desk.post("/api/reviews/undo", {**body, "verdict_id": "0" * 32}).status == 404
    assert desk.get("/api/reviews").json["total"] == 0
    assert len(read_reviews(tmp_path / "reviews")) == 2


def test_verdicts_of_other_programs_are_seen(desk, tmp_path):
    item = queue(desk, of="labels", order="random")[0]
    known = {name: item[name] for name in ("label", "recording_id", "start_s", "end_s", "row")}
    ReviewLog(tmp_path / "reviews").append(Verdict(annotator="zoe", verdict=YES, **known))
    time.sleep(1.1)
    assert desk.get("/api/reviews", annotator="zoe").json["total"] == 1
    rows = desk.get("/api/rows", **{"is": "review:yes"}).json["rows"]
    assert [row["row"] for row in rows] == [item["row"]]


@pytest.mark.parametrize(
    "changed",
    [
        {"verdict": "maybe"},
        {"verdict": "undo"},
        {"annotator": " "},
        {"start_s": 9.0},
        {"start_s": "now"},
        {"start_s": None},
        {"start_s": True},
        {"end_s": 1e999},
        {"verdict_id": "../../x"},
        {"row": 1.5},
        {"label": ""},
        {"label": ["owl"]},
        {"note": "x" * 2000},
        {"time": "2020-01-01"},
        {"takes_back": "x"},
        {"verdict": "other"},
        {"unknown": 1},
    ],
    ids=str,
)
def test_what_is_no_verdict_is_refused(desk, tmp_path, changed):
    good = {
        "annotator": "ana",
        "verdict": "yes",
        "label": "spec0",
        "recording_id": "a",
        "start_s": 0.0,
        "end_s": 3.0,
    }
    answer = desk.post("/api/reviews", {**good, **changed})
    assert answer.status == 400
    assert len(answer.json["error"]) > 5
    assert not (tmp_path / "reviews").exists()


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b"[" * 9000, b"\xff"], ids=repr)
def test_a_body_that_is_no_object_is_refused(desk, body):
    assert desk.ask("POST", "/api/reviews", body, Content_Type="application/json").status == 400
    assert desk.ask("POST", "/api/reviews", b"{}", Content_Type="text/plain").status == 400


def test_a_full_disk_is_said_and_confirms_nothing(desk, tmp_path, monkeypatch):
    item = queue(desk, of="labels", order="random")[0]

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    answer = desk.post("/api/reviews", verdict(item))
    assert answer.status == 500
    assert "No space left" in answer.json["error"]
    monkeypatch.undo()
    assert desk.get("/api/reviews").json["total"] == 0
    assert desk.post("/api/reviews", verdict(item)).status == 201


def kill_rounds(folder, reviews, rounds):
    """Kills the server while verdicts are being sent; returns the ids that were confirmed."""
    command = [sys.executable, "-c", SERVER, str(folder), str(reviews), str(rounds)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    confirmed = set()
    for number in range(rounds):
        pid, port = map(int, process.stdout.readline().split())
        client = Client(port)
        item = {
            "label": "spec0",
            "recording_id": "a",
            "row": None,
            "score": None,
            "model": "",
        }

        def send(at, client=client, item=item, number=number):
            body = verdict({**item, "start_s": float(at), "end_s": at + 1.0}, f"p{number}")
            try:
                answer = client.post("/api/reviews", body)
            except (OSError, HTTPException, ValueError):
                return None
            return answer.json["verdict_id"] if answer.status == 201 else None

        with ThreadPoolExecutor(4) as threads:
            sent = [threads.submit(send, at) for at in range(40)]
            while not any(one.done() for one in sent):
                time.sleep(0.001)
            time.sleep((number % 20) * 0.004)
            os.kill(pid, signal.SIGKILL)
            confirmed |= {one.result() for one in sent} - {None}
    process.wait(30)
    process.stdout.close()
    return confirmed


def test_kills_lose_no_confirmed_verdict(folder, tmp_path):
    confirmed = kill_rounds(folder, tmp_path / "reviews", 5)
    assert len(confirmed) >= 5
    assert confirmed <= set(read_reviews(tmp_path / "reviews")["verdict_id"])


@pytest.mark.slow
def test_two_hundred_kills_lose_no_confirmed_verdict(folder, tmp_path):
    confirmed = kill_rounds(folder, tmp_path / "reviews", 200)
    assert len(confirmed) >= 200
    assert confirmed <= set(read_reviews(tmp_path / "reviews")["verdict_id"])


def test_values_of_answers_are_plain():
    assert plain({"a": float("nan"), "b": [1, float("inf")], 3: {"c": None}}) == {
        "a": None,
        "b": [1, None],
        "3": {"c": None},
    }
