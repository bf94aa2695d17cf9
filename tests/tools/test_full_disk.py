"""A disk that is full: one sentence, nothing is lost, and later the same words finish.

Tests on a small file system need the right to mount one; those with a limit on files run anywhere.
"""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.full_disk import largest_file
from tests.small_store import SECONDS, SHORT, build_small_store
from tools import export_npy, query, sync, train, write_shards
from tools.cli.command import run
from training.runtime.files import write_whole

CHECKPOINT_BYTES = 4_600_000  # of the model of SHORT, about


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_small_store(tmp_path_factory.mktemp("full"), SECONDS[:9])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not resize(folder, "32k", "--types", "tmpfs", "tmpfs"):
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def resize(folder: Path, size: str, *words: str) -> bool:
    options = f"size={size}" if words else f"remount,size={size}"
    call = ["mount", "-o", options, *words, str(folder)]
    try:
        return subprocess.run(call, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def words_of(store: Path, out: Path) -> dict[str, Callable[[], int]]:
    one, shards = f"store={store}", f"shards={out}/shards"
    sheet = ["--limit", "9", "--png", f"{out}/sheet.png"]
    export = f"export_npy.root={out}/npy"
    return {
        "shards": lambda: run(write_shards.COMMAND, write_shards.main, [one, shards]),
        "sync": lambda: run(sync.COMMAND, sync.main, [str(store), f"{out}/copy"]),
        "export": lambda: run(export_npy.COMMAND, export_npy.main, [one, export]),
        "png": lambda: run(query.COMMAND, query.main, [one, *sheet]),
        "npy": lambda: run(query.COMMAND, query.main, [one, "--npy", f"{out}/slices.npy"]),
    }


@pytest.mark.parametrize("name", words_of(Path(), Path()))
def test_a_full_disk_is_one_sentence_and_the_same_words_finish_later(
    name: str, store: Path, small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = words_of(store, small_disk)[name]
    assert command() == 1
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error"))
    assert "cannot be written" in line
    assert "ree space" in line
    assert resize(small_disk, "50m")
    assert command() == 0
    assert words_of(store, tmp_path / "other")[name]() == 0
    assert files(small_disk) == files(tmp_path / "other")


def test_a_checkpoint_that_does_not_fit_leaves_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "resume.ckpt"
    write_whole(path, b"older")
    with largest_file(1000), pytest.raises(OSError, match=r"2,000 bytes\) cannot be written"):
        write_whole(path, bytes(2000))
    assert files(tmp_path) == ["resume.ckpt"]
    assert path.read_bytes() == b"older"


def test_a_file_system_that_is_read_only_is_one_sentence(
    store: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resize(small_disk, "1m,ro")
    words = [f"store={store}", "--parquet", f"{small_disk}/slices.parquet"]
    assert run(query.COMMAND, query.main, words) == 1
    told = capsys.readouterr().err
    assert f"error: {small_disk}/slices.parquet cannot be written (Read-only file" in told


@pytest.mark.slow
def test_a_training_that_fills_the_disk_goes_on(
    store: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resize(small_disk, str(int(1.6 * CHECKPOINT_BYTES)))
    root = f"experiment.root={small_disk}"
    words = [f"store={store}", root, *SHORT, "trainer.checkpoint_steps=1", "train_folds=[0]"]
    assert run(train.COMMAND, train.main, words) == 1
    assert "No space left on device: free space" in capsys.readouterr().err
    assert resize(small_disk, "50m")
    assert run(train.COMMAND, train.main, ["--resume", "exp_001", root]) == 0
    left = files(small_disk / "weights")
    assert left == ["exp_001/fold_0.ckpt"]
