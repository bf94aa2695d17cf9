"""Recordings as input of a prediction: windows for models of one or several recipes."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace

from datasets.chunks import Chunks
from storage.audio.filterbank import mel_filterbank
from storage.objects.client import RemoteConfig
from storage.objects.urls import is_remote
from storage.processes import num_cores
from storage.recipe import OWN, Recipe
from training.inference.config import PredictConfig
from training.inference.embeddings.slice_audio import WaveformInput
from training.inference.members import Member
from training.inference.reading.inputs import InputRecording
from training.inference.reading.loading import Job, open_loader
from training.inference.reading.messages import Message
from training.inference.reading.windows import ModelInput, WindowPlan
from training.inference.reading.worker_count import declared_s, num_workers

SECONDS, WINDOWS, RECORDINGS = "s", "window", "recording"
MAX_HEADERS = 1000  # files whose lengths are asked for before the run


class AudioInput:
    """Recordings that are decoded by worker processes.

    `windows`: the recipe of the first model, with the length of its samples and the step between
    windows. `places`: by the path
    of a model, which of the inputs it takes; models of one recipe, and of equal chunks, share one.
    """

    def __init__(
        self,
        recordings: tuple[InputRecording, ...],
        members: Sequence[Member],
        config: PredictConfig,
        remote: RemoteConfig,
    ) -> None:
        first, length_s = members[0].recipe, sample_length_s(members[0])
        self.recordings = recordings
        self.windows = replace(
            first, slice_s=length_s, slice_step_s=config.step_s or length_s, origin=OWN
        )
        inputs = {one.path: _given(one) for one in members}
        # the first one is of cells, by which silence is told
        first_cells = (_cells_recipe(first), members[0].chunks, None)
        self._inputs = list(dict.fromkeys([first_cells, *inputs.values()]))
        self.places = {path: self._inputs.index(given) for path, given in inputs.items()}
        self._workers = num_workers(config, recordings)
        self._channel = config.channel
        self._remote = remote

    def total(self) -> tuple[int, str]:
        """Amount of work, and its unit: seconds where the files say so at once."""
        paths = [one.path for one in self.recordings]
        if len(paths) > MAX_HEADERS or any(map(is_remote, paths)):
            return len(paths), RECORDINGS
        with ThreadPoolExecutor(min(8, 2 * num_cores())) as threads:
            return round(sum(threads.map(declared_s, paths))), SECONDS

    def messages(self, jobs: Sequence[Job]) -> AbstractContextManager[Iterable[Message]]:
        """The messages of recordings, as they come."""
        plan = WindowPlan(
            recipe=self.windows,
            inputs=tuple(
                ModelInput(
                    recipe=recipe,
                    filterbank_MF=mel_filterbank(recipe),
                    chunks=chunks,
                    waveform=waveform,
                )
                for recipe, chunks, waveform in self._inputs
            ),
            channel=self._channel,
        )
        return open_loader(jobs, plan, workers=self._workers, remote=self._remote)


def sample_length_s(member: Member) -> float:
    """The length of what a model takes, s: a slice, or a chunk of several."""
    return member.recipe.slice_s * member.chunks.count


def _given(member: Member) -> tuple[Recipe, Chunks, WaveformInput | None]:
    """All that decides the input of a model; equal ones are made once."""
    return _cells_recipe(member.recipe), member.chunks, member.waveform


def _cells_recipe(recipe: Recipe) -> Recipe:
    """A recipe without what does not change the cells of a slice; equal ones share them."""
    return replace(recipe, slice_step_s=recipe.slice_s, tail_min_s=0.0, origin=OWN)
