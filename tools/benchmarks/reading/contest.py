"""Contenders on the same slices, each run in a process of its own."""

import json
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.errors import StoreError
from tools.benchmarks.harness.process import NOTHING, ONE_THREAD, Result, run_session
from tools.benchmarks.harness.runs import measure_in_turn
from tools.benchmarks.reading.contenders import CELLS, PEERS, SHARDS, STORE, Way, python_of
from tools.benchmarks.reading.slices import Material, SlicesConfig
from tools.cli.checkout import ROOT
from tools.cli.progress_bars import bar

FOLDER = Path(__file__).parents[1] / "ways"
Turn = tuple[Way, Any]  # a contender and the condition that it is measured under


@dataclass(slots=True)
class Contest:
    """Contenders, the slices that they read, and the results of their turns.

    `failures` has the reasons of those that failed, `versions` those of the libraries that wrote a
    copy, by its name; `folder` takes the copies.
    """

    ways: tuple[Way, ...]
    config: SlicesConfig
    material: Material
    folder: Path
    failures: dict[Way, str] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    found: dict[Turn, list[Result]] = field(default_factory=dict)

    def prepare(self, step: Callable[[Way], object]) -> None:
        """Takes a step for each contender; who reads the same copy as one that fails, fails too."""
        with bar("preparing", len(self.ways), "copies") as advance:
            for way in self.ways:
                with self._failing(*(one for one in self.ways if one.copy == way.copy)):
                    if way not in self.failures:
                        step(way)
                advance(1)

    def measure(self, turns: Collection[Turn], run: Callable[[Turn], Result]) -> None:
        """Runs all turns but those of contenders that have failed."""

        def run_or_fail(turn: Turn) -> Result:
            if turn[0] not in self.failures:
                with self._failing(turn[0]):
                    return run(turn)
            return {}

        self.found = measure_in_turn(turns, self.config.runs, run_or_fail)

    def results(self, condition: Any) -> dict[Way, list[Result]]:
        """Returns the results under a condition of those contenders that have not failed."""
        return {
            way: found
            for (way, under), found in self.found.items()
            if under == condition and way not in self.failures
        }

    def source(self, way: Way) -> Path:
        """Returns the file or folder that a contender reads; a copy is written at the first call.

        Raises StoreError where it cannot be written, or the contender reads what was not given.
        """
        given = {
            CELLS: self.material.cells, STORE: self.material.store, SHARDS: self.material.shards
        }  # fmt: skip
        path = given.get(way.reads, self.folder / way.copy)
        if path is None:
            raise StoreError(f"{way.reads}= was not given")
        if way.reads not in given and way.copy not in self.versions:
            libraries = [line.partition(">")[0] for line in PEERS.get(way.peer, ())[:1]]
            self.versions[way.copy] = self.run(
                way, "write", path, function=way.writer, packages=libraries
            )
        return path

    def run(
        self,
        way: Way,
        job: str,
        target: Path,
        environment: Mapping[str, str] = NOTHING,
        **more: Any,
    ) -> Result:
        """Has a contender do a job on a target; StoreError where it fails."""
        ours = way.module == "melbank"
        spec = {
            "job": job,
            "module": str(FOLDER / f"{way.module}.py"),
            "function": way.function,
            "project": str(ROOT) if ours else "",
            "target": str(target),
            "cells": str(self.material.cells),
            "rows": str(self.material.rows) if ours else "",
            **more,
        }
        python = python_of(way.peer, self.config.env_dir)
        return run_way(python, spec, self.config.timeout_s, environment)

    @contextmanager
    def _failing(self, *ways: Way) -> Iterator[None]:
        """Records a StoreError as the failure of these contenders."""
        try:
            yield
        except StoreError as error:
            self.failures.update(dict.fromkeys(ways, str(error)))


def run_way(
    python: Path, spec: dict[str, Any], timeout_s: float, environment: Mapping[str, str] = NOTHING
) -> Result:
    """Runs `ways/run_way.py` in an interpreter, outside the checkout; returns its result.

    Raises StoreError, with the last line that it wrote, where it fails or takes too long.
    """
    with tempfile.TemporaryDirectory(prefix="melbank-") as folder:
        asked, answered = Path(folder) / "spec.json", Path(folder) / "result.json"
        asked.write_text(json.dumps(spec), encoding="utf-8")
        # some leave locks and caches, in these places
        places = {"TMPDIR": folder, "HOME": folder}
        run_session(
            [str(python), "-I", str(FOLDER / "run_way.py"), str(asked), str(answered)],
            Path(folder),
            {**environment, **ONE_THREAD, **places},
            timeout_s=timeout_s,
        )
        result: Result = json.loads(answered.read_text(encoding="utf-8"))
        return result
