"""A training in processes of its own, for tests of several ranks, of kills and of resuming.

    python -m tests.training_run '{"folder": ..., "devices": 2, ...}'

Trains on `source.pkl` of the folder. Each rank writes a line of JSON per batch to
`OUT/batches_R.jsonl` and, when it has come to its end, `OUT/end_R.json`; checkpoints are
`OUT/step=N.ckpt`.
"""

import json
import pickle
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torch import nn

from datasets.augment.level import NoiseConfig
from datasets.augment.mix import MixupConfig
from datasets.augment.pipeline import AugmentConfig
from datasets.labels import Labels
from datasets.loading.config import LoaderConfig, ValLoaderConfig
from datasets.sampling.epoch_plan import SamplingConfig
from datasets.sources.teacher import Teacher
from datasets.targets import Targets
from tests.fakes import FakeSource
from tests.learnable import write_learnable_source
from tests.training.short_training import short_trainer
from training.config import TrainingConfig, accumulation
from training.data_module import FoldDataModule
from training.fold_data import FoldData
from training.model.learning.distillation import Distillation
from training.model.learning.distillation_config import TeacherConfig
from training.model.learning.optimizers import OptimizerConfig
from training.model.metrics import Truth
from training.model.models import Classifier, ModelConfig, View
from training.module import SliceModule
from training.runtime.ranks import rank
from training.trainer import build_trainer, choose_machine, quiet_lightning

EFFECTIVE_BATCH = 4


@dataclass(frozen=True, kw_only=True)
class Run:
    """Settings that the tests vary."""

    folder: str
    out: str
    devices: int = 1
    batch_size: int = 2
    epochs: int = 2
    checkpoint_steps: int = 0  # 0: none
    checkpoint: str = ""  # to resume from
    pause_s: float = 0.0  # after each batch, so that there is time for a kill
    one_held_out: bool = False  # hold out a single slice
    freeze_epochs: int = 0
    teacher: bool = False  # learn embeddings too, at first alone; some slices have none


class Diary(Callback):
    """Writes down each batch of this rank, and what it knows in the end."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._file = Path(run.out) / f"batches_{rank()}.jsonl"

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        line = {
            "epoch": int(batch.epoch),
            "batch": batch_idx,
            "rows": batch.rows.tolist(),
            "loss": float(outputs["loss"]) * trainer.accumulate_grad_batches,
        }
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        time.sleep(self._run.pause_s)

    def on_train_end(self, trainer, module):
        end = {
            "steps": trainer.global_step,
            "epochs": trainer.current_epoch,
            "scores": {name: float(value) for name, value in trainer.callback_metrics.items()},
        }
        (Path(self._run.out) / f"end_{rank()}.json").write_text(json.dumps(end))


def fold_of(run: Run) -> FoldData:
    """The first fold of the source."""
    source = pickle.loads((Path(run.folder) / "source.pkl").read_bytes())
    table = source.recordings()
    held_out = table.filter(fold=1)
    if run.one_held_out:
        held_out = held_out.filter(num_slices=1).head(1)
    return FoldData(
        source=source,
        train_loader=LoaderConfig(batch_size=run.batch_size),
        train_recordings=table.filter(table["fold"] != 1),
        held_out_recordings=held_out,
        targets=Targets(Labels.of(table).targets(table, 0.5)),
        config=TrainingConfig(
            sampling=SamplingConfig(slices_per_recording=2, balance="sqrt"),
            val_loader=ValLoaderConfig(batch_size=4),
            seed=7,
        ),
        teacher=teacher_of(source) if run.teacher else None,
    )


def teacher_of(source: FakeSource) -> Teacher:
    """Embeddings of two of three slices."""
    rows = source.index["row"].to_numpy()
    values = np.random.default_rng(3).normal(size=(len(rows), 6)).astype(np.float32)
    kept = np.arange(len(rows)) % 3 > 0
    return Teacher(rows[kept], kept.nonzero()[0], values)


def small_backbone() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    )


def module_of(data: FoldData, freeze_epochs: int = 0) -> SliceModule:
    """Two small views without batch norm, whose running means would depend on the ranks."""
    table = data.source.recordings()
    labels = Labels.of(table)
    torch.manual_seed(0)
    views = [
        View(small_backbone(), pool, dropout=0.3, num_classes=len(labels), embedding_size=32)
        for pool in ((1, 1), (2, 1))
    ]
    model = Classifier(views, "softmax")
    augment = AugmentConfig(mixup=MixupConfig(p=0.7), noise=NoiseConfig(p=0.7))
    config = TrainingConfig(
        model=ModelConfig(freeze_epochs=freeze_epochs),
        augment=augment,
        optimizer=OptimizerConfig(warmup_epochs=0.0),
        seed=7,
    )
    truth = Truth.of(table, labels, 0.5)
    if data.teacher is None:
        return SliceModule(model, config, truth)
    teacher = TeacherConfig(embeddings="x.parquet", phase="first", epochs=1)
    distillation = Distillation(teacher, embedding_size=32, width=data.teacher.width, num_views=2)
    return SliceModule(model, config, truth, distillation=distillation)


def train(run: Run) -> lightning.Trainer:
    """Trains as `training.fold` does, with checkpoints besides."""
    config = short_trainer(
        epochs=run.epochs,
        effective_batch_size=EFFECTIVE_BATCH,
        accelerator="cpu",
        devices=run.devices,
        patience=0,
    )
    callbacks: list[Callback] = [Diary(run)]
    if run.checkpoint_steps:
        callbacks.append(
            ModelCheckpoint(
                run.out, "{step}", save_top_k=-1, every_n_train_steps=run.checkpoint_steps
            )
        )
    step = accumulation(EFFECTIVE_BATCH, run.batch_size, run.devices)
    data = fold_of(run)
    torch.set_num_threads(1)
    with quiet_lightning():
        trainer = build_trainer(
            config,
            choose_machine(config, data.source.recipe.slice_shape[1]),
            batches_per_step=step,
            weights_folder=Path(run.out) / "best",
            loggers=[],
            callbacks=callbacks,
        )
        trainer.fit(
            module_of(data, run.freeze_epochs),
            datamodule=FoldDataModule(data, accumulation=step),
            ckpt_path=run.checkpoint or None,
        )
    return trainer


def train_here(folder: Path, name: str, **options: object) -> list[dict]:
    """Trains on one rank in this process, in `folder/name`; its batches."""
    out = folder / name
    out.mkdir()
    with warnings.catch_warnings():  # Lightning's, on callbacks and folders of the checkpoint
        warnings.simplefilter("ignore")
        train(Run(folder=str(folder), out=str(out), **options))
    (diary,) = batches(folder, name)
    return diary


def batches(folder: Path, name: str) -> list[list[dict]]:
    """Lines of each rank; the last one may be cut off by a kill."""
    diaries = sorted((folder / name).glob("batches_*.jsonl"))
    lines = [diary.read_text().split("\n")[:-1] for diary in diaries]
    return [[json.loads(line) for line in rank] for rank in lines]


def assert_same(found: list[dict], expected: list[dict], *columns: str) -> None:
    """Batches have equal rows and losses, and equal values in these columns."""
    for name in ("rows", *columns):
        assert [batch[name] for batch in found] == [batch[name] for batch in expected]
    losses = ([batch["loss"] for batch in each] for each in (found, expected))
    np.testing.assert_allclose(*losses, rtol=0, atol=1e-5)


def write_source(folder: Path, num_recordings: int) -> None:
    """A source to train on, of uneven recordings."""
    source = write_learnable_source(folder / "cells.raw", num_recordings)
    (folder / "source.pkl").write_bytes(pickle.dumps(source))


if __name__ == "__main__":
    train(Run(**json.loads(sys.argv[1])))
