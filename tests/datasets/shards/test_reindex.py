"""datasets.shards.reindex: the side index from the tars alone, ours and those of others."""

import gc
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import webdataset

from datasets.labels import Labels
from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.sampling.epoch_plan import EpochPlanner, SamplingConfig
from datasets.shards.format import INDEX, MANIFEST, RECORDINGS
from datasets.shards.reindex import IndexConfig, index_shards
from datasets.shards.shard_set import open_shards
from datasets.shards.verify import verify_shards
from datasets.shards.writer import ShardConfig, write_shards
from storage.errors import ConfigError, DamageError, StoreError
from storage.recipe import FOREIGN, Recipe
from tests.fakes import SMALL
from tests.shard_sets import (
    LENGTHS,
    SMALL_SHARDS,
    check_holds,
    contents,
    identities,
    part_of,
    read_all,
)

ONE = IndexConfig(workers=1)
KNOWN = ["row", "recording_id", "slice_no", "start_s", "max_db", "crc32c"]


def write_stock(folder, samples, *, maxcount=4):
    """Tars as stock webdataset writes them."""
    folder.mkdir(exist_ok=True)
    with webdataset.ShardWriter(f"{folder}/part-%03d.tar", maxcount=maxcount, verbose=0) as tars:
        for sample in samples:
            tars.write(sample)
    gc.collect()
    return folder


def arrays(count, *, dtype="float32", shape=SMALL.slice_shape, seed=3):
    """Random slices as others make them."""
    rng = np.random.default_rng(seed)
    if dtype == "uint8":
        return rng.integers(0, 256, (count, *shape), np.uint8)
    return rng.random((count, *shape)).astype(dtype)


def write_tar(path, members):
    """A tar of (name, bytes) or of TarInfos, by tarfile alone."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            name, data = member
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def npy(array, **options):
    """An array as .npy bytes."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **options)
    return buffer.getvalue()


def good(number=0):
    """Two members of a sample that can be used."""
    cells = arrays(1, seed=number)[0]
    return [(f"s{number}.npy", npy(cells)), (f"s{number}.cls", b"3")]


@pytest.mark.parametrize("workers", [1, 2])
def test_our_own_tars_tell_what_the_writer_wrote(source, target, workers):
    for end in (7, 12):
        write_shards(part_of(source, range(end)), str(target), SMALL_SHARDS)
    tars = identities(target)
    written = contents(target)
    for name in (INDEX, RECORDINGS, MANIFEST):
        (target / name).unlink()
    report = index_shards(str(target), Recipe(), IndexConfig(workers=workers))
    assert (report.num_slices, report.num_recordings) == (sum(LENGTHS), len(LENGTHS))
    shards = open_shards(str(target))
    assert (shards.recipe, shards.store_id) == (source.recipe, source.store_id)
    columns = [name for name in source.table.columns if name != "rating"]
    assert shards.recordings().equals(source.table.select(columns))
    assert shards.slice_index().equals(source.index.select(KNOWN))
    assert np.array_equal(read_all(shards), source.cells)
    assert identities(target) == tars
    manifests = [json.loads(data[MANIFEST])["files"] for data in (written, contents(target))]
    for one, other in zip(*[[m[name] for name in tars] for m in manifests], strict=True):
        assert one == other


def test_with_its_own_recordings_table_the_set_is_as_it_was(source, target):
    write_shards(source, str(target), SMALL_SHARDS)
    before = contents(target)
    index_shards(str(target), Recipe(), replace(ONE, recordings=str(target / RECORDINGS)))
    after = contents(target)
    columns = [*pl.read_parquet(before[INDEX]).columns]
    assert after[RECORDINGS] == before[RECORDINGS]
    assert pl.read_parquet(after[INDEX]).equals(pl.read_parquet(before[INDEX]).select(columns))


def test_the_writer_goes_on_with_a_rebuilt_set(source, target):
    write_shards(part_of(source, range(6)), str(target), SMALL_SHARDS)
    (target / MANIFEST).unlink()
    with pytest.raises(ConfigError, match="index_shards"):
        write_shards(source, str(target), SMALL_SHARDS)
    index_shards(str(target), Recipe(), ONE)
    before = identities(target)
    write_shards(source, str(target), SMALL_SHARDS)
    assert before.items() < identities(target).items()
    check_holds(open_shards(str(target)), source)


def test_of_a_recording_that_was_written_twice_the_last_counts(source, target):
    write_shards(source, str(target), SMALL_SHARDS)
    write_shards(part_of(source, range(7)), str(target), SMALL_SHARDS)
    write_shards(source, str(target), SMALL_SHARDS)
    before = open_shards(str(target))
    report = index_shards(str(target), Recipe(), ONE)
    assert f"{sum(LENGTHS[7:])} slices in the tars are left out" in report.summary()
    after = open_shards(str(target))
    rows = source.index["row"].to_numpy()
    assert after.slice_index()["row"].to_list() == rows.tolist()
    assert np.array_equal(after.extents(rows).offset, before.extents(rows).offset)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_stock_tars_are_indexed_and_train(target, dtype):
    cells = arrays(22, dtype=dtype)
    labels = [f"bird{number % 3}" for number in range(22)]
    write_stock(
        target,
        [
            {"__key__": f"{number:05d}", "npy": array, "json": {"label": label}}
            for number, (array, label) in enumerate(zip(cells, labels, strict=True))
        ],
    )
    tars = identities(target)
    report = index_shards(str(target), SMALL, ONE)
    shards = open_shards(str(target))
    assert (report.num_shards, report.num_slices, report.num_recordings) == (6, 22, 22)
    assert shards.recipe == replace(SMALL, origin=FOREIGN, encoding=dtype)
    assert np.array_equal(read_all(shards), cells)
    assert shards.recordings()["primary_label"].to_list() == labels
    assert shards.slice_index()["row"].to_list() == list(range(22))
    assert identities(target) == tars
    assert verify_shards(str(target), None).damage == []
    targets = Labels.of(shards.recordings()).targets(shards.recordings(), 0.5)
    planner = EpochPlanner(shards.recordings(), SamplingConfig(balance="sqrt"), seed=1)
    reader = BatchReader(shards, planner, LoaderConfig(batch_size=4), targets=targets, train=True)
    batches = list(reader)
    assert len(batches) == 5
    for batch in batches:
        assert np.array_equal(batch.slices.numpy(), cells[batch.rows.numpy()])
        names = [int(labels[row][-1]) for row in batch.rows]
        assert batch.targets.argmax(1).tolist() == names


def test_samples_of_a_recording_are_put_together_wherever_they_lie(target):
    cells = arrays(9, dtype="uint8")
    whose = ["b", "a", "b", "c", "a", "b", "c", "a", "b"]
    write_stock(
        target,
        [
            {"__key__": f"{who}-{number}", "mel.npy": cell, "cls": ord(who)}
            for number, (who, cell) in enumerate(zip(whose, cells, strict=True))
        ],
    )
    index_shards(str(target), SMALL, replace(ONE, recording_pattern=r"^(\w+)-\d+$"))
    shards = open_shards(str(target))
    order = sorted(range(9), key=lambda number: ("bac".index(whose[number]), number))
    assert np.array_equal(read_all(shards), cells[order])
    recordings = shards.recordings()
    assert recordings["recording_id"].to_list() == ["b", "a", "c"]
    assert recordings["num_slices"].to_list() == [4, 3, 2]
    assert recordings["first_row"].to_list() == [0, 4, 7]
    assert recordings["primary_label"].to_list() == ["98", "97", "99"]
    assert shards.slice_index()["slice_no"].to_list() == [0, 1, 2, 3, 0, 1, 2, 0, 1]


def test_the_json_names_the_recording_and_orders_its_slices(target):
    cells = arrays(6, dtype="uint8")
    write_stock(
        target,
        [
            {
                "__key__": f"{number}",
                "npy": cell,
                "json": {"recording_id": "XC1", "slice_no": 5 - number, "start_s": 2.5 * number},
                "txt": "owl",
            }
            for number, cell in enumerate(cells)
        ],
    )
    index_shards(str(target), SMALL, ONE)
    shards = open_shards(str(target))
    assert np.array_equal(read_all(shards), cells[::-1])
    assert shards.recordings().select("recording_id", "primary_label").rows() == [("XC1", "owl")]
    assert shards.slice_index()["start_s"].to_list() == [12.5, 10, 7.5, 5, 2.5, 0]


def test_labels_come_from_a_csv_and_what_it_lacks_is_left_out(target, tmp_path):
    cells = arrays(5, dtype="uint8")
    ids = ["x/1", "x/2", "y/3", "y/4", "z/5"]
    write_stock(
        target, [{"__key__": key, "npy": cell} for key, cell in zip(ids, cells, strict=True)]
    )
    csv = tmp_path / "train.csv"
    csv.write_text(
        "filename,primary_label,secondary_labels,rating\n"
        "y/4.ogg,owl,\"['jay', 'wren']\",4\nx/1.ogg,jay,,3.5\nq/9.ogg,wren,,1\n"
    )
    report = index_shards(str(target), SMALL, replace(ONE, recordings=str(csv)))
    assert "3 recordings are not in" in report.summary()
    assert "1 recordings of" in report.summary()
    shards = open_shards(str(target))
    lines = shards.recordings().select(
        "recording_id", "primary_label", "secondary_labels", "rating", "first_row"
    )
    assert lines.rows() == [("x/1", "jay", [], 3.5, 0), ("y/4", "owl", ["jay", "wren"], 4.0, 3)]
    assert np.array_equal(read_all(shards), cells[[0, 3]])
    csv.write_text("filename,primary_label\nnobody.ogg,owl\n")
    with pytest.raises(ConfigError, match=r"none of the 5 recordings.*'x/1'.*'nobody'"):
        index_shards(str(target), SMALL, replace(ONE, recordings=str(csv)))


def test_other_members_are_ignored_and_counted(target):
    members = [*good(0), ("s0.wav", b"RIFF"), ("readme", b"hello"), ("__meta__/x.json", b"{}")]
    write_tar(target / "a.tar", [*members, *good(1)])
    report = index_shards(str(target), SMALL, ONE)
    assert report.num_slices == 2
    assert "ignored: 1 .wav, 1 without an ending" in report.summary()


def test_one_of_several_arrays_is_chosen_by_name(target):
    one, two = arrays(2, dtype="uint8")
    write_tar(target / "a.tar", [("k.mel.npy", npy(one)), ("k.raw.npy", npy(two))])
    with pytest.raises(StoreError, match=r"sample k has several arrays.*mel\.npy, raw\.npy"):
        index_shards(str(target), SMALL, ONE)
    index_shards(str(target), SMALL, replace(ONE, member="raw.npy"))
    assert np.array_equal(read_all(open_shards(str(target))), [two])


def test_axes_of_one_are_no_axes(target):
    cells = arrays(2, dtype="float16", shape=(1, *SMALL.slice_shape))
    write_stock(target, [{"__key__": f"{n}", "npy": cell} for n, cell in enumerate(cells)])
    index_shards(str(target), SMALL, ONE)
    assert np.array_equal(read_all(open_shards(str(target))), cells[:, 0])


def test_values_beyond_the_unit_range_are_noted(target):
    write_stock(target, [{"__key__": "a", "npy": arrays(1)[0] * 80 - 80}])
    assert "values go from -" in index_shards(str(target), SMALL, ONE).summary()


def test_the_recipe_must_give_the_frames_of_the_slices(target):
    write_stock(target, [{"__key__": "a", "npy": arrays(1, shape=(8, 21))[0]}])
    with pytest.raises(ConfigError, match=r"21 frames.*such as recipe\.slice_s=0\.64"):
        index_shards(str(target), SMALL, ONE)
    index_shards(str(target), replace(SMALL, slice_s=0.64), ONE)
    assert open_shards(str(target)).recipe.slice_shape == (8, 21)


def test_a_recording_that_is_not_whole_is_found(source, target):
    write_shards(source, str(target), ShardConfig(workers=1))
    path = target / "shard-000000.tar"
    with tarfile.open(path) as tar:
        head = tar.pax_headers
        kept = [(one.name, tar.extractfile(one).read()) for one in tar.getmembers()[4:]]
    with tarfile.open(path, "w", pax_headers=head) as tar:
        for name, data in kept:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with pytest.raises(
        DamageError, match=r"shard-000000\.tar.*take 0\.5%é are missing or out of order"
    ):
        index_shards(str(target), SMALL, ONE)


def test_two_labels_of_a_recording_are_refused(target):
    write_tar(target / "a.tar", [*good(0), ("s1.npy", good(1)[0][1]), ("s1.cls", b"4")])
    with pytest.raises(ConfigError, match=r"recording s has several labels \(3, 4\)"):
        index_shards(str(target), SMALL, replace(ONE, recording_pattern="^s"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"recording_pattern": "("}, "no regex"),
        ({"recording_pattern": r"^x"}, "finds nothing in the key 's0'"),
        ({"workers": 0}, "at least 1"),
        ({"recordings": "nowhere.csv"}, "nowhere.csv cannot be read"),
    ],
)
def test_wrong_options_are_refused(target, options, said):
    write_tar(target / "a.tar", good())
    with pytest.raises(ConfigError, match=said):
        index_shards(str(target), SMALL, replace(ONE, **options))


@pytest.mark.parametrize("kind", ["missing", "empty", "file"])
def test_a_folder_without_tars_is_refused(target, kind):
    if kind == "empty":
        target.mkdir()
    if kind == "file":
        target.write_text("hello")
    with pytest.raises(ConfigError, match=r"give (the|a) "):
        index_shards(str(target), SMALL, ONE)


def test_foreign_sets_are_not_written_into(source, target):
    write_tar(target / "shard-000000.tar", good())
    index_shards(str(target), SMALL, ONE)
    before = contents(target)
    for fresh in (False, True):
        with pytest.raises(ConfigError, match="made elsewhere"):
            write_shards(source, str(target), replace(SMALL_SHARDS, fresh=fresh))
    assert contents(target) == before
    assert Path(target / "shard-000000.tar").exists()
