"""One training step as training takes it, for benchmarks; Lightning is not around it.

bench = open_bench(sections)
step = bench.stepper(sections.augment)
step(batch)  # batch -> device -> [0, 1] -> augment -> model -> loss -> backward -> optimizer
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch.optim import Optimizer

from datasets.augment.pipeline import AugmentConfig
from datasets.batch import Batch
from datasets.chunks import chunk_shape
from datasets.slice_source import SliceSource
from tools.cli.training_inputs import TrainSections, open_training
from training.fold_data import FoldData
from training.model.learning.optimizers import build_optimizer
from training.model.models import Classifier, build_classifier, narrowest_image
from training.model.predict import autocast
from training.module import SliceModule
from training.runtime.memory import keep_freed_memory
from training.runtime.threads import torch_threads
from training.split import Split, fold_data, split_recordings
from training.trainer import Machine, choose_machine

Step = Callable[[Batch], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A fold's data and one model in training; steps of all kinds move the same weights."""

    config: TrainSections
    source: SliceSource
    split: Split
    data: FoldData
    machine: Machine
    device: torch.device
    model: Classifier
    optimizer: Optimizer

    def stepper(self, augment: AugmentConfig) -> Step:
        """A function that takes a training step with these augmentations."""
        config, top_db = replace(self.config, augment=augment), self.source.recipe.top_db
        module = SliceModule(self.model, config, self.split.truth, top_db=top_db).train()
        precision = self.machine.precision.value

        def step(batch: Batch) -> None:
            self.optimizer.zero_grad(set_to_none=True)
            with autocast(self.device, precision):
                losses = module.training_losses(self.move(batch))
            losses.mean().backward()  # type: ignore[no-untyped-call]  # torch publishes no type
            self.optimizer.step()

        return step

    def move(self, batch: Batch) -> Batch:
        """The batch on the device."""
        moved = (
            None if value is None else value.to(self.device, non_blocking=True) for value in batch
        )
        return Batch(*moved)  # type: ignore[arg-type]  # None where there was None

    def wait(self) -> None:
        """Returns when the device has done what it was asked for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def about(self) -> str:
        """The model, the batch and the device, in words."""
        mels, frames = self.data.chunks.shape(self.source.recipe)
        device = torch.cuda.get_device_name() if self.device.type == "cuda" else "CPU"
        return (
            f"{self.config.model.backbone} on views {self.config.model.views}, batches of "
            f"{self.config.train_loader.batch_size} slices of {mels} x {frames}, on {device}; "
            f"precision {self.machine.precision.value}, compile {self.machine.compile.value}, "
            f"{self.machine.threads.value} threads"
        )


@contextmanager
def open_bench(config: TrainSections) -> Iterator[Bench]:
    """The first fold of a config, ready to train; torch has the config's threads inside."""
    source = open_training(config)
    shape = chunk_shape(config.chunk, source.recipe)
    num_frames = narrowest_image(config.model, shape)
    machine = choose_machine(replace(config.trainer, folds_at_once=1), num_frames)
    split = split_recordings(source, config)
    with torch_threads(int(machine.threads.value)):
        torch.manual_seed(config.seed)
        model = build_classifier(config.model, num_classes=len(split.labels), slice_shape=shape)
        if machine.compile.value == "on":
            model.compile_backbones(full_batch=config.train_loader.batch_size)
        device = torch.device("cuda" if machine.accelerator.value == "gpu" else "cpu")
        if device.type == "cpu":
            keep_freed_memory()  # as training does
        model.to(device)
        yield Bench(
            config=config,
            source=source,
            split=split,
            data=fold_data(source, split, split.train_folds[0], config),
            machine=machine,
            device=device,
            model=model,
            optimizer=build_optimizer(model, config.optimizer),
        )
