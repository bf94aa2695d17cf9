"""The page of tools.explore on a million slices: its times are printed, and bounded loosely.

The index is synthetic; the cells are 2,048 real slices, again and again. `-s` shows the times; a
line of them is in docs/explore.md.
"""

import os
import time
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest

from storage.build.build import BuildConfig, build_store
from storage.format.catalog import Catalog
from storage.format.chunk_codecs import DEFAULT_CODEC, encode_chunk
from storage.format.manifest import read_manifest
from storage.format.tables import INDEX, encode_table, table_name
from storage.format.zarr_metadata import array_metadata
from storage.format.zarr_shards import (
    ARRAY_METADATA,
    SLICES_PER_ZARR_SHARD,
    encode_shard,
    shard_name,
)
from storage.objects.open import open_objects
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.exploring_page import goto, open_browser, open_page, require_browser, serve, total
from tests.sounds import write_source
from tools.benchmarks.harness.synthetic_index import write_index

pytestmark = pytest.mark.slow

require_browser()

NUM_ROWS = 1_000_000
DIFFERENT = 2 * SLICES_PER_ZARR_SHARD
SLACK = 4  # of the times that docs/explore.md promises: other programs run, too
TILES = 10_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("million")
    cells, checksums = real_slices(folder)
    write_index(str(folder / "store"), NUM_ROWS, seed=0)
    num_shards = write_checksums(folder / "store", checksums)
    write_cells(folder / "store", cells, num_shards)
    return folder


def real_slices(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Cells and checksums of 2,048 slices of synthetic recordings."""
    source = write_source(folder / "source", [650.0] * 8, np.random.default_rng(0), ending="wav")
    url = str(folder / "small")
    build_store(SourceConfig(root=str(source)), Recipe(), url, BuildConfig(workers=1))
    with open_store(url) as store:
        index = store.slice_index().head(DIFFERENT)
        return store.slices(index), index["crc32c"].to_numpy()


def write_checksums(store: Path, checksums: np.ndarray) -> int:
    """Gives each row the checksum of its cells; returns the number of zarr shards."""
    last, catalog, objects = 0, Catalog(), open_objects(str(store))
    for part, path in enumerate(sorted((store / "index").glob("*.parquet"))):
        frame = pl.read_parquet(path)
        rows = frame["row"].to_numpy()
        changed = frame.with_columns(pl.Series("crc32c", checksums[rows % DIFFERENT]))
        path.unlink()
        (store / table_name(INDEX, part)).write_bytes(encode_table(changed))
        catalog.note_part(objects, part)
        last = max(last, int(rows.max()))
    catalog.put(objects)
    return last // SLICES_PER_ZARR_SHARD + 1


def write_cells(store: Path, cells: np.ndarray, num_shards: int) -> None:
    """Two zarr shards, linked under all numbers in turn."""
    recipe = Recipe()
    for shard_no in range(num_shards):
        path = store / shard_name(shard_no)
        path.parent.mkdir(parents=True, exist_ok=True)
        if shard_no < 2:
            start = shard_no * SLICES_PER_ZARR_SHARD
            some = cells[start : start + SLICES_PER_ZARR_SHARD]
            chunks = [encode_chunk(one, DEFAULT_CODEC) for one in some]
            path.write_bytes(encode_shard(chunks, recipe, DEFAULT_CODEC))
        else:
            os.link(store / shard_name(shard_no % 2), path)
    manifest = read_manifest(open_objects(str(store)))
    (store / ARRAY_METADATA).write_bytes(array_metadata(manifest, num_shards))


SCROLL = """async ([tiles, most_ms]) => {
  const scroller = document.querySelector(".scroller");
  const frame = () => new Promise(requestAnimationFrame);
  const isShown = () => {
    const box = scroller.getBoundingClientRect();
    return [...document.querySelectorAll(".tile")].every((tile) => {
      const at = tile.getBoundingClientRect();
      const isSeen = at.bottom > box.top && at.top < box.bottom;
      return !isSeen || tile.querySelector(".picture.ready");
    });
  };
  let longest = 0;
  let seen = 0;
  const began = performance.now();
  while (seen < tiles) {
    scroller.scrollTop += 0.8 * scroller.clientHeight;
    const moved = performance.now();
    do await frame(); while (performance.now() - moved < 30 || !isShown());
    longest = Math.max(longest, performance.now() - moved);
    const last = [...document.querySelectorAll(".tile[aria-posinset]")].at(-1);
    seen = Number(last.getAttribute("aria-posinset"));
    if (performance.now() - began > most_ms) break;
  }
  return { longest, seen, taken: performance.now() - began };
}"""


def test_a_million_slices(folder, capsys):
    told = {}
    with serve(folder, "explore.embeddings=spectral") as url, open_browser() as browser:
        with open_page(browser, url) as page:
            page.wait_for_selector(".tile .picture.ready", timeout=120_000)
            assert total(page) == NUM_ROWS
            began = time.perf_counter()
            goto(page, url, "?")
            page.wait_for_selector(".tile .picture.ready")
            told["first spectrograms, s"] = time.perf_counter() - began

            began = time.perf_counter()
            page.fill("#sql", "max_db > 19 AND active_share > 0.5")
            page.press("#sql", "Enter")
            page.wait_for_selector(".chip")
            assert total(page) < NUM_ROWS
            page.wait_for_selector(".tile .picture.ready")
            told["filter, s"] = time.perf_counter() - began

            page.go_back()
            assert total(page) == NUM_ROWS
            page.wait_for_selector(".tile .picture.ready")
            scrolled = page.evaluate(SCROLL, [TILES, 300_000])
            assert scrolled["seen"] >= TILES
            told["longest gap while scrolling, s"] = scrolled["longest"] / 1000
            told[f"{TILES:,} tiles, s"] = scrolled["taken"] / 1000

            page.keyboard.press("Tab")
            page.locator(".tile .open").first.focus()
            page.keyboard.press("End")
            page.wait_for_selector(f".tile[aria-posinset='{NUM_ROWS}'] .picture.ready")
        told["memory of the server, GB"] = server_bytes() / 1e9
    with capsys.disabled():
        print("\n" + "\n".join(f"{name:<32} {value:6.2f}" for name, value in told.items()))
    assert told["first spectrograms, s"] < 2 * SLACK
    assert told["filter, s"] < 1 * SLACK
    assert told["longest gap while scrolling, s"] < 1 * SLACK
    assert told["memory of the server, GB"] < 1.5


def server_bytes() -> int:
    """Resident memory of the command that this process has started."""
    found = [
        process
        for process in psutil.Process().children(recursive=True)
        if process.status() != psutil.STATUS_ZOMBIE  # a helper of Chromium that has ended
        and "tools.explore" in process.cmdline()
    ]
    return max(process.memory_info().rss for process in found)
