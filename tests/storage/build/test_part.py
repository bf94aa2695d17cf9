"""Trouble of the store in the midst of a recording stops the build: the recording is not to blame.

A zarr shard is put as soon as it is full, here while the recording that fills it is being cut.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.errors import StoreError
from storage.format.zarr_shards import SLICES_PER_ZARR_SHARD, shard_name
from storage.progress import Progress, Step, silent
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.full_disk import largest_file
from tests.storage.build.test_build import bytes_of

RATE_HZ = 8000
RECIPE = Recipe(
    sample_rate_hz=RATE_HZ,
    n_fft=256,
    hop=256,
    n_mels=16,
    fmax_hz=4000,
    slice_s=0.2,
    slice_step_s=0.1,
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """One short recording."""
    folder = tmp_path / "source"
    write_recording(folder, "a", 3)
    return folder


@pytest.fixture
def store(source: Path, tmp_path: Path) -> Path:
    """A store of it. Then a recording that is longer than a zarr shard joins the source."""
    build(source, tmp_path / "store")
    write_recording(source, "b", SLICES_PER_ZARR_SHARD + 50)
    return tmp_path / "store"


def write_recording(folder: Path, name: str, num_slices: int) -> None:
    path = folder / "owl" / f"{name}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    num_samples = round((num_slices + 1) * RATE_HZ * RECIPE.slice_step_s)
    sound = np.random.default_rng(num_slices).uniform(-0.5, 0.5, num_samples)
    soundfile.write(path, sound, RATE_HZ)


def build(source: Path, store: Path, progress: Progress = silent) -> None:
    one = BuildConfig(workers=1)
    build_store(SourceConfig(root=str(source)), RECIPE, str(store), one, progress=progress)


@contextmanager
def file_in_the_way(store: Path) -> Iterator[None]:
    """A file where the folder of the zarr shard has to be."""
    place = (store / shard_name(1)).parent
    place.parent.mkdir()
    place.write_bytes(b"")
    yield
    place.unlink()


def full_disk(_: Path) -> AbstractContextManager[None]:
    return largest_file(50_000)  # room for tables and plans, not for a zarr shard


@pytest.mark.parametrize("trouble", [full_disk, file_in_the_way])
def test_a_zarr_shard_that_cannot_be_put_stops_the_build(
    trouble: Callable[[Path], AbstractContextManager[None]], source: Path, store: Path
) -> None:
    smooth = Path(shutil.copytree(store, store.with_name("smooth")))
    message = r"1/0/0 \([\d,]+ bytes\) cannot be written: .* then run it again"
    with ExitStack() as troubled:
        troubled.enter_context(trouble(store))
        with pytest.raises(StoreError, match=message):
            build(source, store, calling_behind_recordings(troubled.close))
    assert_holds(store, [3])
    build(source, store)
    assert_holds(store, [3, SLICES_PER_ZARR_SHARD + 50])
    build(source, smooth)
    assert bytes_of(store) == bytes_of(smooth)


def calling_behind_recordings(end_trouble: Callable[[], None]) -> Progress:
    """A build reports each recording that it is done with: by then the trouble is over.

    So a recording that was given up for it would be missed by nothing else.
    """

    @contextmanager
    def progress(what: str, total: int, unit: str) -> Iterator[Step]:
        del total, unit
        yield lambda _: end_trouble() if what == "building" else None

    return progress


def assert_holds(store: Path, num_slices: list[int]) -> None:
    """Recordings of so many slices, and no rejects."""
    with open_store(str(store)) as opened:
        assert opened.recordings()["num_slices"].to_list() == num_slices
        assert opened.rejects().is_empty()
