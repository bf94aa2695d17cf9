"""Files that tools.explore exports, read by what reads such files."""

import io
import zipfile

import polars as pl
import pytest

from datasets.corrections import corrected_recordings
from datasets.reviews import decided_labels, read_reviews
from storage.source.table import SourceConfig, read_source
from storage.store import open_store
from tests.tools.exploring.conftest import inputs_of, served
from training.inference.exploring.exploration import Exploration


@pytest.fixture
def reviewed(folder, tmp_path):
    """A client, after verdicts on three recordings: another label, no label, a further one."""
    with open_store(str(folder / "store")) as store:
        opened = Exploration.open(store, inputs_of(folder, tmp_path / "reviews"))
        with served(opened, folder / "page") as client:
            for number, (verdict, label, other) in enumerate(
                (("other", None, "spec2"), ("no", None, ""), ("yes", "spec2", ""))
            ):
                recording = store.recordings().row(number, named=True)
                body = {
                    "annotator": "ana",
                    "verdict": verdict,
                    "label": label or recording["primary_label"],
                    "other_label": other,
                    "recording_id": recording["recording_id"],
                    "start_s": 0.0,
                    "end_s": recording["duration_s"],
                }
                assert client.post("/api/reviews", body).status == 201
            yield client
        opened.close()


def test_tables_have_what_the_view_shows(client, exploration):
    for kind, read in (("csv", pl.read_csv), ("parquet", pl.read_parquet)):
        answer = client.get("/api/export", what="view", sort="-loss", format=kind)
        assert answer.headers["content-disposition"].endswith(f"view.{kind}")
        table = read(io.BytesIO(answer.body))
        rows = client.get("/api/rows", sort="-loss", count=500).json["rows"]
        assert table["row"].to_list() == [row["row"] for row in rows]
        assert table["loss"].to_list() == pytest.approx([row["loss"] for row in rows])
    some = client.get("/api/export", format="csv", **{"is": "primary_label:spec1"})
    assert set(pl.read_csv(io.BytesIO(some.body))["primary_label"]) == {"spec1"}


@pytest.mark.parametrize("what", ["view", "detections"])
def test_raven_and_audacity_have_a_line_each(client, what):
    table = pl.read_parquet(io.BytesIO(client.get("/api/export", what=what, format="parquet").body))
    raven = client.get("/api/export", what=what, format="raven")
    lines = pl.read_csv(io.BytesIO(raven.body), separator="\t")
    assert len(lines) == len(table)
    assert (lines["End Time (s)"] > lines["Begin Time (s)"]).all()
    packed = client.get("/api/export", what=what, format="audacity")
    with zipfile.ZipFile(io.BytesIO(packed.body)) as archive:
        assert len(archive.namelist()) == table["recording_id"].n_unique()
        found = sum(len(archive.read(name).splitlines()) for name in archive.namelist())
    assert found == len(table)


def test_verdicts_are_exported(reviewed, tmp_path):
    held = read_reviews(tmp_path / "reviews")
    table = pl.read_parquet(
        io.BytesIO(reviewed.get("/api/export", what="reviews", format="parquet").body)
    )
    assert table.sort("verdict_id").equals(held.drop("takes_back").sort("verdict_id"))
    raven = reviewed.get("/api/export", what="reviews", format="raven")
    lines = pl.read_csv(io.BytesIO(raven.body), separator="\t")
    assert lines["Species Code"].to_list() == ["spec2", "spec2"]


def test_the_corrected_csv_is_one_that_a_build_reads(reviewed, folder, tmp_path):
    answer = reviewed.get("/api/export", what="train")
    source = tmp_path / "source"
    source.mkdir()
    (source / "train.csv").write_bytes(answer.body)
    (source / "train_audio").symlink_to(folder / "source" / "train_audio")
    found = read_source(SourceConfig(root=str(source), id="filename")).recordings
    before = read_source(SourceConfig(root=str(folder / "source"), id="filename")).recordings
    changed = found.join(before, on="filename", suffix="_before")
    assert len(changed) == len(found) == len(before) - 1
    names = ("primary_label", "primary_label_before")
    other = changed.filter(pl.col(names[0]) != pl.col(names[1]))
    assert other[names[0]].to_list() == ["spec2"]
    decided = decided_labels(reviewed_verdicts(tmp_path))
    with open_store(str(folder / "store")) as store:
        corrected = corrected_recordings(store.recordings(), decided)
    assert sorted(corrected["filename"]) == sorted(found["filename"])


def reviewed_verdicts(tmp_path):
    return read_reviews(tmp_path / "reviews")


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"what": "everything"}, 400),
        ({"format": "xlsx"}, 400),
        ({"where": "loss > 99"}, 404),
        ({"what": "reviews", "format": "raven", "x": "1"}, 404),
    ],
    ids=str,
)
def test_what_cannot_be_exported_is_said(client, parameters, status):
    answer = client.get("/api/export", **parameters)
    assert answer.status == status
    assert answer.json["error"]
