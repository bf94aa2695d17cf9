"""Two real ranks: the steps, losses and scores of one process; killed, and resumed on one.

What needs one process only is done in that of the tests: starting one takes seconds.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from tests.paths import ROOT
from tests.training_run import (
    EFFECTIVE_BATCH,
    Run,
    assert_same,
    batches,
    fold_of,
    train_here,
    write_source,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A source of uneven recordings, for all trainings here."""
    folder = tmp_path_factory.mktemp("ddp")
    write_source(folder, 31)
    return folder


def start(folder, name, **options):
    """Begins a training of two epochs in a process group of its own."""
    out = folder / name
    out.mkdir()
    text = json.dumps({"folder": str(folder), "out": str(out), "devices": 2, **options})
    command = [sys.executable, "-m", "tests.training_run", text]
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True)


def finish(process):
    """Waits for its good end; what is left of it is killed."""
    try:
        assert process.wait(timeout=180) == 0
    finally:
        kill(process)


def kill(process):
    """Ends all ranks at once, as when the machine goes."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def ends(folder, name):
    """Final state of each rank."""
    return [json.loads(path.read_text()) for path in sorted((folder / name).glob("end_*.json"))]


def in_order(ranks):
    """The batches of all ranks as one process with as many accumulated batches has them."""
    assert len({len(rank) for rank in ranks}) == 1
    return [batch for together in zip(*ranks, strict=True) for batch in together]


@pytest.fixture(scope="module")
def alone(folder):
    """The batches of one rank that is never stopped."""
    return train_here(folder, "alone")


@pytest.fixture(scope="module")
def together(folder):
    """Two ranks, one batch of each per optimizer step."""
    finish(start(folder, "together", checkpoint_steps=4))
    return folder


@pytest.mark.slow
def test_two_ranks_take_the_steps_of_one(alone, together):
    ranks = batches(together, "together")
    assert len(ranks) == 2
    assert_same(in_order(ranks), alone)


@pytest.mark.slow
def test_all_ranks_have_the_scores_of_the_whole_fold(alone, folder, together):
    (one,), two = ends(folder, "alone"), ends(together, "together")
    assert len(two) == 2
    assert two[0] == two[1]
    for name in ("val_loss", "val_kl", "val_accuracy", "val_roc_auc"):
        assert two[0]["scores"][name] == pytest.approx(one["scores"][name], abs=1e-5)
    assert two[0]["steps"] == one["steps"]


@pytest.mark.slow
def test_two_ranks_learn_from_a_teacher_as_one_does(folder, alone):
    taught = train_here(folder, "taught", teacher=True)
    finish(start(folder, "taught together", teacher=True))
    assert_same(in_order(batches(folder, "taught together")), taught)
    first = len(taught) // 2
    assert [batch["loss"] for batch in taught[:first]] != [batch["loss"] for batch in alone[:first]]


@pytest.mark.slow
def test_killed_on_two_ranks_and_resumed_on_one_nothing_is_lost_or_seen_twice(folder, alone):
    plan = fold_of(Run(folder=str(folder), out="")).planner()
    steps = len(plan(0)) // EFFECTIVE_BATCH
    process = start(folder, "killed", checkpoint_steps=2, pause_s=0.1)
    try:
        deadline = time.monotonic() + 300
        while not (folder / "killed" / "step=4.ckpt").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        kill(process)
    before = batches(folder, "killed")
    done = max(map(steps_of, (folder / "killed").glob("*.ckpt")))
    assert 4 <= done < steps  # mid-epoch
    seen = in_order([rank[:done] for rank in before])
    assert len(seen) == 2 * done
    rest = train_here(folder, "resumed", checkpoint=str(folder / "killed" / f"step={done}.ckpt"))
    whole = seen + rest
    for epoch in range(2):
        rows = [row for batch in whole if batch["epoch"] == epoch for row in batch["rows"]]
        assert sorted(rows) == sorted(plan(epoch).rows[: steps * EFFECTIVE_BATCH].tolist())
    assert_same(whole, alone)


def steps_of(checkpoint):
    return int(checkpoint.stem.removeprefix("step="))


@pytest.mark.slow
def test_a_checkpoint_of_one_rank_goes_on_on_two(folder, alone):
    train_here(folder, "begun", checkpoint_steps=3)
    for steps in (3, 12):  # of the first epoch, of the second
        checkpoint = folder / "begun" / f"step={steps}.ckpt"
        finish(start(folder, f"on two from {steps}", checkpoint=str(checkpoint)))
        rest = in_order(batches(folder, f"on two from {steps}"))
        assert_same(rest, alone[2 * steps :])


@pytest.mark.slow
def test_a_rank_without_held_out_slices_does_not_hang(folder):
    run = Run(folder=str(folder), out="", one_held_out=True)
    assert fold_of(run).held_out_recordings["num_slices"].to_list() == [1]
    finish(start(folder, "one slice", one_held_out=True))
    first, second = ends(folder, "one slice")
    assert first == second


@pytest.mark.slow
def test_frozen_epochs_are_the_same_on_two_ranks(folder):
    alone = train_here(folder, "frozen alone", freeze_epochs=1)
    finish(start(folder, "frozen together", freeze_epochs=1))
    assert_same(in_order(batches(folder, "frozen together")), alone)
