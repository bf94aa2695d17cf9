"""Measure melbank against the usual ways of doing the same.

    python -m tools.benchmark build benchmark.source_root=data --plot --markdown docs/benchmarks.md
    python -m tools.benchmark store-read store=data/store
    python -m tools.benchmark codecs store=data/store
    python -m tools.benchmark query
    python -m tools.benchmark plan
    python -m tools.benchmark read benchmark.source_root=data
    python -m tools.benchmark remote
    python -m tools.benchmark augment store=data/demo/store
    python -m tools.benchmark step store=data/demo/store
    python -m tools.benchmark predict benchmark.source_root=data
    python -m tools.benchmark train store=data/birds
    python -m tools.benchmark build --help

build: recordings into slices, against librosa in a notebook's loop. store-read: slices out of a
store, against zarr-python, h5py, .npy files and np.memmap. codecs: ways of packing slices.
query: an index of millions of rows.
read: slices into training, against other loaders and formats. remote: slices of a bucket
into training, against other loaders, over a line with latency. plan: epochs of millions of slices.
augment: what each augmentation adds to a training step. step: what reading adds to it.
predict: recordings into probabilities, against a plain script.
train: a whole training, against a plain loop: scores and minutes.
"""

import importlib
import sys
from collections.abc import Sequence
from typing import Any

from tools.cli.command import Arguments, run
from tools.cli.tables import publish

BENCHMARKS = (
    "build",
    "store-read",
    "codecs",
    "query",
    "read",
    "remote",
    "plan",
    "augment",
    "step",
    "predict",
    "train",
)


def main(argv: Sequence[str]) -> int:
    """Runs the benchmark that the first word names, prints its report, writes it where asked."""
    name = argv[0] if argv else ""
    if name in BENCHMARKS:
        module = importlib.import_module(f"tools.benchmarks.{name.replace('-', '_')}")

        def measure(config: Any, arguments: Arguments) -> None:
            publish(module.run_benchmark(config, arguments), name, arguments)

        return run(module.COMMAND, measure, argv[1:])
    if name in ("-h", "--help"):
        print(__doc__)
        return 0
    print(f"error: the first word names a benchmark: {', '.join(BENCHMARKS)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
