"""tools.query: every command of docs/queries.md on a small store, files of sound, refusals."""

import io
import re
import shlex
import time
from pathlib import Path

import numpy as np
import PIL.Image
import polars as pl
import pytest
import soundfile

from storage.errors import ConfigError
from storage.store import open_store
from tests.hostile_sql import HOSTILE, statement
from tests.paths import ROOT
from tests.small_store import build_small_store
from tools.cli.command import run
from tools.cli.slice_files.audio import write_audacity
from tools.query import COMMAND, main
from training.inference.queries.named import NAMED
from training.inference.queries.same_store import check_same_store

DOC = (ROOT / "docs" / "queries.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    python -m tools\.query (.*)", DOC, re.MULTILINE)
PYTHON = DOC.partition("## In Python")[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A store in `data/store`, its recordings in `data`, and predictions of exp_003."""
    made = tmp_path_factory.mktemp("query")
    store = build_small_store(made, (6, 11, 8, 7))
    (made / "source").rename(made / "data")
    store.rename(made / "data" / "store")
    with open_store(str(made / "data/store")) as opened:
        index, recordings = opened.slice_index(), opened.recordings()
    preds = made / "preds" / "exp_003"
    preds.mkdir(parents=True)
    targets = pl.concat_list("primary_label").alias("target")
    whole = recordings.select("recording_id", pl.lit(0).alias("fold"), targets)
    labels = sorted(set(recordings["primary_label"]))
    for frame, name in ((whole, "oof_recordings"), (index.select("row", "recording_id"), "oof")):
        table = frame if name != "oof" else frame.join(whole, on="recording_id")
        scores = np.random.default_rng(0).dirichlet(np.ones(len(labels)), len(table))
        columns = [pl.Series(f"p_{label}", scores[:, no]) for no, label in enumerate(labels)]
        table.with_columns(columns).write_parquet(preds / f"{name}.parquet")
    return made


@pytest.fixture
def query(folder, monkeypatch):
    """Runs the command in the folder; returns its exit code."""
    monkeypatch.chdir(folder)
    return lambda *words: run(COMMAND, main, list(words))


@pytest.mark.parametrize("line", COMMANDS)
def test_a_recipe_runs_as_printed(query, capsys, line):
    assert query(*shlex.split(line)) == 0, capsys.readouterr().err


def test_all_named_queries_are_in_the_docs():
    assert {name for name in NAMED if f"--name {name}" in DOC} == set(NAMED)


def test_suspects_come_by_the_loss_of_their_label(query, folder, tmp_path):
    out = tmp_path / "suspects.parquet"
    words = ["--name", "mislabelled", "query.experiment=exp_003", "--parquet", str(out)]
    assert query(*words) == 0
    oof = pl.read_parquet(folder / "preds/exp_003/oof_recordings.parquet")
    scores = {row["recording_id"]: row[f"p_{row['target'][0]}"] for row in oof.to_dicts()}
    assert pl.read_parquet(out)["recording_id"].to_list() == sorted(scores, key=scores.get)


def test_the_python_of_the_docs_runs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    code = "\n".join(line[4:] for line in PYTHON.splitlines() if line.startswith("    "))
    names: dict[str, object] = {}
    exec(code, names)
    assert len(names["cells"]) == len(names["table"]) > 0
    html = names["store"]._repr_html_()
    assert html.count("data:image/png;base64,") == 4
    assert "4 of" in html


@pytest.fixture(scope="module")
def places(folder):
    """A map of all slices, as tools.similar writes it."""
    with open_store(str(folder / "data/store")) as store:
        index = store.slice_index().select("row", "recording_id")
    draw = np.random.default_rng(0)
    xy = {name: pl.Series(draw.normal(size=len(index))) for name in "xy"}
    index.with_columns(**xy).write_parquet(folder / "map.parquet")
    return pl.read_parquet(folder / "map.parquet")


def test_a_gallery_has_what_embedding_atlas_and_spotlight_read(query, folder, places, tmp_path):
    out = tmp_path / "gallery.parquet"
    sql = "SELECT row, loss FROM oof ORDER BY loss DESC"
    words = ["--sql", sql, "query.experiment=exp_003", "query.map=map.parquet", "source.root=data"]
    assert query(*words, "--gallery", str(out)) == 0
    gallery = pl.read_parquet(out)
    assert gallery["loss"].to_list() == sorted(gallery["loss"], reverse=True)
    assert gallery.schema["image"] == pl.Binary
    numbers = {"x": pl.Float64, "y": pl.Float64, "start_s": pl.Float64, "end_s": pl.Float64}
    assert numbers.items() <= dict(gallery.schema).items()
    joined = gallery.select("row", "x", "y").sort("row")
    assert joined.equals(places.select("row", "x", "y").sort("row"))
    with open_store(str(folder / "data/store")) as store:
        cells = store.slices(gallery)
    for image, own, path in zip(gallery["image"], cells, gallery["audio"], strict=True):
        picture = PIL.Image.open(io.BytesIO(image), formats=["PNG"])
        assert np.array_equal(np.asarray(picture)[::-1], own)
        assert Path(path).is_absolute()
        assert soundfile.info(path).frames


def test_a_gallery_needs_a_place_for_each_slice(query, folder, places, tmp_path, capsys):
    places[:-1].write_parquet(tmp_path / "less.parquet")
    out = ["source.root=data", "--gallery", str(tmp_path / "gallery.parquet")]
    assert query(f"query.map={tmp_path / 'less.parquet'}", *out) == 2
    assert "no place for 1 of" in capsys.readouterr().err
    assert query(*out) == 2
    assert "--gallery needs query.map=" in capsys.readouterr().err


def test_excerpts_are_the_sound_of_their_slices(query, folder):
    sql = "SELECT row FROM slices WHERE slice_no = 1"
    assert query("--sql", sql, "--wav", "second", "source.root=data") == 0
    with open_store(str(folder / "data/store")) as store:
        index = store.slice_table().filter(pl.col("slice_no") == 1).collect()
    files = sorted((folder / "second").glob("*.wav"))
    assert [int(path.name[:6]) for path in files] == index["row"].to_list()
    for path, row in zip(files, index.iter_rows(named=True), strict=True):
        found, rate_hz = soundfile.read(path)
        whole, _ = soundfile.read(folder / "data" / "train_audio" / row["filename"])
        start = round(row["start_s"] * rate_hz)
        np.testing.assert_allclose(found, whole[start : start + len(found)], atol=1e-4)
        assert len(found) == min(round(3 * rate_hz), len(whole) - start)


def test_raven_places_each_slice_in_its_recording_and_counts_on(query, folder):
    assert query("--sql", "SELECT row FROM slices", "--raven", "all.txt") == 0
    table = pl.read_csv(folder / "all.txt", separator="\t")
    with open_store(str(folder / "data/store")) as store:
        slices, recordings = store.slice_table().collect(), store.recordings()
    before = dict(zip(recordings["filename"], recordings["duration_s"].cum_sum(), strict=True))
    assert len(table) == len(slices)
    for line, row in zip(table.iter_rows(named=True), slices.iter_rows(named=True), strict=True):
        begin_s = before[row["filename"]] - row["duration_s"] + row["start_s"]
        assert line["Begin Time (s)"] == pytest.approx(begin_s, abs=1e-5)
        assert line["File Offset (s)"] == pytest.approx(row["start_s"], abs=1e-5)
        assert line["Begin Path"] == row["filename"]


def test_tracks_of_names_that_are_alike_are_kept_apart(tmp_path):
    """Equal once their slashes are gone, once they are cut, or without their case."""
    long = "x" * 120
    names = ["a/b", "a_b", f"{long}_050000", f"{long}_060000", "A_B"]
    spans = pl.DataFrame(
        {
            "recording_id": names,
            "start_s": [0.0] * 5,
            "end_s": [5.0] * 5,
            "common_name": [f"bird {number}" for number in range(5)],
        }
    )
    write_audacity(spans, tmp_path)
    texts = [path.read_text() for path in tmp_path.iterdir()]
    assert sorted(text[-2] for text in texts) == list("01234")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--name", "loud"), "there is no query 'loud'; there are labels"),
        (("--name", "hours"), "needs the columns site and date"),
        (("--name", "confused"), "needs query.experiment="),
        (("--name", "labels", "--sql", "SELECT 1"), "give one"),
        (("--name", "labels", "--wav", "x"), "need the column `row`"),
        (("--name", "loudest", "--wav", "x", "source.root=nowhere"), "no such folder"),
        (("query.experiment=exp_9",), "there is no preds/exp_9/oof.parquet"),
        (("query.experiment=../x",), "is no name such as exp_003"),
        (("query.predictions=nowhere",), "there is no nowhere/detections.parquet"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else None,
)
def test_a_wrong_call_ends_with_one_sentence(query, capsys, words, message):
    assert query(*words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("key", ["experiment", "embeddings", "map"])
def test_results_of_another_store_are_refused(query, folder, places, capsys, tmp_path, key):
    """Its rows are other slices."""
    places.write_parquet(folder / "embeddings.parquet")
    given = {"experiment": "exp_003"}.get(key, f"{key}.parquet")
    other = build_small_store(tmp_path, (9, 4))
    assert query(f"query.{key}={given}", "--name", "labels") == 0
    capsys.readouterr()
    assert query(f"query.{key}={given}", "--name", "labels", f"store={other}") == 2
    error = capsys.readouterr().err
    assert f"query.{key}={given} is of another store than {other} (slice " in error


@pytest.mark.parametrize(
    ("source", "recording_id", "is_accepted"),
    [
        ("far", "recording_0", True),
        ("far", "far/recording_0", True),  # renamed by the mix
        ("far", "other", False),
        (None, "far/recording_0", False),
    ],
)
def test_results_of_a_mix_are_of_each_of_its_stores(folder, source, recording_id, is_accepted):
    with open_store(str(folder / "data/store")) as store:
        first = store.recordings()["recording_id"][0]
        results = pl.LazyFrame(
            {
                "row": [0, 0],
                "recording_id": [recording_id.replace("recording_0", first), "elsewhere"],
                "source": [source, "near"],
            }
        )
        if source is None:
            results = results.drop("source")
        if is_accepted:
            check_same_store(results, store, "here")
            return
        with pytest.raises(ConfigError, match="here is of another store"):
            check_same_store(results, store, "here")


@pytest.mark.parametrize("store", ["nowhere", "preds"])
def test_a_store_that_is_not_there_is_a_wrong_call(query, capsys, store):
    assert query("--name", "labels", f"store={store}") == 2
    assert f"{store} is not a melbank store: it has no melbank.json" in capsys.readouterr().err


@pytest.mark.parametrize("sql", HOSTILE, ids=lambda sql: repr(sql)[:40])
def test_hostile_sql_is_refused_or_bounded(query, capsys, sql):
    began_s = time.monotonic()
    code = query("--sql", statement(sql), "--limit", "5")
    assert code in (0, 2), capsys.readouterr().err
    assert time.monotonic() - began_s < 30
    printed = capsys.readouterr()
    assert "root:" not in printed.out
    assert (code == 2) == printed.err.startswith("error: ")
