"""One Lightning trainer per fold: epochs, accumulation, early stopping, the best weights."""

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.strategies import DDPStrategy

from storage.errors import ConfigError, StoreError
from training.config import BEST, TrainerConfig
from training.model.torch_files import read_torch
from training.runtime import auto
from training.runtime.auto import Choice
from training.runtime.files import write_whole
from training.runtime.launch import Launch

RESUME = "resume"
EPOCH_END = f"{RESUME}_epoch"
MONITOR = "val_kl"

NOISE = (
    # torch 2.15 deprecates a class that Lightning 2.6 uses at each start; nothing for us to change
    (r"Checkpoint directory .* exists and is not empty", UserWarning),  # resuming
    (r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning),
)


class PlainCheckpoints(TorchCheckpointIO):
    """Lets Lightning write checkpoints whole, and read them as we do: plain values, sizes checked.

    Its own way passes through TMPDIR, and leaves half a file where the disk is full. `num_saved`
    counts those that this rank has written.
    """

    num_saved = 0

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, *_: Any, **__: Any) -> None:
        """Writes a checkpoint; raises StoreError where the disk refuses, and keeps the older."""
        data = io.BytesIO()
        torch.save(checkpoint, data)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(Path(path), data.getvalue())
        self.num_saved += 1

    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        """The contents of a checkpoint; raises StoreError on what is none."""
        contents = read_torch(path)
        if not isinstance(contents, dict):
            raise StoreError(f"{path} is no checkpoint of a training")
        return contents


class Publishing(Callback):
    """Publishes new checkpoints before the next batch; their writers are done by then."""

    def __init__(self, publish: Callable[[], None]) -> None:
        self._publish = publish
        self._num_published = 0

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Publishes what the callbacks of the batch or epoch before have written."""
        files = trainer.strategy.checkpoint_io
        if isinstance(files, PlainCheckpoints) and files.num_saved > self._num_published:
            self._num_published = files.num_saved
            self._publish()


class KeptFile(ModelCheckpoint):
    """Writes one file of its folder, and finds it again where the folder has moved.

    Lightning forgets the best score when a checkpoint names another folder, so a later, worse epoch
    would count as the best.
    """

    @property
    def state_key(self) -> str:
        """Key in checkpoints; the same as of the class that wrote those of earlier versions."""
        return super().state_key.replace(type(self).__name__, ModelCheckpoint.__name__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from `state_dict`; its file is the one in this folder, whatever it says."""
        file = str(Path(str(self.dirpath)) / f"{self.filename}{self.FILE_EXTENSION}")
        here: dict[str, Any] = {
            name: file if state_dict.get(name) else ""
            for name in ("best_model_path", "kth_best_model_path", "last_model_path")
        }
        scores = list(state_dict["best_k_models"].values())
        here["best_k_models"] = dict(zip([file], scores, strict=False))  # one file: one at most
        super().load_state_dict({**state_dict, **here, "dirpath": self.dirpath})


class StepFile(KeptFile):
    """Writes a file within epochs; the state at an epoch's last step is written after its end.

    Lightning, resumed from that step, would go on without the validation of the epoch, which
    chooses the best weights and averages them.
    """

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any, **named: Any) -> None:
        """Lets Lightning write unless the epoch is over."""
        if trainer.is_last_batch:
            self._last_global_step_saved = trainer.global_step  # nor within the next step
        else:
            super().on_train_batch_end(trainer, *arguments, **named)


class SomeValidations(Callback):
    """Validates every n-th epoch and the last one."""

    def __init__(self, every: int) -> None:
        self._every = every

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Decides whether this epoch is one of them; a resumed one may be the last."""
        self.on_train_epoch_start(trainer, module)

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """The same, at the start of each further epoch."""
        is_last = trainer.current_epoch + 1 == trainer.max_epochs
        trainer.check_val_every_n_epoch = 1 if is_last else self._every


class LabelEpochs(Callback):
    """Passes over epochs that have learned a teacher alone: their scores say nothing."""

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Lets the callback act on the scores of an epoch with labels."""
        if _learns_labels(module):
            super().on_validation_end(trainer, module)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """The same, where Lightning looks at the end of an epoch."""
        if _learns_labels(module):
            super().on_train_epoch_end(trainer, module)


class BestFile(LabelEpochs, KeptFile):
    """Keeps weights by the scores of epochs that have learned labels."""


class LabelStopping(LabelEpochs, EarlyStopping):
    """Stops early by the scores of epochs that have learned labels."""

    @property
    def state_key(self) -> str:
        """Key in checkpoints; the same as of the class that wrote those of earlier versions."""
        return super().state_key.replace(type(self).__name__, EarlyStopping.__name__, 1)


def _learns_labels(module: pl.LightningModule) -> bool:
    """False in epochs of a `SliceModule` that learn a teacher alone."""
    return bool(getattr(module, "learns_labels", True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Resolved `auto` values."""

    accelerator: Choice
    strategy: Choice
    precision: Choice
    compile: Choice
    logger: Choice
    threads: Choice

    def lines(self) -> list[str]:
        """One line per choice, with its reason."""
        choices = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return [f"{name}: {value} ({reason})" for name, (value, reason) in choices.items()]


def on_ranks(config: TrainerConfig, launch: Launch | None) -> TrainerConfig:
    """The config with the devices and nodes that a launcher has started.

    Raises ConfigError where the config names others, or several nodes and there is no launcher.
    """
    if launch is None:
        if config.num_nodes > 1:
            raise ConfigError(
                f"trainer.num_nodes={config.num_nodes} needs torchrun or srun, which start the "
                "ranks of each node: see docs/scaling.md, or leave the key out"
            )
        return config
    found = {"devices": launch.ranks_per_node, "num_nodes": launch.num_nodes}
    for name, number in found.items():
        asked = getattr(config, name)
        if asked not in (1, number):
            raise ConfigError(
                f"trainer.{name}={asked}, but {launch.launcher} has started {launch.num_ranks} "
                f"ranks on {launch.num_nodes} nodes: leave the key out, or start as many"
            )
    return replace(config, devices=launch.ranks_per_node, num_nodes=launch.num_nodes)


def choose_machine(config: TrainerConfig, num_frames: int) -> Machine:
    """Settles the `auto` values of a config; raises ConfigError on what is not available.

    `num_frames`: see `choose_precision`.
    """
    accelerator = auto.choose_accelerator(config.accelerator)
    return Machine(
        accelerator=accelerator,
        strategy=auto.choose_strategy(
            config.strategy, accelerator.value, config.devices, config.num_nodes
        ),
        precision=auto.choose_precision(config.precision, accelerator.value, num_frames),
        compile=auto.choose_compile(config.compile, accelerator.value),
        logger=auto.choose_logger(config.logger),
        threads=auto.choose_threads(
            config.threads, num_ranks=config.devices, num_folds=config.folds_at_once
        ),
    )


def build_trainer(
    config: TrainerConfig,
    machine: Machine,
    *,
    batches_per_step: int,
    weights_folder: Path,
    loggers: list[Logger],
    callbacks: list[Callback],
    cluster: ClusterEnvironment | None = None,
) -> pl.Trainer:
    """A trainer that keeps the weights of one epoch as `best.ckpt` in `weights_folder`.

    The best one, or the last: choosing by the held-out fold flatters its scores a little.

    Next to it is what resuming takes, of the last epoch and of the last `checkpoint_steps`.
    `cluster` describes ranks that a launcher has started.
    """
    return pl.Trainer(
        accelerator=machine.accelerator.value,
        devices=config.devices,
        num_nodes=config.num_nodes,
        strategy=_strategy(machine.strategy.value, config.timeout_s),
        use_distributed_sampler=False,  # each rank's reader has its share
        precision=machine.precision.value,  # type: ignore[arg-type]  # checked: one of Lightning's
        max_epochs=config.epochs,
        accumulate_grad_batches=batches_per_step,
        gradient_clip_val=config.gradient_clip or None,
        detect_anomaly=config.detect_anomaly,
        logger=loggers,
        plugins=[PlainCheckpoints(), *([] if cluster is None else [cluster])],
        callbacks=[*callbacks, *_keep_and_stop(config, weights_folder)],
        check_val_every_n_epoch=config.validate_every,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=weights_folder,
    )


def _strategy(name: str, timeout_s: float) -> str | DDPStrategy:
    """Lightning's strategy of a name, with ranks that wait for each other no longer than that."""
    if name == "auto":
        return name
    timeout = timedelta(seconds=timeout_s)
    return DDPStrategy(timeout=timeout, find_unused_parameters=name == auto.DDP_UNUSED)


def _keep_and_stop(config: TrainerConfig, weights_folder: Path) -> Iterator[Callback]:
    """Callbacks that keep the best weights, save the state to resume from, and stop early."""
    every_epoch = config.validate_every == 1
    if not every_epoch:
        yield SomeValidations(config.validate_every)
    yield BestFile(
        weights_folder,
        BEST,
        enable_version_counter=False,
        save_on_train_epoch_end=every_epoch,
        monitor=MONITOR if config.keep == BEST else None,
        mode="min" if config.keep == BEST else "max",  # Lightning distinguishes callbacks by it
        save_weights_only=True,
    )
    yield KeptFile(
        weights_folder,
        EPOCH_END,
        enable_version_counter=False,
        every_n_epochs=1,
        save_on_train_epoch_end=True,
    )
    if config.checkpoint_steps:
        yield StepFile(
            weights_folder,
            f"{RESUME}_step",
            enable_version_counter=False,
            every_n_train_steps=config.checkpoint_steps,
        )
    if config.patience:
        yield LabelStopping(MONITOR, mode="min", patience=config.patience)


def build_loggers(machine: Machine, *, folder: Path, experiment: str, fold: int) -> list[Logger]:
    """A csv file of every step in `folder/fold_K`, and W&B where it is chosen."""
    loggers: list[Logger] = [CSVLogger(folder, name="", version=f"fold_{fold}")]
    if machine.logger.value == "wandb":
        loggers.append(
            WandbLogger(
                name=f"{experiment}-fold_{fold}",
                group=experiment,
                project="melbank",
                save_dir=folder,
                offline=not auto.has_wandb_key(),
            )
        )
    return loggers


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silences what Lightning says at every start, and the warnings of NOISE; no others."""
    names = ("pytorch_lightning", "lightning.pytorch", "lightning_fabric")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)  # hardware lists and tips come at INFO
        with warnings.catch_warnings():
            for message, category in NOISE:
                warnings.filterwarnings("ignore", message, category)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
