"""tools.train with a diary of its batches and a brake, for tests of several nodes.

    MELBANK_TEST_DIARY=FOLDER python -m tests.node_run store=... experiment.root=...

Each rank writes a line of JSON per batch to a file of its own in the folder, and waits before a
step whose number is not below that in the folder's file `allowed`.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pytorch_lightning.callbacks import Callback

from tools.cli.command import run
from tools.train import COMMAND, main
from training import fold
from training.runtime.ranks import num_ranks, rank

FOLDER = "MELBANK_TEST_DIARY"
ALLOWED = "allowed"


class Diary(Callback):
    """Writes down the rows of each batch, and waits where it is told to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / f"{rank()}-{os.getpid()}.jsonl"

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        step = trainer.global_step
        while step >= int((self._folder / ALLOWED).read_text() or "0"):
            time.sleep(0.05)
        line = {
            "step": step,
            "batch": batch_idx % trainer.accumulate_grad_batches,
            "rank": rank(),
            "ranks": num_ranks(),
            "pid": os.getpid(),
            "rows": batch.rows.tolist(),
        }
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


@contextmanager
def with_diary(folder: Path) -> Iterator[None]:
    """Trainings in the block keep a diary."""
    usual = fold._callbacks

    def callbacks(*about):
        yield from usual(*about)
        yield Diary(folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fold, "_callbacks", callbacks)
        yield


def allow(folder: Path, steps: int) -> None:
    """Lets trainings go on to so many steps."""
    unfinished = folder / f"{ALLOWED}.tmp"
    unfinished.write_text(str(steps))
    unfinished.replace(folder / ALLOWED)


def lines_of(folder: Path) -> list[dict]:
    """Lines of all ranks; those that a kill has cut off are left out."""
    texts = [path.read_text().split("\n")[:-1] for path in sorted(folder.glob("*.jsonl"))]
    return [json.loads(line) for text in texts for line in text]


if __name__ == "__main__":
    with with_diary(Path(os.environ[FOLDER])):
        sys.exit(run(COMMAND, main))
