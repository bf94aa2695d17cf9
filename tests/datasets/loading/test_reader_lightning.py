"""datasets.loading.reader under Lightning's Trainer: what is trained on, and after a resume."""

import warnings

import pytest
import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.sampling.epoch_plan import EpochPlanner, SamplingConfig, plan_all
from tests.fakes import write_fake_source

EPOCHS = 4


class Recorder(lightning.LightningModule):
    """A model of one weight that writes down (epoch, rows) of what it is given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained = []
        self.validated = []

    def training_step(self, batch, _):
        self.trained.append((batch.epoch.item(), batch.rows.tolist()))
        return (self.weight - batch.slices.float().mean()) ** 2

    def validation_step(self, batch, _):
        self.validated.append(batch.rows.tolist())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("lightning") / "cells.raw"
    return write_fake_source(path, [3, 1, 8, 2, 13, 1, 5, 4, 30, 2, 7, 6, 2], seed=1)


def fit(source, folder, *, ckpt_path=None, max_epochs=EPOCHS, accumulation=1, **options):
    """Trains, with a checkpoint as `options` say; returns the recorder."""
    table = source.recordings()
    train = BatchReader(
        source,
        EpochPlanner(table, SamplingConfig(slices_per_recording=2), seed=3),
        LoaderConfig(batch_size=2),
        targets=None,
        train=True,
        accumulation=accumulation,
    )
    val = BatchReader(source, lambda _: plan_all(table), LoaderConfig(), targets=None, train=False)
    callbacks = options.pop("callbacks", [])
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=max_epochs,
        accumulate_grad_batches=accumulation,
        callbacks=callbacks,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"num_sanity_val_steps": 2, **options},
    )
    recorder = Recorder()
    with warnings.catch_warnings():  # about dataloader workers, of which there are none
        warnings.simplefilter("ignore")
        trainer.fit(recorder, train, val, ckpt_path=ckpt_path)
    return recorder


def test_each_epoch_is_trained_on_once_and_validation_is_whole(source, tmp_path):
    recorder = fit(source, tmp_path)
    planner = EpochPlanner(source.recordings(), SamplingConfig(slices_per_recording=2), seed=3)
    expected = [
        (epoch, planner(epoch).rows[start : start + 2].tolist())
        for epoch in range(EPOCHS)
        for start in range(0, 26, 2)
    ]
    assert recorder.trained == expected
    whole = plan_all(source.recordings()).rows.tolist()
    flat = [row for rows in recorder.validated for row in rows]
    assert flat == whole[:32] + whole * EPOCHS  # the sanity check, then every epoch


CHECKPOINTS = {  # from the number of steps in an epoch
    "epoch end": lambda _: {"every_n_epochs": 2, "save_on_train_epoch_end": True},
    "after validation": lambda _: {"every_n_epochs": 2, "save_on_train_epoch_end": False},
    "mid-epoch": lambda steps: {"every_n_train_steps": steps + 3},
    "first step of an epoch": lambda steps: {"every_n_train_steps": steps + 1},
    "last step of an epoch": lambda steps: {"every_n_train_steps": 2 * steps},
}


def check_resume(source, folder, when, *, steps, **options):
    """Saves in the middle of a training, resumes from there: the rest must be the same."""
    checkpoint = ModelCheckpoint(folder, "{step}", save_top_k=-1, **CHECKPOINTS[when](steps))
    whole = fit(source, folder, callbacks=[checkpoint], **options).trained
    assert len(whole) == EPOCHS * steps
    saved = min(folder.glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    done = torch.load(saved, weights_only=True)["global_step"]
    assert steps < done < EPOCHS * steps
    assert fit(source, folder, ckpt_path=saved, **options).trained == whole[done:]


@pytest.mark.parametrize("when", CHECKPOINTS)
@pytest.mark.parametrize("limit", [None, 5], ids=["whole epochs", "limit_train_batches"])
def test_a_resumed_training_sees_the_same_steps(source, tmp_path, when, limit):
    check_resume(source, tmp_path, when, steps=limit or 13, limit_train_batches=limit)


@pytest.mark.parametrize("when", [when for when in CHECKPOINTS if when != "after validation"])
def test_without_validation_too(source, tmp_path, when):
    check_resume(source, tmp_path, when, steps=13, limit_val_batches=0)


@pytest.mark.parametrize(
    ("limit", "steps", "done"),
    [(None, 8, 16), (None, 6, 12), (6, 4, 8), (5, 8, 14), (5, 6, 10)],
    ids=["mid-epoch", "epoch end", "limited", "limited within a step", "there, at its end"],
)
def test_with_accumulation_too(source, tmp_path, limit, steps, done):
    options = {"accumulation": 2, "limit_train_batches": limit}
    checkpoint = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=steps)
    whole = fit(source, tmp_path, callbacks=[checkpoint], **options).trained
    assert len(whole) == EPOCHS * (limit or 12)
    saved = tmp_path / f"step={steps}.ckpt"
    assert fit(source, tmp_path, ckpt_path=saved, **options).trained == whole[done:]
