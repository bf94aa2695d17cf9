"""Measure melbank against the usual ways of doing the same.

    python -m tools.benchmark build benchmark.source_root=data --plot --markdown docs/benchmarks.md
    python -m tools.benchmark store-read store=data/store
    python -m tools.benchmark query
    python -m tools.benchmark plan
    python -m tools.benchmark read benchmark.source_root=data
    python -m tools.benchmark remote
    python -m tools.benchmark augment store=data/demo/store
    python -m tools.benchmark step store=data/demo/store
    python -m tools.benchmark build --help

build: recordings into slices, against librosa in a notebook's loop. store-read: slices out of a
store, against zarr-python, h5py, .npy files and np.memmap. query: an index of millions of rows.
read: slices into training, against other loaders and formats. remote: slices of a bucket
into training, against other loaders, over a line with latency. plan: epochs of millions of slices.
augment: what each augmentation adds to a training step. step: what reading adds to it.
"""

import sys
from collections.abc import Callable, Sequence

from tools.benchmarks import augment, build, plan, query, read, remote, step, store_read
from tools.cli.command import run

BENCHMARKS: dict[str, Callable[[Sequence[str]], int]] = {
    "build": lambda argv: run(build.COMMAND, build.main, argv),
    "store-read": lambda argv: run(store_read.COMMAND, store_read.main, argv),
    "query": lambda argv: run(query.COMMAND, query.main, argv),
    "read": lambda argv: run(read.COMMAND, read.main, argv),
    "remote": lambda argv: run(remote.COMMAND, remote.main, argv),
    "plan": lambda argv: run(plan.COMMAND, plan.main, argv),
    "augment": lambda argv: run(augment.COMMAND, augment.main, argv),
    "step": lambda argv: run(step.COMMAND, step.main, argv),
}


def main(argv: Sequence[str]) -> int:
    """Hands over to the benchmark that the first word names."""
    name = argv[0] if argv else ""
    if name in BENCHMARKS:
        return BENCHMARKS[name](argv[1:])
    if name in ("-h", "--help"):
        print(__doc__)
        return 0
    print(f"error: the first word names a benchmark: {', '.join(BENCHMARKS)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
