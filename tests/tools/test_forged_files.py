"""A forged or broken file of a set ends in a sentence, or changes nothing: no traceback, no hang.

Nothing outside the folders that a command was given is opened, written or deleted.
`MELBANK_TRIALS` sets the number of trials of the slow test.
"""

import os
import resource
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import numpy as np
import pytest

from datasets.folds import FoldConfig, assign_folds
from datasets.labels import Labels
from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.sampling.epoch_plan import plan_all
from datasets.shards.copy import SHARDS as SHARD_SET
from datasets.shards.reindex import IndexConfig, index_shards
from datasets.shards.shard_set import open_shards
from datasets.shards.verify import verify_shards
from datasets.shards.writer import write_shards
from datasets.slice_source import SliceSource
from storage.build.build import build_store
from storage.errors import MelbankError, StoreError
from storage.maintenance.compact import compact_store
from storage.maintenance.copy import STORE
from storage.maintenance.npy_export import NpyExportConfig, export_npy
from storage.maintenance.repair import repair_store
from storage.maintenance.verify import verify_store
from storage.objects.open import open_objects
from storage.objects.sync import SetKind, Sync, SyncConfig
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.forged import KINDS, ONE, RECIPE, SHARDS, forge, make_sets
from tests.paths import ROOT
from tests.small_store import SECONDS, build_small_store

TRIALS = int(os.environ.get("MELBANK_TRIALS", "5000"))
MOST_S, MOST_BYTES = 10, 10**9
READ_BY_PYTHON = tuple(
    os.path.realpath(path)
    for path in (sys.prefix, sys.base_prefix, ROOT, "/proc", "/sys", "/dev/null", "/dev/urandom")
)
EVENTS = ("open", "os.remove", "os.rename", "os.link", "os.symlink", "os.rmdir", "os.mkdir")
EVENTS += ("os.truncate", "os.listdir", "os.scandir", "os.chmod")


class Watch:
    """Paths outside the allowed folders that were opened, written or deleted meanwhile."""

    def __init__(self) -> None:
        self.allowed: tuple[str, ...] | None = None
        self.touched: list[str] = []
        sys.addaudithook(self._see)

    def _see(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.allowed is None or event not in EVENTS:
            return
        allowed, self.allowed = self.allowed, None
        for path in arguments[: 1 + (event in ("os.rename", "os.link"))]:
            if isinstance(path, str | bytes | os.PathLike):
                name = os.fsdecode(path)
                if event in ("os.remove", "os.rename", "os.link", "os.symlink", "os.rmdir"):
                    name = os.path.dirname(name)  # the link itself, not what it leads to
                real = os.path.realpath(name)
                if not any(real == one or real.startswith(f"{one}/") for one in allowed):
                    self.touched.append(f"{event} {real}")
        self.allowed = allowed


WATCH = Watch()


@contextmanager
def watched(folder: Path) -> Iterator[None]:
    """Raises AssertionError where anything outside is touched, or the time is over."""

    def stop(_: int, frame: FrameType | None) -> None:
        raise AssertionError(f"it hangs: {frame}")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(MOST_S)
    temporary = f"{os.path.realpath(tempfile.gettempdir())}/melbank-repair-"
    WATCH.touched = []
    WATCH.allowed = (os.path.realpath(folder), *READ_BY_PYTHON)
    try:
        yield
    finally:
        WATCH.allowed = None
        signal.alarm(0)
    touched = [path for path in WATCH.touched if temporary not in path]
    assert not touched, touched[:5]


def read_all(source: SliceSource) -> None:
    """Reads what a training reads: labels, folds, a plan, its slices."""
    recordings = source.recordings()
    Labels.of(recordings)
    assign_folds(recordings, FoldConfig(num_folds=2), 1)
    plan = plan_all(recordings)
    config = LoaderConfig(batch_size=4, max_bad=1000)
    for _ in BatchReader(source, lambda _: plan, config, targets=None, train=False):
        pass


def read_store(folder: Path, url: str) -> None:
    with open_store(url) as store:
        store.rejects()
        store.duplicates()
        store.query("SELECT recording_id, row, start_s FROM slices WHERE max_db < 0").collect()
        store.slice_table().collect()
        store.slices()
        read_all(store)


def export(folder: Path, url: str) -> None:
    with open_store(url) as store:
        export_npy(store, store.recordings(), NpyExportConfig(root=str(folder / "npy")))


def shards_of(folder: Path, url: str) -> None:
    with open_store(url) as store:
        write_shards(store, str(folder / "new"), SHARDS)


def write_again(folder: Path, url: str) -> None:
    with open_store(str(folder / "store")) as store:
        write_shards(store, url, SHARDS)


def repair(folder: Path, url: str) -> None:
    report = verify_store(url)
    report.summary()
    repair_store(SourceConfig(root=str(folder / "source")), report)


def build(folder: Path, url: str) -> None:
    build_store(SourceConfig(root=str(folder / "source")), RECIPE, url, ONE)


def sync(kind: SetKind, source: str, target: str) -> None:
    objects = [open_objects(url, kind.listing) for url in (source, target)]
    Sync(kind=kind, source=objects[0], target=objects[1], config=SyncConfig(in_flight=1)).run(
        delete=True
    )


def read_shards(folder: Path, url: str) -> None:
    read_all(open_shards(url))


STORE_WORK: list[Callable[[Path, str], object]] = [
    read_store,
    export,
    shards_of,
    lambda _, url: verify_store(url).summary(),
    lambda _, url: compact_store(url),
    lambda folder, url: sync(STORE, url, str(folder / "new")),
    repair,
    build,
]
SHARD_WORK: list[Callable[[Path, str], object]] = [
    read_shards,
    write_again,
    lambda folder, url: verify_shards(url, str(folder / "store")).summary(),
    lambda folder, url: sync(SHARD_SET, url, str(folder / "new")),
    lambda _, url: index_shards(url, RECIPE, IndexConfig(workers=1)),
]
WORK = {
    "store": STORE_WORK,
    "shards": SHARD_WORK,
    "building": [build, build, read_store, lambda _, url: verify_store(url).summary()],
    "writing": [write_again, write_again, SHARD_WORK[-1]],
    "copying": [lambda folder, url: sync(STORE, str(folder / "store"), url), read_store],
}
SHARES = (0.4, 0.3, 0.1, 0.1, 0.1)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sets of each kind; each work on them works, and what it imports is imported."""
    sets = make_sets(tmp_path_factory.mktemp("sets"))
    for kind, works in WORK.items():
        for number, work in enumerate(works):
            place = tmp_path_factory.mktemp(f"{kind}-{number}")
            shutil.copytree(sets, place, dirs_exist_ok=True)
            unready = () if kind in ("store", "shards") else (MelbankError,)
            with suppress(*unready):
                work(place, str(place / kind))
    return sets


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for trials; in memory, where there is such a place: deleting takes longest."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="melbank-trials-", dir=memory) as place:
        yield Path(place)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if stat.S_ISREG(path.lstat().st_mode)
    }


def try_one(sets: Path, folder: Path, seed: int) -> str:
    """One trial; returns what happened, or raises."""
    rng = np.random.default_rng(seed)
    inside, outside = folder / "inside", folder / "outside"
    kind = str(rng.choice(KINDS, p=SHARES))
    for name in {kind, "store", "source"}:
        shutil.copytree(sets / name, inside / name)
    outside.mkdir()
    (outside / "secret.tar").write_text("secret")
    told = forge(inside / kind, rng, outside)
    before = contents(outside)
    for number in rng.permutation(len(WORK[kind]))[:2]:
        work = WORK[kind][number]
        with watched(inside):
            try:
                work(inside, str(inside / kind))
                said = "works"
            except MelbankError as error:
                said = f"{type(error).__name__}: {error}"
        told += f"; {work.__name__} {number}: {said}"
        assert contents(outside) == before, told
    return told


def run_trials(sets: Path, folder: Path, count: int, seed: int) -> None:
    failures, before = [], most_bytes()
    for number in range(seed, seed + count):
        place = folder / f"trial-{number}"
        place.mkdir()
        try:
            try_one(sets, place, number)
        except BaseException as error:  # all of them are findings
            failures.append((number, repr(error)[:300]))
            if isinstance(error, KeyboardInterrupt):
                raise
        shutil.rmtree(place)
    assert not failures, f"{len(failures)} of {count}: {failures[:20]}"
    assert most_bytes() - before < MOST_BYTES


def most_bytes() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.slow
def test_a_forged_file_ends_in_a_sentence_and_reaches_nothing_outside(
    sets: Path, folder: Path
) -> None:
    run_trials(sets, folder, 200, seed=0)


@pytest.mark.slow
def test_many_forged_files_end_in_sentences_and_reach_nothing_outside(
    sets: Path, folder: Path
) -> None:
    run_trials(sets, folder, TRIALS, seed=1000)


@pytest.mark.parametrize("instead", ["nothing", "folder", "circle"])
def test_a_store_whose_index_is_gone_is_not_opened_with_less(instead: str, tmp_path: Path) -> None:
    store = build_small_store(tmp_path, SECONDS[:6])
    assert len(open_store(str(store)))
    index = store / "index" / "part-00000.parquet"
    index.unlink()
    if instead == "folder":
        index.mkdir()
    if instead == "circle":
        index.symlink_to(index.name)
    with pytest.raises(StoreError, match=r"part-00000\.parquet"):
        open_store(str(store))
