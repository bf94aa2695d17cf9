"""A browser on the page of tools.explore, over a small store with its recordings and predictions.

    with serve(build_folder(tmp_path)) as url, open_page(url) as page:
        page.locator(".tile").first.click()

Needs Chromium, which Debian has as a package; without it the tests are skipped.
"""

import contextlib
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile

from storage.store import open_store
from tests.paths import ROOT
from tests.small_store import build_small_store
from tests.sounds import RATE_HZ, chirps

SECONDS = (6, 4, 5, 3) * 8 + (14,)
EXPERIMENTS = ("exp_001", "exp_002")
START_S = 90  # most seconds until the server is ready, on a busy machine
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def require_browser() -> None:
    """Skips the module of tests where no browser is available."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip(
            "no Chromium: apt-get install chromium (the tests install no browser of their own)",
            allow_module_level=True,
        )


def build_folder(folder: Path) -> Path:
    """A folder with `store`, its `source`, and held-out predictions of two experiments."""
    store = build_small_store(folder, SECONDS)
    with open_store(str(store)) as opened:
        index, recordings = opened.slice_index(), opened.recordings()
    for seed, name in enumerate(EXPERIMENTS):
        write_predictions(folder / "preds" / name, index, recordings, seed)
    return folder


def write_predictions(
    preds: Path, index: pl.DataFrame, recordings: pl.DataFrame, seed: int
) -> None:
    """Writes random out-of-fold predictions, four in five of which are right."""
    preds.mkdir(parents=True)
    target = pl.concat_list("primary_label").alias("target")
    fold = (pl.int_range(pl.len()) % 3).alias("fold")
    whole = recordings.select("recording_id", fold, target)
    labels = sorted(set(recordings["primary_label"]))
    slices = index.select("row", "recording_id").join(whole, on="recording_id")
    rng = np.random.default_rng(seed)
    for table, name in ((whole, "oof_recordings"), (slices, "oof")):
        scores = rng.dirichlet(np.ones(len(labels)), len(table))
        truth = table["target"].list.first().replace_strict(labels, range(len(labels))).to_numpy()
        right = rng.random(len(table)) < 0.8
        scores[right, truth[right]] += 1
        scores /= scores.sum(axis=1, keepdims=True)
        columns = [pl.Series(f"p_{label}", scores[:, no]) for no, label in enumerate(labels)]
        table.with_columns(columns).write_parquet(preds / f"{name}.parquet")


def write_call(path: Path, seconds: float = 4.0) -> Path:
    """A wav file that is in no store."""
    soundfile.write(path, chirps(seconds, np.random.default_rng(77)), RATE_HZ)
    return path


@contextlib.contextmanager
def serve(folder: Path, *words: str) -> Iterator[str]:
    """Runs the command on a folder of `build_folder`; yields the address that it prints."""
    chosen = words or (
        f"explore.experiment={EXPERIMENTS[0]}",
        f"explore.compare={EXPERIMENTS[1]}",
        f"source.root={folder / 'source'}",
        f"experiment.root={folder}",
    )
    command = [
        *(sys.executable, "-m", "tools.explore", f"store={folder / 'store'}"),
        *(*chosen, f"explore.reviews={folder / 'reviews'}", "explore.port=0"),
        f"explore.embeddings_folder={folder / 'embeddings'}",
    ]
    log = folder / "explore.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        yield _address(process, log)
    finally:
        process.terminate()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def _address(process: subprocess.Popen[str], log: Path) -> str:
    """The address in the line `open http://...`, as soon as it is printed."""
    found: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if "http://" in line:
                found.put("http://" + line.strip().partition("http://")[2])
                return
        found.put("")

    threading.Thread(target=listen, daemon=True).start()
    try:
        url = found.get(timeout=START_S)
    except queue.Empty:
        url = ""
    if not url:
        pytest.fail(f"tools.explore did not start: {log.read_text(encoding='utf-8')}")
    return url


@contextlib.contextmanager
def open_browser() -> Iterator[Any]:
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    arguments += ["--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def open_page(
    browser: Any,
    url: str,
    *,
    scheme: str = "light",
    width: int = 1280,
    height: int = 800,
    refusals: tuple[int, ...] = (),
) -> Iterator[Any]:
    """The page in a fresh profile; fails afterwards if there was an error in its console.

    Answers with a status of `refusals`, and those of a server that is still computing, which
    Chromium reports by itself, are no errors.
    """
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True
    )
    page = context.new_page()
    page.set_default_timeout(60_000)  # other programs run, too
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda one: errors.append(one.text) if one.type == "error" else None)
    foreseen = tuple(f"status of {status}" for status in (503, *refusals))
    try:
        page.goto(url)
        page.wait_for_selector("#main > *")
        yield page
    finally:
        context.close()
    assert [error for error in errors if not any(one in error for one in foreseen)] == []


def goto(page: Any, url: str, query: str) -> None:
    """Opens a view by its address; the cookie is there by then."""
    page.goto(url.partition("?")[0] + query)


def wait_until(page: Any, expression: str, *, seconds: float = 60) -> None:
    """Waits until a JavaScript expression is true.

    Playwright's own wait needs `eval`, which the page's Content-Security-Policy forbids.
    """
    limit = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < limit, f"not true after {seconds} s: {expression}"
        page.wait_for_timeout(30)


def total(page: Any) -> int:
    """The number of slices that the page says it shows."""
    wait_until(page, "!document.querySelector('.scroller.pending')")
    return int(page.locator(".total").inner_text().split()[0].replace(",", ""))
