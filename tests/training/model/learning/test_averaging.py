"""Averaged weights: what they are, who sees them, and that training does not."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from training.model.learning.averaging import AveragingConfig, WeightAverage
from training.trainer import quiet_lightning

EPOCHS, BATCHES, BATCH_SIZE = 6, 4, 8
Weights = dict[str, Tensor]


class Regression(pl.LightningModule):
    """Learns a line through noise; the norm's statistics move with the inputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        x, y = batch
        return ((self.model(x)[:, 0] - y) ** 2).mean()

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        x, y = batch
        self.log("val_loss", ((self.model(x)[:, 0] - y) ** 2).mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Watcher(Callback):
    """Keeps the live weights of each step and epoch, and those that validation saw."""

    def __init__(self) -> None:
        self.steps: list[Weights] = []
        self.epochs: list[Weights] = []
        self.validated: list[Weights] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        self.steps.append(copied(module))

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        self.epochs.append(self.steps[-1])

    def on_validation_end(self, trainer: pl.Trainer, module: Any) -> None:
        self.validated.append(copied(module))


def copied(module: Any) -> Weights:
    return {name: value.clone() for name, value in module.model.state_dict().items()}


def data() -> list[tuple[Tensor, Tensor]]:
    rng = np.random.default_rng(3)
    x = torch.from_numpy(rng.standard_normal((BATCHES, BATCH_SIZE, 3)).astype(np.float32) + 1)
    return [(part, part.sum(1)) for part in x]


def inputs() -> list[Tensor]:
    return [x for x, _ in data()]


def fit(
    folder: Path,
    config: AveragingConfig | None,
    *,
    resume: str | None = None,
    epochs: int = EPOCHS,
    total_epochs: int = EPOCHS,
    more: Sequence[Callback] = (),
) -> tuple[Regression, Watcher, WeightAverage | None]:
    watcher, callbacks = Watcher(), [*more]
    average = config and WeightAverage(config, total_epochs=total_epochs, batches=inputs)
    if average:
        callbacks.append(average)
    callbacks += [
        watcher,
        ModelCheckpoint(folder, "best", monitor="val_loss", save_weights_only=True),
        ModelCheckpoint(folder, "every", every_n_epochs=1, enable_version_counter=False),
    ]
    module = Regression()
    with quiet_lightning():
        trainer = pl.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            callbacks=callbacks,
            logger=False,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        loader = DataLoader(data(), batch_size=None)
        trainer.fit(module, loader, loader, ckpt_path=resume, weights_only=True)
    return module, watcher, average


def assert_equal(one: Weights, other: Weights, *, norms: bool = True) -> None:
    for name, value in one.items():
        if norms or "running" not in name:
            torch.testing.assert_close(value, other[name], rtol=1e-5, atol=1e-6, msg=name)


def mean_of(weights: list[Weights]) -> Weights:
    return {
        name: torch.stack([w[name].double() for w in weights]).mean(0).float()
        for name in weights[0]
        if "num_" not in name
    }


def loss_of(state: Weights) -> float:
    module = Regression()
    module.load_state_dict(state)
    with torch.no_grad():
        predicted = module.eval().model(torch.cat(inputs()))[:, 0]
    return float(((predicted - torch.cat(inputs()).sum(1)) ** 2).mean())


SWA = AveragingConfig(kind="swa", start=0.5)


def test_swa_is_the_mean_of_the_epochs_from_its_start_on(tmp_path: Path) -> None:
    _, watcher, _ = fit(tmp_path, SWA)
    for epoch in range(EPOCHS):
        expected = mean_of(watcher.epochs[EPOCHS // 2 : epoch + 1] or [watcher.epochs[epoch]])
        assert_equal(expected, watcher.validated[epoch], norms=epoch < EPOCHS // 2)


@pytest.mark.parametrize("kind", ["swa", "ema"])
def test_training_goes_on_as_if_nothing_were_averaged(kind: str, tmp_path: Path) -> None:
    _, alone, _ = fit(tmp_path / "alone", None)
    _, watched, _ = fit(tmp_path / "averaged", AveragingConfig(kind=kind, start=0.2, decay=0.9))
    for one, other in zip(alone.steps, watched.steps, strict=True):
        assert_equal(one, other)


def test_ema_follows_its_formula_from_the_first_step_on(tmp_path: Path) -> None:
    _, watcher, _ = fit(tmp_path, AveragingConfig(kind="ema", decay=0.8))
    mean = {name: value.double() for name, value in watcher.steps[0].items()}
    for n, live in enumerate(watcher.steps[1:], start=1):
        decay = min(0.8, (1 + n) / (10 + n))
        mean = {name: decay * mean[name] + (1 - decay) * live[name] for name in mean}
        if (n + 1) % BATCHES == 0:
            seen = watcher.validated[n // BATCHES]
            whole = {name: value.float() for name, value in mean.items() if "num_" not in name}
            assert_equal(whole, seen)


def test_norms_have_the_statistics_of_the_averaged_weights(tmp_path: Path) -> None:
    _, watcher, _ = fit(tmp_path, SWA)
    seen = watcher.validated[-1]
    hidden = torch.cat(inputs()) @ seen["0.weight"].T + seen["0.bias"]
    torch.testing.assert_close(seen["1.running_mean"], hidden.mean(0), rtol=1e-4, atol=1e-5)
    parts = torch.stack([(x @ seen["0.weight"].T).var(0) for x in inputs()]).mean(0)
    torch.testing.assert_close(seen["1.running_var"], parts, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["swa", "ema"])
def test_the_best_checkpoint_holds_what_was_validated(kind: str, tmp_path: Path) -> None:
    _, watcher, _ = fit(tmp_path, AveragingConfig(kind=kind, start=0.0, decay=0.9))
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)
    saved = {name.removeprefix("model."): value for name, value in best["state_dict"].items()}
    assert_equal(watcher.validated[best["epoch"]], saved)
    assert not torch.equal(saved["0.weight"], watcher.epochs[best["epoch"]]["0.weight"])


@pytest.mark.filterwarnings("ignore:Checkpoint directory")  # it is the one that we resume from
@pytest.mark.parametrize("kind", ["swa", "ema"])
@pytest.mark.parametrize("epochs", [2, 4], ids=["before the start", "after it"])
def test_resuming_equals_never_having_stopped(kind: str, epochs: int, tmp_path: Path) -> None:
    config = AveragingConfig(kind=kind, start=0.5, decay=0.9)
    _, whole, whole_average = fit(tmp_path / "whole", config)
    fit(tmp_path / "part", config, epochs=epochs)
    _, rest, average = fit(tmp_path / "part", config, resume=str(tmp_path / "part/every.ckpt"))
    assert average.num_averaged == whole_average.num_averaged
    for one, other in zip(whole.steps[epochs * BATCHES :], rest.steps, strict=True):
        assert_equal(one, other)
    for one, other in zip(whole.validated[epochs:], rest.validated, strict=True):
        assert_equal(one, other)


def test_stopping_judges_trained_weights_long_before_averaging_begins(tmp_path: Path) -> None:
    """Early stopping on an untrained copy would end this at epoch 5."""
    config = AveragingConfig(kind="swa", start=0.75)
    stop = EarlyStopping("val_loss", patience=4)
    _, watcher, average = fit(tmp_path, config, epochs=20, total_epochs=20, more=[stop])
    assert len(watcher.validated) > 9
    untrained, best = watcher.steps[0], torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert loss_of(best["state_dict"]) < 0.2 * loss_of(
        {f"model.{k}": v for k, v in untrained.items()}
    )
    assert average.num_averaged == max(0, len(watcher.validated) - 15)
