"""Pictures, sound, neighbours and the map of tools.explore, against the stored slices and files."""

import io
import json
import time

import numpy as np
import polars as pl
import pytest
import soundfile
from PIL import Image

from storage.source.table import SourceConfig
from tests.tools.exploring.conftest import inputs_of, served
from training.inference.exploring.exploration import Exploration
from training.inference.similarity.config import SimilarConfig
from training.inference.similarity.place import EmbeddingPlace


def waited(client, path, **parameters):
    """An answer that may have to be computed first."""
    end_s = time.monotonic() + 300
    while (answer := client.get(path, **parameters)).status == 503 and time.monotonic() < end_s:
        assert answer.json["retry"] is True
        assert answer.headers["retry-after"] == "1"
        time.sleep(0.1)
    assert answer.status == 200, answer.body
    return answer


def unpacked(answer):
    """The JSON and the arrays of a packed answer."""
    size = int.from_bytes(answer.body[:4], "little")
    about, place, arrays = json.loads(answer.body[4 : 4 + size]), 4 + size, {}
    count = about.get("count", None)
    for one in about["arrays"]:
        kind = np.dtype(one["type"]).newbyteorder("<")
        count = count or (len(answer.body) - place) // kind.itemsize
        arrays[one["name"]] = np.frombuffer(answer.body, kind, count, place)
        place += -(-count * kind.itemsize // 8) * 8
    return about, arrays


@pytest.mark.parametrize("colour", ["magma", "gray"])
def test_a_sheet_has_the_stored_slices_one_below_the_other(client, exploration, colour):
    rows = exploration.frame.rows[[3, 0, 3, 7]]
    bands, frames = exploration.store.recipe.slice_shape
    answer = client.get(
        "/api/sheet", rows=",".join(map(str, rows)), width=frames, height=bands, colour=colour
    )
    assert answer.headers["content-type"] == "image/png"
    assert "max-age" in answer.headers["cache-control"]
    found = np.asarray(Image.open(io.BytesIO(answer.body)))
    cells = exploration.store.read(rows)[:, ::-1]
    assert (found == cells.reshape(-1, frames)).all()
    large = client.get("/api/spectrogram", row=int(rows[1]), colour=colour)
    assert (np.asarray(Image.open(io.BytesIO(large.body))) == cells[1]).all()


def test_pictures_of_what_is_not_there(client):
    for parameters in ({"rows": "9999"}, {"rows": "0,9999"}, {"detections": "9999"}):
        assert client.get("/api/sheet", **parameters).status == 404
    for parameters in (
        {"rows": "x"},
        {"rows": ""},
        {"rows": "-1"},
        {"rows": ",".join(["0"] * 201)},
        {"rows": "0", "width": 15},
        {"rows": "0", "height": 9999},
        {"rows": "0", "colour": "jet"},
    ):
        assert client.get("/api/sheet", **parameters).status == 400, parameters
    assert client.get("/api/sheet", upload="nothing").status == 410


def test_a_detection_that_is_not_stored_is_cut_as_a_build_cuts(exploration, folder):
    from training.inference.exploring.cutting import cut_stretch

    frame = exploration.frame
    for place in range(len(frame)):
        row = frame.take(np.array([place]), ["recording_id", "start_s", "filename"]).row(
            0, named=True
        )
        path = str(folder / "source" / "train_audio" / row["filename"])
        part = exploration.sounds.part(path, row["start_s"], None)
        found = cut_stretch(part, exploration.store.recipe).astype(int)
        stored = exploration.store.read(frame.rows[[place]])[0].astype(int)
        # at its edges the resampler of a build has heard what is before and after
        inner = slice(4, -4)
        assert np.median(abs(found - stored)[:, inner]) <= 1


def test_detections_have_pictures(client, exploration, folder):
    row = client.get("/api/detections", count=1).json["detections"][0]
    answer = client.get("/api/sheet", detections=f"{row['detection']},0")
    assert answer.headers["x-missing"] == ""
    assert Image.open(io.BytesIO(answer.body)).size == (156, 128)
    found = exploration.detections.one(row["detection"])
    assert exploration.frame.covering("nobody", 0, 2) is None
    assert found["recording_id"] == row["recording_id"]


def test_the_order_of_detections(client):
    rows = client.get("/api/detections", count=100).json["detections"]
    scores = [row["score"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    lowest = client.get("/api/detections", sort="-score").json["detections"]
    assert [row["score"] for row in lowest] == sorted(scores)
    some = client.get("/api/detections", **{"is": "label:spec1", "range": "score:0.5:"}).json
    assert all(row["label"] == "spec1" and row["score"] >= 0.5 for row in some["detections"])
    counted = client.get("/api/histogram", of="detections", bins=4, **{"class": "spec1"}).json
    every = [row for row in rows if row["label"] == "spec1"]
    assert sum(counted["counts"]) == len(every)


@pytest.mark.parametrize("context", [{}, {"before": 1, "after": 1}], ids=str)
def test_sound_is_that_of_the_recording(client, exploration, folder, context):
    places = np.array([1, 4])
    for row in exploration.frame.take(places).iter_rows(named=True):
        answer = client.get("/api/audio", row=row["row"], **context)
        found, rate_hz = soundfile.read(io.BytesIO(answer.body), dtype="float32")
        whole, _ = soundfile.read(folder / "source/train_audio" / row["filename"], dtype="float32")
        first_s = max(0, row["start_s"] - context.get("before", 0))
        assert float(answer.headers["x-start-s"]) == first_s
        end = min(len(whole), round((row["start_s"] + 3 + context.get("after", 0)) * rate_hz))
        np.testing.assert_allclose(found, whole[round(first_s * rate_hz) : end], atol=1e-3)


def test_ranges_of_a_recording_are_parts_of_the_whole(client, exploration):
    name = exploration.store.recordings()["recording_id"][0]
    whole = client.get("/api/audio", recording=name)
    size = len(whole.body)
    assert int(whole.headers["content-length"]) == size
    head = client.ask("HEAD", f"/api/audio?recording={name}")
    assert (head.headers["content-length"], head.body) == (str(size), b"")
    for first, last in ((0, 0), (0, 43), (10, 50), (44, 44), (45, 1000), (99_999, 200_001)):
        part = client.get("/api/audio", {"Range": f"bytes={first}-{last}"}, recording=name)
        assert part.status == 206
        assert part.body == whole.body[first : last + 1]
        end = min(last, size - 1)
        assert part.headers["content-range"] == f"bytes {first}-{end}/{size}"
    tail = client.get("/api/audio", {"Range": "bytes=-101"}, recording=name)
    assert tail.body == whole.body[-101:]
    rest = client.get("/api/audio", {"Range": f"bytes={size - 7}-"}, recording=name)
    assert rest.body == whole.body[-7:]
    assert client.get("/api/audio", {"Range": f"bytes={size}-"}, recording=name).status == 416
    for odd in ("bytes=", "bytes=x-y", "lines=0-1", "bytes=0-1,3-4", "bytes=-"):
        assert client.get("/api/audio", {"Range": odd}, recording=name).status == 200


def test_sound_that_is_elsewhere_says_why(exploration, folder, tmp_path, client):
    assert client.get("/api/audio", row=9999).status == 404
    assert client.get("/api/audio", recording="../../etc/passwd").status == 404
    assert client.get("/api/audio", row=0, before=31).status == 400
    place = EmbeddingPlace(root=folder, source=SourceConfig(root=str(tmp_path / "gone")))
    inputs = inputs_of(folder, tmp_path / "reviews", embeddings=place)
    opened = Exploration.open(exploration.store, inputs)
    with served(opened, folder / "page") as other:
        config = other.get("/api/config").json
        assert config["audio"] is False
        assert "gone" in config["audio_reason"]
        answer = other.get("/api/audio", row=0)
        assert answer.status == 404
        assert "there is no such folder" in answer.json["error"]


def test_neighbours_are_those_of_tools_similar(client, exploration, folder):
    row = int(exploration.frame.rows[3])
    found = waited(client, "/api/rows", like=f"row:{row}", count=500).json["rows"]
    opened = exploration.neighbours.opened.get()
    unit_NE = opened.collection.unit_NE
    similar = unit_NE @ unit_NE[3]
    own = exploration.frame.recording_no == exploration.frame.recording_no[3]
    expected = sorted(np.flatnonzero(~own), key=lambda place: (-similar[place], place))
    assert [one["row"] for one in found] == exploration.frame.rows[expected].tolist()
    assert found[0]["similarity"] == pytest.approx(similar[expected[0]], abs=1e-5)
    every = client.get("/api/rows", like=f"row:{row}", leave_out="none", count=500).json["rows"]
    assert len(every) == len(exploration.frame) - 1
    some = client.get("/api/rows", like=f"row:{row}", **{"is": "primary_label:spec1"}).json["rows"]
    assert [one["row"] for one in some] == [
        one["row"] for one in found if one["primary_label"] == "spec1"
    ]
    name = found[0]["recording_id"]
    other = client.get("/api/rows", like=f"recording:{name}", count=1).json["rows"][0]
    assert other["recording_id"] != name
    assert client.get("/api/rows", like="row:9999").status == 400
    assert client.get("/api/rows", like=f"row:{row}", leave_out="colour").status == 400


def test_a_file_that_is_dropped_finds_its_own_slices(client, exploration, folder):
    waited(client, "/api/rows", like="row:0", count=1)
    recording = exploration.store.recordings().row(1, named=True)
    data = (folder / "source/train_audio" / recording["filename"]).read_bytes()
    answer = client.ask("POST", "/api/uploads?name=my%20call.ogg", data)
    assert answer.status == 201
    assert answer.json["slices"] == recording["num_slices"]
    like = f"upload:{answer.json['upload']}"
    rows = client.get("/api/rows", like=like).json["rows"]
    assert rows[0]["recording_id"] == recording["recording_id"]
    assert rows[0]["similarity"] == pytest.approx(1, abs=1e-3)
    sheet = client.get("/api/sheet", upload=answer.json["upload"], height=16)
    assert Image.open(io.BytesIO(sheet.body)).size == (156, 16 * recording["num_slices"])
    assert client.get("/api/rows", like="upload:0123").status == 410
    for bad in (b"", b"no sound", b"RIFF" + bytes(100), data[: len(data) // 3][:50]):
        assert client.ask("POST", "/api/uploads?name=../../x.wav", bad).status == 400


def test_a_file_that_is_too_long_is_refused(client):
    waited(client, "/api/rows", like="row:0", count=1)
    file = io.BytesIO()
    soundfile.write(file, np.zeros(8000 * 700, np.int16), 8000, format="WAV", subtype="PCM_16")
    answer = client.ask("POST", "/api/uploads?name=long.wav", file.getvalue())
    assert answer.status == 413
    assert "600 s" in answer.json["error"]


def test_the_map_and_its_columns(client, exploration, folder, tmp_path):
    about, arrays = unpacked(waited(client, "/api/map"))
    assert about["count"] == len(exploration.frame)
    assert arrays["row"].tolist() == exploration.frame.rows.tolist()
    named, codes = unpacked(client.get("/api/map/column", name="primary_label"))
    values = np.array(named["values"])[codes["code"][: about["count"]]]
    labels = exploration.frame.values("primary_label", np.arange(len(exploration.frame)))
    assert values.tolist() == labels.to_list()
    numbers, losses = unpacked(client.get("/api/map/column", name="loss"))
    assert numbers["kind"] == "number"
    expected = exploration.frame.numbers("loss")
    np.testing.assert_allclose(losses["value"][: len(expected)], expected, rtol=1e-5)
    assert client.get("/api/map/column", name="colour").status == 400
    x = float(np.sort(arrays["x"])[8:10].mean())
    corners = f"{x},-9,9,-9,9,9,{x},9"
    found = client.get("/api/rows", polygon=corners, count=500).json["rows"]
    assert [one["row"] for one in found] == arrays["row"][arrays["x"] > x].tolist()


def test_the_map_knows_the_points_that_pass_the_filters(client, exploration):
    _, points = unpacked(waited(client, "/api/map"))
    label = exploration.frame.values("primary_label", np.arange(1))[0]
    for given in (
        {},
        {"is": f"primary_label:{label}"},
        {"where": "max_db > -30"},
        {"where": "0=1"},
    ):
        about, arrays = unpacked(client.get("/api/map/passing", **given))
        found = client.get("/api/rows", count=500, **given).json
        wanted = np.isin(points["row"], [one["row"] for one in found["rows"]])
        np.testing.assert_array_equal(arrays["passing"][: len(wanted)], wanted)
        assert about["number"] == found["total"] == wanted.sum()
    assert client.get("/api/map/passing", where="nothing").status == 400


def test_a_map_can_come_from_a_file(exploration, folder, tmp_path):
    rows = exploration.frame.rows[:4]
    table = pl.DataFrame({"row": rows, "x": [0.0, 1, 2, 3], "y": [0.0, 0, 1, 1]})
    table.write_parquet(tmp_path / "map.parquet")
    inputs = inputs_of(folder, tmp_path / "reviews", map=tmp_path / "map.parquet")
    with served(Exploration.open(exploration.store, inputs), folder / "page") as client:
        about, arrays = unpacked(client.get("/api/map"))
        assert (about["method"], arrays["x"].tolist()) == ("file", [0, 1, 2, 3])
        found = client.get("/api/rows", polygon="0.5,-1,9,-1,9,9,0.5,9").json["rows"]
        assert [one["row"] for one in found] == rows[1:].tolist()
    (tmp_path / "map.parquet").write_bytes(b"no")
    with served(Exploration.open(exploration.store, inputs), folder / "page") as client:
        answer = client.get("/api/map")
        assert (answer.status, "is no map" in answer.json["error"]) == (400, True)


def test_an_embedding_that_fails_says_so_and_can_be_tried_again(exploration, folder, tmp_path):
    similar = SimilarConfig(by=str(tmp_path / "nothing.parquet"))
    place = EmbeddingPlace(similar=similar, root=folder)
    inputs = inputs_of(folder, tmp_path / "reviews", embeddings=place)
    with served(Exploration.open(exploration.store, inputs), folder / "page") as client:
        for _ in range(2):
            answer = client.get("/api/rows", like="row:0")
            while answer.status == 503:
                answer = client.get("/api/rows", like="row:0")
            assert answer.status in (400, 500)
            assert "nothing.parquet" in answer.json["error"]
