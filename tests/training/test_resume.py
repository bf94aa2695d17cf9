"""A fold's training, resumed from any checkpoint: the same rows and losses as if never stopped.

Augmentation, dropout and the schedule are on. `test_ddp.py` does the same on several ranks.
"""

import pytest

from storage.errors import ConfigError
from tests.training_run import EFFECTIVE_BATCH, Run, assert_same, fold_of, train_here, write_source


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A source, and a training of two epochs with a checkpoint after each step."""
    folder = tmp_path_factory.mktemp("resume")
    write_source(folder, 19)
    return folder


@pytest.fixture(scope="module")
def whole(folder):
    return train_here(folder, "whole", checkpoint_steps=1)


def checkpoint(folder, steps):
    return str(folder / "whole" / f"step={steps}.ckpt")


def num_steps(folder):
    return len(fold_of(Run(folder=str(folder), out="")).planner()(0)) // EFFECTIVE_BATCH


@pytest.mark.parametrize("when", [1, 3, -1, 0, 1.5], ids=str)
def test_the_rest_is_the_same(folder, whole, when):
    """After some steps, before the epoch's last one, after it, in the second epoch."""
    in_epoch = num_steps(folder)
    steps = {-1: in_epoch - 1, 0: in_epoch, 1.5: in_epoch + 2}.get(when, when)
    rest = train_here(folder, f"from {when}", checkpoint=checkpoint(folder, steps))
    assert_same(rest, whole[2 * steps :], "batch")  # two batches per step


@pytest.mark.parametrize("batch_size", [1, 4])
def test_another_accumulation_sees_the_same_steps(folder, whole, batch_size):
    """As another number of ranks; losses differ, since dropout is drawn per batch."""
    rest = train_here(
        folder, f"by {batch_size}", checkpoint=checkpoint(folder, 3), batch_size=batch_size
    )
    rows = [row for batch in rest for row in batch["rows"]]
    assert rows == [row for batch in whole[6:] for row in batch["rows"]]
    in_epoch = num_steps(folder) * EFFECTIVE_BATCH // batch_size
    numbers = [batch["batch"] for batch in rest]
    first = 3 * EFFECTIVE_BATCH // batch_size
    assert numbers == [*range(first, in_epoch), *range(in_epoch)]


def test_other_data_is_refused_with_the_difference(folder, whole, tmp_path):
    write_source(tmp_path, 22)
    with pytest.raises(ConfigError, match=r"recordings: .* then, .* now"):
        train_here(tmp_path, "other", checkpoint=checkpoint(folder, 3))
