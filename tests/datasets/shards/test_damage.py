"""Damage to a shard set ends in a named error or a named row, never in wrong data.

Each damage meets `open_shards`, a reader that had opened the set before, `verify_shards`,
`index_shards` and `write_shards`, which repairs most of them.
"""

import io
import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.sampling.epoch_plan import EpochPlanner, SamplingConfig, plan_all
from datasets.shards.format import INDEX, MANIFEST, RECORDINGS, ShardManifest
from datasets.shards.reindex import IndexConfig, index_shards
from datasets.shards.shard_set import open_shards
from datasets.shards.verify import verify_shards
from datasets.shards.writer import ShardConfig, write_shards
from storage.checksums import digest
from storage.errors import DamageError, StoreError
from storage.objects.open import open_objects
from storage.recipe import Recipe
from tests.datasets.shards.test_reindex import npy, write_tar
from tests.fakes import SMALL, write_fake_source
from tests.shard_sets import contents, flip, part_of, read_all

LENGTHS = [4] * 10
CONFIG = ShardConfig(shard_size_bytes=30_000, workers=1)  # two recordings in each shard
ONE, TWO = "shard-000001.tar", "shard-000002.tar"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A source, the five shards that were written of it in two runs, and those of the first."""
    folder = tmp_path_factory.mktemp("written")
    source = write_fake_source(folder / "cells.raw", LENGTHS, seed=1)
    write_shards(part_of(source, range(6)), str(folder / "shards"), CONFIG)
    shutil.copytree(folder / "shards", folder / "earlier")
    write_shards(source, str(folder / "shards"), CONFIG)
    assert len(list((folder / "shards").glob("*.tar"))) == 5
    return source, folder


@pytest.fixture
def source(written):
    return written[0]


@pytest.fixture
def target(written, tmp_path):
    """Copies the set and the earlier one to a folder."""
    for name in ("earlier", "shards"):
        shutil.copytree(written[1] / name, tmp_path / name)
    return tmp_path / "shards"


def sign(folder: Path, table: str | None = None, data: bytes = b"", **changes: object) -> None:
    """Makes `shards.json` agree with a changed table or recipe, as no accident would."""
    manifest = ShardManifest.read(open_objects(str(folder)))
    files = dict(manifest.files)
    if table:
        (folder / table).write_bytes(data)
        files[table] = replace(files[table], size_bytes=len(data), sha256=digest(data))
    (folder / MANIFEST).write_bytes(replace(manifest, files=files, **changes).encode())


def flip_near_a_slice(distance):
    """Flips a bit so many bytes after the start of the cells of a slice."""

    def do(folder):
        lines = pl.read_parquet(folder / INDEX).filter(pl.col("shard") == ONE)
        flip(folder / ONE, lines["offset"][2] + distance, 4)

    return do


def flip_the_middle(name):
    return lambda folder: flip(folder / name, (folder / name).stat().st_size // 2, 2)


def cut_to(size_bytes):
    return lambda folder: os.truncate(folder / ONE, size_bytes)


def append(folder):
    with (folder / ONE).open("ab") as file:
        file.write(b"more")


def remove(folder):
    (folder / ONE).unlink()


def put_back_an_older_index(folder):
    shutil.copy(folder.parent / "earlier" / INDEX, folder / INDEX)


def add_a_member(folder):
    with tarfile.open(folder / ONE, "a") as tar:
        info = tarfile.TarInfo("notes.txt")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"hello"))


def add_a_key_again(folder):
    with tarfile.open(folder / ONE) as tar:
        again = [(one, tar.extractfile(one).read()) for one in tar.getmembers()[:2]]
    with tarfile.open(folder / ONE, "a") as tar:
        for member, data in again:
            tar.addfile(member, io.BytesIO(data))


def name_a_row_twice(folder):
    index = pl.read_parquet(folder / INDEX)
    buffer = io.BytesIO()
    pl.concat([index[:-1], index[:1]]).write_parquet(buffer)
    sign(folder, INDEX, buffer.getvalue())


def write_other_cells(folder):
    with tarfile.open(folder / ONE) as tar:
        names = [member.name for member in tar.getmembers()]
    cells = npy(np.ones(SMALL.slice_shape, np.float32))
    write_tar(folder / ONE, [(n, cells if n.endswith("npy") else b"{}") for n in names])


def claim_another_dtype(folder):
    sign(folder, recipe=replace(SMALL, encoding="float16"))


def swap(folder):
    assert (folder / ONE).stat().st_size == (folder / TWO).stat().st_size
    (folder / ONE).rename(folder / "aside")
    (folder / TWO).rename(folder / ONE)
    (folder / "aside").rename(folder / TWO)


def put_a_folder(folder):
    remove(folder)
    (folder / ONE).mkdir()


def put_a_pipe(folder):
    remove(folder)
    os.mkfifo(folder / ONE)


def spoil_the_manifest(folder):
    flip(folder / MANIFEST, (folder / MANIFEST).read_bytes().index(b"hop"))


@dataclass(frozen=True, kw_only=True)
class Case:
    """Damage, and the file that each check must name; None: no damage is found.

    `bad_rows`: number of rows that an open reader sets aside. `repair`: the step that repairs the
    set, see the last test.
    """

    do: Callable[[Path], None]
    opening: str | None = ONE
    verifying: str | None = ONE
    indexing: str | None = ONE
    bad_rows: int = 0
    repair: str = "write"


CASES = {
    "truncated tar": Case(do=cut_to(5000), bad_rows=7),
    "flipped byte": Case(do=flip_near_a_slice(5), opening=None, bad_rows=1, repair="delete"),
    "flipped byte in the header of a .npy member": Case(
        do=flip_near_a_slice(-128 - 500), opening=None, repair="delete"
    ),
    "bytes at its end": Case(do=append),
    "missing shard": Case(do=remove, indexing=None, bad_rows=8),
    "stale side index": Case(
        do=put_back_an_older_index, opening=INDEX, verifying=INDEX, indexing=None
    ),
    "flipped byte in the index": Case(
        do=flip_the_middle(INDEX), opening=INDEX, verifying=INDEX, indexing=None
    ),
    "flipped byte in the recordings": Case(
        do=flip_the_middle(RECORDINGS), opening=RECORDINGS, verifying=RECORDINGS, indexing=None
    ),
    "foreign member": Case(do=add_a_member, opening=None, repair="delete"),
    "duplicate key": Case(do=add_a_key_again, opening=None, repair="delete"),
    "duplicate row": Case(
        do=name_a_row_twice, opening=INDEX, verifying=INDEX, indexing=None, repair="index"
    ),
    "wrong dtype": Case(do=write_other_cells, opening=None, bad_rows=8, repair="delete"),
    "wrong dtype claimed": Case(
        do=claim_another_dtype, opening=INDEX, verifying=INDEX, indexing=None, repair="index"
    ),
    "empty tar": Case(do=cut_to(0), bad_rows=8),
    "swapped shards": Case(do=swap, opening=None, indexing=None, bad_rows=16, repair="delete"),
    "folder for a file": Case(do=put_a_folder, bad_rows=8, repair="remove"),
    "pipe for a file": Case(do=put_a_pipe, bad_rows=8),
    "spoilt shards.json": Case(
        do=spoil_the_manifest, opening=MANIFEST, verifying=MANIFEST, indexing=None, repair="index"
    ),
}
pytestmark = [
    pytest.mark.parametrize("case", CASES.values(), ids=CASES),
    pytest.mark.usefixtures("impatient"),
]


def read_in_spite(shards, source):
    """Rows that come, each with the source's cells, and the rows that are set aside."""
    plan = plan_all(shards.recordings())
    config = LoaderConfig(batch_size=4, max_bad=100)
    reader = BatchReader(shards, lambda _: plan, config, targets=None, train=False)
    rows = []
    try:
        for batch in reader:
            assert np.array_equal(batch.slices.numpy(), source.read(batch.rows.numpy()))
            rows += batch.rows.tolist()
    finally:
        reader.close()
    return rows, reader.bad


def test_opening_names_the_file_or_gives_right_data(case, source, target):
    case.do(target)
    if case.opening:
        with pytest.raises(StoreError, match=rf"{case.opening}.*(write|index)_shards"):
            open_shards(str(target))
    else:
        rows, bad = read_in_spite(open_shards(str(target)), source)
        assert len(bad) == case.bad_rows
        assert sorted([*rows, *(one.row for one in bad)]) == source.index["row"].to_list()


def test_reading_a_set_opened_before_gives_right_cells_or_names_the_row(case, source, target):
    shards = open_shards(str(target))
    case.do(target)
    rows, bad = read_in_spite(shards, source)
    assert sorted([*rows, *(one.row for one in bad)]) == source.index["row"].to_list()
    assert len(bad) == case.bad_rows
    assert {Path(one.object).name for one in bad} <= {ONE, TWO}


def test_training_stops_at_the_first_bad_row_and_names_it(case, source, target):
    shards = open_shards(str(target))
    case.do(target)
    planner = EpochPlanner(shards.recordings(), SamplingConfig(slice_choice="all"), seed=1)
    reader = BatchReader(shards, planner, LoaderConfig(batch_size=4), targets=None, train=True)
    if case.bad_rows:
        with pytest.raises(DamageError, match=r"row \d+ in .*shard-00000[12]\.tar at byte \d+"):
            list(reader)
    else:
        assert len(list(reader)) == 10
    reader.close()


def test_verifying_names_the_file(case, source, target):
    case.do(target)
    if case.verifying == MANIFEST:
        with pytest.raises(StoreError, match=MANIFEST):
            verify_shards(str(target), None)
        return
    report = verify_shards(str(target), None)
    assert any(case.verifying in line for line in report.damage)
    assert case.verifying in report.summary()
    if case.do is swap:
        assert any(TWO in line for line in report.damage)


def test_indexing_names_the_file_or_finds_what_is_right(case, source, target):
    case.do(target)
    if case.indexing:
        with pytest.raises(StoreError, match=case.indexing):
            index_shards(str(target), Recipe(), IndexConfig(workers=1))
        return
    index_shards(str(target), Recipe(), IndexConfig(workers=1))
    shards = open_shards(str(target))
    rows = shards.slice_index()["row"].to_numpy()
    gone = LENGTHS[0] * 2 if case.do is remove else 0
    assert len(rows) == sum(LENGTHS) - gone
    assert np.array_equal(read_all(shards), source.read(rows))
    assert verify_shards(str(target), None).damage == []


def test_what_the_error_says_makes_it_whole_again(case, source, target):
    whole = contents(target)
    case.do(target)
    if case.repair == "delete":  # sizes are as they should be: only verify reads it all
        damage = " ".join(verify_shards(str(target), None).damage)
        assert "delete it and run tools.write_shards" in damage
        for name in (ONE, TWO):
            if name in damage:
                (target / name).unlink()
    elif case.repair == "remove":
        with pytest.raises(StoreError, match=rf"{ONE}"):
            write_shards(source, str(target), CONFIG)
        (target / ONE).rmdir()
    elif case.repair == "index":
        index_shards(str(target), Recipe(), IndexConfig(workers=1))
    write_shards(source, str(target), CONFIG)
    assert contents(target) == whole
