"""reader in a process of its own: Ctrl-C leaves nothing, and memory does not grow."""

import os
import pickle
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from storage.recipe import Recipe
from tests.fakes import write_fake_source
from tests.paths import ROOT

READER = """
import os, resource, sys, threading, time
import numpy as np
from pathlib import Path
from datasets.sampling.epoch_plan import EpochPlanner, SamplingConfig
from datasets.loading.reader import BatchReader, LoaderConfig
from tests.fakes import write_fake_source

def make(folder, num_recordings, **config):
    source = write_fake_source(Path(folder) / "cells.raw", [5] * num_recordings, seed=1)
    planner = EpochPlanner(source.recordings(), SamplingConfig(slice_choice="all"), seed=1)
    return BatchReader(source, planner, LoaderConfig(**config), targets=None, train=True)

def left():
    threads = [thread.name for thread in threading.enumerate()]
    return threads, len(os.listdir("/dev/fd"))
"""

INTERRUPTED = """
reader = make(sys.argv[1], 200, batch_size=1)
before = left()
try:
    while True:
        for number, batch in enumerate(reader):
            if number == 0:
                print("reading", flush=True)
except KeyboardInterrupt:
    print("stopped", before == left(), flush=True)
"""

GROWING = """
import gc, pickle
def resident_bytes():
    gc.collect()
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
source = pickle.loads(Path(sys.argv[1]).read_bytes())
planner = EpochPlanner(source.recordings(), SamplingConfig(slice_choice="all"), seed=1)
reader = BatchReader(source, planner, LoaderConfig(batch_size=64), targets=None, train=True)
print(resident_bytes(), flush=True)
for epoch in range(int(sys.argv[2])):
    reader.set_epoch(epoch)
    for batch in reader:
        if epoch == 0:
            time.sleep(0.02)  # the reader gets ahead as far as it may, so that its pool is full
    print(resident_bytes(), flush=True)
"""


def start(code, *words):
    return subprocess.Popen(
        [sys.executable, "-c", READER + code, *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.13])
def test_an_interrupt_leaves_no_thread_and_no_file(tmp_path, delay_s):
    process = start(f"import time\n{INTERRUPTED}", tmp_path)
    try:
        assert process.stdout.readline() == "reading\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=max(delay_s, 0.001))
        os.kill(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert re.fullmatch(r"(reading\n)*stopped True\n", said)
    assert process.returncode == 0


def growth_bytes(folder, num_recordings, num_epochs):
    """Memory after each epoch over that of the opened source, by a process that reads only."""
    source = write_fake_source(folder / "cells.raw", [5] * num_recordings, seed=1, recipe=Recipe())
    pickled = folder / "source.pkl"
    pickled.write_bytes(pickle.dumps(replace(source, cells=np.empty(0, np.uint8))))
    process = start(GROWING, pickled, num_epochs)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    opened, *used = [int(line) for line in said.split()]
    return [each - opened for each in used]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_memory_grows_neither_with_epochs_nor_with_data(tmp_path):
    used = growth_bytes(tmp_path, 400, 30)  # 80 MB of slices
    assert max(used[15:]) - max(used[:15]) < 4 * 2**20
    assert max(used) < 60 * 2**20
    more = growth_bytes(tmp_path, 1600, 4)
    assert max(more) - max(used) < 8 * 2**20
