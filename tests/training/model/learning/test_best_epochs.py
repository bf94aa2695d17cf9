"""The mean of the best epochs: which they are, their mean, and going on after a stop."""

from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from storage.errors import ConfigError
from tests.training.model.learning.test_averaging import Regression, Watcher, data, inputs
from training.config import TrainerConfig, TrainingConfig
from training.model.learning.averaging import AveragingConfig, BestEpochs
from training.trainer import quiet_lightning

BEST = AveragingConfig(kind="best", best_k=3)
SCORES = [5.0, 3.0, 4.0, 3.0, float("nan"), 2.0, 9.0]


class Judged(Regression):
    """Logs the scores of SCORES instead of its own."""

    def validation_step(self, batch, _):
        self.log("val_kl", torch.tensor(SCORES[self.current_epoch]))


def fit(folder: Path, *, epochs: int = len(SCORES), resume: str | None = None, kind: type = Judged):
    """The module, its epochs as they were, and the callback, after training."""
    watcher, best = Watcher(), BestEpochs(BEST, monitor="val_kl", batches=inputs)
    callbacks = [
        best,
        watcher,
        ModelCheckpoint(folder, "every", every_n_epochs=1, enable_version_counter=False),
    ]
    module = kind()
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
    return module, watcher, best


def mean_of(epochs):
    """By numpy, of what was validated."""
    return {name: np.mean([one[name].numpy() for one in epochs], axis=0) for name in epochs[0]}


def test_the_best_epochs_are_kept_and_of_equal_ones_the_first(tmp_path):
    _, watcher, best = fit(tmp_path)
    assert best.scores == {1: 3.0, 3: 3.0, 5: 2.0}
    expected = mean_of([watcher.validated[epoch] for epoch in best.scores])
    for name, value in best.mean().items():
        if value.is_floating_point():
            np.testing.assert_allclose(value, expected[name], rtol=1e-6, atol=1e-7)
        else:
            assert torch.equal(value, watcher.validated[5][name])


class Taught(Judged):
    """Learns a teacher alone in its first four epochs."""

    @property
    def learns_labels(self):
        return self.current_epoch >= 4


def test_epochs_that_learn_a_teacher_alone_are_none_of_them(tmp_path):
    _, _, best = fit(tmp_path, kind=Taught)
    assert best.scores == {5: 2.0, 6: 9.0}


@pytest.mark.filterwarnings("ignore:Checkpoint directory")  # it is the one that we resume from
@pytest.mark.parametrize("epochs", [2, 5])
def test_resuming_keeps_the_same_epochs(epochs, tmp_path):
    _, _, whole = fit(tmp_path / "whole")
    fit(tmp_path / "part", epochs=epochs)
    _, _, rest = fit(tmp_path / "part", resume=str(tmp_path / "part/every.ckpt"))
    assert rest.scores == whole.scores
    for name, value in whole.mean().items():
        assert torch.equal(rest.mean()[name], value)


def checkpoint_of(folder, module):
    path = folder / "best.ckpt"
    torch.save({"state_dict": module.state_dict(), "epoch": 5}, path)
    return path


def test_the_mean_and_statistics_of_its_own_replace_the_best_weights(tmp_path):
    module, _, best = fit(tmp_path)
    path, mean = checkpoint_of(tmp_path, module), best.mean()
    best.finish(module, path, torch.device("cpu"))
    written = path.read_bytes()
    found = torch.load(path, weights_only=True)
    assert found["epoch"] == 5
    state = found["state_dict"]
    for name in ("0.weight", "0.bias", "1.weight", "2.weight"):
        assert torch.equal(state[f"model.{name}"], mean[name])
    hidden = torch.cat(inputs()) @ mean["0.weight"].T + mean["0.bias"]
    torch.testing.assert_close(state["model.1.running_mean"], hidden.mean(0), rtol=1e-4, atol=1e-5)
    best.finish(module, path, torch.device("cpu"))
    assert path.read_bytes() == written


def test_one_epoch_is_its_own_mean(tmp_path):
    module, _, best = fit(tmp_path, epochs=1)
    path = checkpoint_of(tmp_path, module)
    before = path.read_bytes()
    best.finish(module, path, torch.device("cpu"))
    assert path.read_bytes() == before


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match=r"averaging\.best_k=0 must be at least 1"):
        AveragingConfig(kind="best", best_k=0)
    with pytest.raises(ConfigError, match=r"best keeps the mean of the best epochs.*keep=last"):
        TrainingConfig(averaging=BEST, trainer=TrainerConfig(keep="last"))
