"""Predicts recordings: models and inputs -> raw results in a folder, recording by recording.

    config = PredictConfig(from_=["exp_003"], input=["soundscapes"], out="new")
    models = find_models(config.from_, root=Path("."))
    summary = predict_recordings(config, models, list_inputs(config.input))
    for raw in Results("new").iterate(): ...

    inputs --worker processes: decode, mel--> chunks --batches--> models --> raw/000/000123.parquet

Each recording is decoded once for all models of one sample rate, and each window becomes cells once
for all models of one recipe.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from storage.errors import ConfigError
from storage.objects.client import DEFAULT, RemoteConfig
from storage.progress import Progress, Step, silent
from storage.recipe import FOREIGN
from storage.source.listing import shown_name
from training.inference.batches import Batches, Ensemble, PredictedWindows
from training.inference.config import NO_FRAMES, OVERLAP_MEAN, PredictConfig
from training.inference.embeddings.config import EmbedderConfig
from training.inference.fingerprint import settled
from training.inference.frames import check_frames
from training.inference.members import Member, join_labels, read_branches
from training.inference.model_files import ModelFiles
from training.inference.model_post import ABOUT, post_of_models
from training.inference.predictions import ClassTable, PredictedRecording
from training.inference.reading.audio_input import RECORDINGS, SECONDS, WINDOWS, AudioInput
from training.inference.reading.inputs import Inputs
from training.inference.reading.loading import Job
from training.inference.reading.messages import Chunk, Ended, Rejected
from training.inference.reading.store_input import StoreInput
from training.inference.reading.worker_count import prepare_reading
from training.inference.results import RawPredictions, Reject, Results, Run
from training.runtime.auto import Choice, choose_accelerator, choose_threads
from training.runtime.memory import keep_freed_memory
from training.runtime.threads import torch_threads

COMMITS_AHEAD = 8
Check = Callable[[Run, Sequence[str]], None]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionSummary:
    """Summary of a run; what earlier, stopped runs did in the same folder is counted apart."""

    out: Path
    num_recordings: int
    num_windows: int
    num_done_before: int
    num_rejects: int
    audio_s: float
    wall_s: float

    def __str__(self) -> str:
        """In one paragraph."""
        before = f", {self.num_done_before:,} done before" if self.num_done_before else ""
        speed = self.audio_s / max(self.wall_s, 1e-9)
        return (
            f"{self.num_recordings:,} recordings{before}, {self.num_rejects:,} rejected; "
            f"{self.num_windows:,} windows of {self.audio_s / 3600:.2f} h in {self.wall_s:.1f} s, "
            f"{speed:,.0f} x real time; raw results: {self.out}"
        )


def predict_recordings(
    config: PredictConfig,
    models: list[ModelFiles],
    inputs: Inputs,
    *,
    check: Check = lambda *_: None,
    embedder: EmbedderConfig | None = None,
    remote: RemoteConfig = DEFAULT,
    progress: Progress = silent,
) -> PredictionSummary:
    """Predicts the recordings that are not done yet, into `config.out`.

    `check` is given the description of the run and its recordings before anything is predicted;
    `embedder` is for probes on embeddings of an ONNX file. Raises ConfigError on what cannot work,
    and where the folder has the results of another run.
    """
    results = Results(config.out)
    results.check_folder()
    prepare_reading(config, inputs)  # while the models are loaded
    accelerator = choose_accelerator(config.accelerator, "predict")
    threads = choose_threads(config.threads)
    device = torch.device("cuda" if accelerator.value == "gpu" else "cpu")
    num_threads = int(threads.value)
    branches, precision = read_branches(models, device, config.precision, num_threads, embedder)
    members = [member for branch in branches for member in branch.members]
    source = _open_input(inputs, members, config, remote)
    if config.frames == OVERLAP_MEAN:
        check_frames(members, of_store=isinstance(source, StoreInput))
    ensemble = Ensemble(
        branches=branches,
        inputs=[[source.places[one.path] for one in branch.members] for branch in branches],
        labels=join_labels(branches, config.labels),
        frames=config.frames == OVERLAP_MEAN,
    )
    machine = {"accelerator": accelerator, "precision": precision, "threads": threads}
    _announce(source, ensemble, inputs, machine)
    run = _describe_run(config, models, source, ensemble, machine)
    check(run, [one.recording_id for one in source.recordings])
    with results.lock(), torch_threads(num_threads):
        results.begin(run, source.recordings)
        return _Predictor(source, ensemble, results).run(config.batch_size, progress)


def _describe_run(
    config: PredictConfig,
    models: list[ModelFiles],
    source: AudioInput | StoreInput,
    ensemble: Ensemble,
    machine: dict[str, Choice],
) -> Run:
    """The run as predict.json has it: all that decides the results, and what else is known."""
    members = [member for branch in ensemble.branches for member in branch.members]
    settings = {name.removesuffix("_"): value for name, value in asdict(config).items()}
    kinds = {name: machine[name].value for name in ("accelerator", "precision")}
    if config.frames != NO_FRAMES:
        kinds["frames"] = config.frames
    names = {label: of for one in reversed(members) for label, of in one.names.items()}
    return Run(
        branches=tuple(branch.name for branch in ensemble.branches),
        classes=ClassTable(labels=ensemble.labels, names=names),
        decides=settled(models, ensemble.branches, source.windows, channel=config.channel, **kinds),
        about={
            "predict": settings,
            "models": [member.path for member in members],
            "recipe": source.windows.to_dict(),
            ABOUT: post_of_models(members),
        },
    )


def _open_input(
    inputs: Inputs, members: list[Member], config: PredictConfig, remote: RemoteConfig
) -> AudioInput | StoreInput:
    if not inputs.store:
        return AudioInput(inputs.recordings, members, config, remote)
    if config.step_s is not None:
        raise ConfigError(
            f"predict.step_s={config.step_s:g}: the windows of the store {inputs.store} are its "
            "slices: leave it out, or predict the recordings themselves"
        )
    if config.limit is not None:
        raise ConfigError(f"predict.limit={config.limit} is for recordings, not for a store")
    return StoreInput(inputs.store, members, remote)


def _announce(
    source: AudioInput | StoreInput,
    ensemble: Ensemble,
    inputs: Inputs,
    machine: dict[str, Choice],
) -> None:
    """Says what is about to happen: recordings, models, and the machine that is used."""
    for note in inputs.notes:
        logger.info(note)
    members = [member for branch in ensemble.branches for member in branch.members]
    if isinstance(source, AudioInput) and any(one.recipe.origin == FOREIGN for one in members):
        logger.info(
            "slices of another program were learned from: those made here may differ from them"
        )
    windows = source.windows
    logger.info(
        f"{len(source.recordings):,} recordings, windows of {windows.slice_s:g} s every "
        f"{windows.slice_step_s:g} s; {len(members)} models in {len(ensemble.branches)} branches, "
        f"{len(ensemble.labels):,} classes"
    )
    logger.info("; ".join(f"{name}: {one.value} ({one.reason})" for name, one in machine.items()))


class _Predictor:
    """Predicts the recordings of a run that are not done, and commits each as it is complete."""

    def __init__(
        self, source: AudioInput | StoreInput, ensemble: Ensemble, results: Results
    ) -> None:
        self._source = source
        self._ensemble = ensemble
        self._results = results
        self._num_windows = self._num_recordings = 0
        self._audio_s = 0.0
        self._commits: deque[Future[None]] = deque()

    def run(self, batch_size: int, progress: Progress) -> PredictionSummary:
        """Predicts what is left; returns what was done."""
        begun = time.monotonic()
        recordings = self._source.recordings
        left = [
            Job(number, one.path)
            for number, one in enumerate(recordings)
            if not self._results.has(number)
        ]
        if left:
            keep_freed_memory()
            total, unit = self._source.total()
            with progress("predicting", total, unit) as step:
                self._run(left, batch_size, _Meter(step, unit))
        return PredictionSummary(
            out=self._results.root,
            num_recordings=len(recordings),
            num_windows=self._num_windows,
            num_done_before=len(recordings) - len(left),
            num_rejects=sum(1 for _ in self._results.rejects()),
            audio_s=self._audio_s,
            wall_s=time.monotonic() - begun,
        )

    def _run(self, left: list[Job], batch_size: int, meter: "_Meter") -> None:
        windows = self._source.windows
        window_s = windows.slice_samples / windows.sample_rate_hz
        batches = Batches(
            self._ensemble.probabilities,
            batch_size,
            window_s=window_s if self._ensemble.frames else None,
        )
        with ThreadPoolExecutor(1) as thread, self._source.messages(left) as messages:
            for message in messages:
                if isinstance(message, Chunk):
                    batches.add(message)
                    meter.windows(len(message.silent), self._source.windows.slice_step_s)
                elif isinstance(message, Ended):
                    batches.end(message)
                    meter.recording()
                else:
                    batches.drop(message.recording_no)
                    self._reject(thread, message)
                    meter.recording()
                self._commit(thread, batches.complete())
            batches.flush()
            self._commit(thread, batches.complete())
            while self._commits:
                self._commits.popleft().result()

    def _commit(self, thread: ThreadPoolExecutor, complete: Iterable[PredictedWindows]) -> None:
        """Commits recordings in another thread, as the disk makes one wait for each."""
        for windows in complete:
            ended, raw = windows.ended, self._raw(windows)
            if ended is None:
                continue
            self._num_windows += len(raw.start_s)
            self._audio_s += ended.duration_s
            number, labels = ended.recording_no, self._ensemble.labels
            self._commits.append(thread.submit(self._results.write, number, raw, labels))
        while len(self._commits) > COMMITS_AHEAD:
            self._commits.popleft().result()

    def _raw(self, windows: PredictedWindows) -> RawPredictions:
        ended = windows.ended
        if ended is None:
            raise ValueError("a recording is committed once it has come to its end")
        recording = self._source.recordings[ended.recording_no]
        start_s, recipe = np.concatenate(windows.start_s), self._source.windows
        return RawPredictions(
            recording=PredictedRecording(
                recording_id=recording.recording_id,
                path=shown_name(recording.path),
                duration_s=ended.duration_s,
                sample_rate_hz=ended.sample_rate_hz,
                problem=ended.problem,
            ),
            start_s=start_s,
            end_s=start_s + recipe.slice_samples / recipe.sample_rate_hz,
            silent=np.concatenate(windows.silent),
            probabilities=np.concatenate(windows.probabilities, axis=1),
        )

    def _reject(self, thread: ThreadPoolExecutor, rejected: Rejected) -> None:
        recording = self._source.recordings[rejected.recording_no]
        reject = Reject(
            recording_id=recording.recording_id,
            path=shown_name(recording.path),
            reason=rejected.reason,
        )
        self._commits.append(thread.submit(self._results.reject, rejected.recording_no, reject))


class _Meter:
    """Passes progress on in the unit of a bar."""

    def __init__(self, step: Step, unit: str) -> None:
        self._step = step
        self._unit = unit
        self._seconds = 0.0

    def windows(self, count: int, step_s: float) -> None:
        """So many windows have been predicted."""
        before = self._seconds
        self._seconds += count * step_s
        if self._unit == SECONDS:
            self._step(int(self._seconds) - int(before))
        elif self._unit == WINDOWS:
            self._step(count)

    def recording(self) -> None:
        """A recording has come to its end."""
        if self._unit == RECORDINGS:
            self._step(1)
