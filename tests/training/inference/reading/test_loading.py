"""Worker processes that decode: what happens when one is killed, and when nobody listens."""

from multiprocessing import active_children
from pathlib import Path

import pytest

from storage.audio.filterbank import mel_filterbank
from storage.errors import StoreError
from storage.objects.client import DEFAULT
from tests.predicting import RECIPE, write_recordings
from training.inference.reading.loading import Job, open_loader
from training.inference.reading.messages import Chunk
from training.inference.reading.windows import ModelInput, WindowPlan

PLAN = WindowPlan(
    recipe=RECIPE, inputs=(ModelInput(recipe=RECIPE, filterbank_MF=mel_filterbank(RECIPE)),)
)


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    folder = write_recordings(tmp_path, [400.0] * 4)
    return [Job(number, str(path)) for number, path in enumerate(sorted(folder.iterdir()))]


def test_a_killed_worker_ends_in_a_sentence_and_a_left_loop_ends_the_workers(
    jobs: list[Job],
) -> None:
    before = set(active_children())
    with open_loader(jobs, PLAN, workers=2, remote=DEFAULT) as messages:
        assert isinstance(next(iter(messages)), Chunk)
        assert len(set(active_children()) - before) == 2
    assert set(active_children()) <= before
    with open_loader(jobs, PLAN, workers=1, remote=DEFAULT) as messages:
        loop = iter(messages)
        next(loop)
        (worker,) = set(active_children()) - before
        worker.kill()
        with pytest.raises(StoreError, match="was ended from outside"):
            list(loop)


def test_a_file_that_is_gone_is_rejected(tmp_path: Path) -> None:
    with open_loader([Job(0, str(tmp_path / "none.wav"))], PLAN, workers=0, remote=DEFAULT) as loop:
        assert [message.reason for message in loop] == ["there is no such file: none.wav"]
