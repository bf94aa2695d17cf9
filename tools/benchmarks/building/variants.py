"""One way of making slices, in a process of its own: what `tools.benchmark build` measures.

    python -m tools.benchmarks.building.variants RESULT STARTED NAME WORKERS SOURCE TARGET

Each way imports what it needs first, in its workers too; the clock starts after that.
"""

import importlib
import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path

from tools.benchmarks.harness.process import measure
from tools.benchmarks.harness.recordings import LABEL

Work = Callable[[Path, Path], int]
FLOOR_BLOCK_FRAMES = 1 << 18


def notebook(workers: int) -> Work:
    """librosa per slice, one .npy each; with several workers in a joblib pool."""
    from tools.benchmarks.building.librosa_baseline import warm_up, write_slices

    if workers == 1:
        warm_up()
        return lambda source, target: sum(write_slices(path, target) for path in _files(source))

    from joblib import Parallel, delayed

    pool = Parallel(n_jobs=workers)
    pool(delayed(warm_up)() for _ in range(4 * workers))
    return lambda source, target: sum(
        pool(delayed(write_slices)(path, target) for path in _files(source))
    )


def ours(workers: int) -> Work:
    """`build_store`, as `tools.build_store` calls it."""
    from storage.audio.filterbank import mel_filterbank
    from storage.build.build import build_store
    from storage.build.config import BuildConfig
    from storage.recipe import Recipe
    from storage.source.table import SourceConfig

    mel_filterbank(Recipe())  # imports librosa
    if workers == 1:
        importlib.import_module("storage.build.part")  # imports torch
    else:
        _start_server()

    def work(source: Path, target: Path) -> int:
        config = SourceConfig(root=str(source), csv="none", id="filename", keep_duplicates=True)
        report = build_store(config, Recipe(), str(target), BuildConfig(workers=workers))
        if len(report.rejects):
            raise RuntimeError(f"{len(report.rejects)} recordings were not stored whole")
        return report.num_slices

    return work


def floor(workers: int) -> Work:
    """Decoding alone, by libsndfile in blocks: no mixing, no resampling, nothing is kept."""
    import soundfile

    def work(source: Path, _: Path) -> int:
        for path in _files(source):
            with soundfile.SoundFile(path) as file:
                while len(file.read(FLOOR_BLOCK_FRAMES // file.channels, dtype="float32")):
                    pass
        return 0

    return work


def pyav(workers: int) -> Work:
    """Decoding alone, by PyAV (FFmpeg) in one thread, packet by packet: nothing is kept."""
    import av

    def work(source: Path, _: Path) -> int:
        for path in _files(source):
            with av.open(str(path)) as container:
                stream = container.streams.audio[0]
                stream.codec_context.thread_count = 1
                for frame in container.decode(stream):
                    frame.to_ndarray()
        return 0

    return work


WAYS: dict[str, Callable[[int], Work]] = {
    "notebook": notebook,
    "ours": ours,
    "floor": floor,
    "pyav": pyav,
}


def _files(source: Path) -> list[Path]:
    return sorted((source / LABEL).iterdir())


def _start_server() -> None:
    """Starts the server that worker processes come from, and waits for its imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["storage.build.part"])
    process = context.Process(target=abs, args=(0,))
    process.start()
    process.join()


if __name__ == "__main__":
    name, workers, *folders = sys.argv[3:]
    prepared = WAYS[name](int(workers))
    measure(sys.argv[1:], lambda: {"num_slices": prepared(*map(Path, folders))})
