"""The slices that `read` reads: the user's own, or real or drawn ones in a store made for it.

Every way gets its copy from one .npy file of all slices, in the order of their rows.
"""

import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.lib.format import open_memmap

from datasets.shards.shard_set import open_shards
from datasets.shards.writer import ShardConfig, write_shards
from datasets.slice_source import SliceSource, select_recordings
from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.encoding import to_unit
from storage.errors import ConfigError
from storage.options import check_at_least, check_positive, option
from storage.read.extents import ExtentReader
from storage.recipe import Recipe
from storage.source.npy_folder import foreign_recipe
from storage.source.table import SourceConfig
from storage.store import open_store
from tools.benchmarks.reading.plans import TASKS, planner_of
from tools.cli.progress_bars import bar

NUM_LABELS = 20
POOL_SLICES = 512
NUM_EPOCHS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """N slices: `cells` is a .npy file [N, M, T], `rows` one of int64 [N], their rows in ours.

    `plans` has the .npy files of the first epochs of each task, int64 positions in `cells`;
    `about` is what every way is told.
    """

    cells: Path
    rows: Path
    store: Path | None
    shards: Path | None
    about: dict[str, Any]
    plans: dict[str, tuple[Path, ...]]
    num_slices: int
    num_recordings: int

    @property
    def slice_bytes(self) -> int:
        """Bytes of one slice."""
        return int(math.prod(self.about["shape"]) * np.dtype(self.about["dtype"]).itemsize)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlicesConfig:
    """Options of the benchmarks that make slices and measure contenders in turn."""

    source_root: str = option("", "real recordings to make slices from; empty: drawn ones")
    num_recordings: int = option(512, "recordings")
    slices_per_recording: int = option(13, "slices of a recording, on average")
    batch_size: int = option(64, "slices in a batch")
    runs: int = option(2, "runs of each way, in turn; the tables have medians")
    timeout_s: float = option(180.0, "longer than this no run may take, s")
    env_dir: str = option("", "folder of the peers' environments; empty: ~/.cache/melbank/peers")
    work_dir: str = option("", "folder for slices and copies; empty: the temporary one")
    seed: int = option(0, "decides the slices and the draws")

    def __post_init__(self) -> None:
        counts = ("num_recordings", "slices_per_recording", "batch_size", "runs")
        check_at_least(self, "benchmark", 1, *counts)
        check_positive(self, "benchmark", "timeout_s")


def made_material(config: SlicesConfig, dtype: str, folder: Path) -> Material:
    """A store and tars of slices made for the purpose."""
    pool_nMT = _pool(config.source_root, folder / "pool", config.seed)
    root = folder / "source"
    _write_folders(config, pool_nMT, root)
    source = SourceConfig(root=str(root))
    recipe = replace(foreign_recipe(source, Recipe()), encoding=dtype)
    store, shards = folder / "store", folder / "shards"
    build_store(source, recipe, str(store), BuildConfig(), progress=bar)
    shutil.rmtree(root)
    with open_store(str(store)) as opened:
        write_shards(opened, str(shards), ShardConfig(), progress=bar)
    return given_material(store, shards, config, folder)


def given_material(
    store: Path | None, shards: Path | None, config: SlicesConfig, folder: Path
) -> Material:
    """The slices of a store, of tars, or of both, which then must have the same rows."""
    sources: list[SliceSource] = []
    if store is not None:
        sources.append(open_store(str(store)))
    if shards is not None:
        sources.append(open_shards(str(shards)))
    limit = config.num_recordings
    tables = [select_recordings(source.recordings(), limit=limit) for source in sources]
    names = ("recording_id", "first_row", "num_slices")
    if not all(table.select(names).equals(tables[0].select(names)) for table in tables):
        raise ConfigError(f"store={store} and shards={shards} differ: write the shards again")
    source, recordings = sources[0], tables[0]
    rows = recordings.select(
        row=pl.int_ranges("first_row", pl.col("first_row") + pl.col("num_slices"))
    ).explode("row")["row"]
    about = {
        "shape": list(source.recipe.slice_shape),
        "dtype": source.recipe.encoding,
        "batch_size": config.batch_size,
        "seed": config.seed,
        "num_recordings": config.num_recordings,
    }
    material = Material(
        cells=folder / "slices.npy",
        rows=folder / "rows.npy",
        store=store,
        shards=shards,
        about=about,
        plans={task: _write_plans(task, recordings, rows, about, folder) for task in TASKS},
        num_slices=len(rows),
        num_recordings=len(recordings),
    )
    np.save(material.rows, rows.to_numpy())
    _write_cells(source, material)
    return material


def _write_plans(
    task: str, recordings: pl.DataFrame, rows: pl.Series, about: dict[str, Any], folder: Path
) -> tuple[Path, ...]:
    """The first epochs of a task, cut to whole batches, as positions in `rows`."""
    planner = planner_of(recordings, {**about, "task": task})
    files = []
    for epoch in range(NUM_EPOCHS):
        positions = np.searchsorted(rows.to_numpy(), planner(epoch).rows)
        whole = len(positions) // about["batch_size"] * about["batch_size"]
        if not whole:
            raise ConfigError(
                f"{len(positions)} slices in an epoch are fewer than a batch of "
                f"{about['batch_size']}: raise benchmark.num_recordings"
            )
        files.append(folder / f"plan_{task}_{epoch}.npy")
        np.save(files[-1], positions[:whole])
    return tuple(files)


def _write_cells(source: SliceSource, material: Material) -> None:
    rows = np.load(material.rows)
    shape = (len(rows), *source.recipe.slice_shape)
    cells = open_memmap(material.cells, mode="w+", dtype=source.recipe.dtype, shape=shape)
    with ExtentReader() as reader:
        reader.read(source.extents(rows), cells)
    cells.flush()


def _write_folders(config: SlicesConfig, pool_nMT: np.ndarray, root: Path) -> None:
    """Recordings as folders of .npy slices: those of the pool, each time shifted otherwise."""
    rng = np.random.default_rng(config.seed)
    mean = config.slices_per_recording
    counts = rng.integers(max(1, mean // 2), mean + mean // 2 + 1, config.num_recordings)
    names = [f"species{number % NUM_LABELS:02d}/rec{number:07d}" for number in range(len(counts))]
    labels = [name.partition("/")[0] for name in names]
    root.mkdir(parents=True)
    frame = pl.DataFrame({"primary_label": labels, "filename": [f"{name}.ogg" for name in names]})
    frame.write_csv(root / "train.csv")
    with bar("making slices", int(counts.sum()), "slices") as step:
        for name, count in zip(names, counts.tolist(), strict=True):
            folder = root / SourceConfig().npy_dir / name.partition("/")[2]
            folder.mkdir(parents=True)
            for slice_no in range(count):
                slice_MT = pool_nMT[rng.integers(len(pool_nMT))]
                shift = int(rng.integers(slice_MT.shape[1]))
                np.save(folder / f"{slice_no}.npy", np.roll(slice_MT, shift, axis=1))
            step(count)


def _pool(source_root: str, store: Path, seed: int) -> np.ndarray:
    """Slices to make others from, normalised, float32 [n, M, T]: real ones, or drawn."""
    rng = np.random.default_rng(seed)
    if not source_root:
        return _drawn_slices(rng)
    recipe = Recipe(encoding="float32")
    build_store(SourceConfig(root=source_root), recipe, str(store), BuildConfig(), progress=bar)
    with open_store(str(store)) as opened:
        rows = opened.slice_index()["row"].to_numpy()
        some = rng.choice(rows, min(len(rows), POOL_SLICES), replace=False)
        pool_nMT = to_unit(opened.read(np.sort(some)))
    shutil.rmtree(store)
    return pool_nMT


def _drawn_slices(rng: np.random.Generator) -> np.ndarray:
    """Noise with a few bands in it; zstd gets as much out of it as of real slices, about."""
    n_mels, num_frames = Recipe().slice_shape
    noise = rng.gamma(2.0, 0.03, (POOL_SLICES // 4, n_mels, num_frames))
    level = rng.uniform(0.2, 0.5, (len(noise), n_mels, 1))
    call = np.maximum(0, np.sin(rng.uniform(0, 6, (len(noise), 1, num_frames)).cumsum(axis=2) / 9))
    band = np.exp(-((np.arange(n_mels)[:, None] - rng.uniform(0, n_mels, (len(noise), 1, 1))) ** 2))
    return np.asarray(np.clip(level + noise + band * call, 0, 1), np.float32)
