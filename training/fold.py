"""Trains one fold and predicts its held-out slices with the weights of its best epoch."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger, WandbLogger
from torch import Tensor

from datasets.augment.inject import joined
from datasets.labels import taxonomy_names
from datasets.loading.quarantine import BadSlice, write_report
from storage.errors import ConfigError
from storage.objects.client import RemoteConfig
from training.config import BEST, TrainingConfig, accumulation
from training.data_module import FoldDataModule
from training.experiments.experiment import Experiment, advise
from training.experiments.places import local_experiments
from training.experiments.report import FoldResult
from training.fold_data import FoldData
from training.model.checkpoints import TrainedClassifier, checkpoint_contents, read_checkpoint
from training.model.config import BEST as BEST_EPOCHS
from training.model.config import NONE, ModelConfig
from training.model.groups import Groups, build_groups, num_groups
from training.model.learning.averaging import BestEpochs, WeightAverage
from training.model.learning.distillation import Distillation
from training.model.metrics import METRICS
from training.model.models import Classifier, build_classifier, num_parameters
from training.model.predict import Predictions, gather_predictions, predict
from training.model.pretrained import Meaning
from training.module import SliceModule
from training.refit import Compute, refit_head
from training.resume import Begun, choose_checkpoint, restoring
from training.runtime.bar import BatchCount, FoldBar
from training.runtime.forecast import TimeForecast
from training.runtime.launch import Launch
from training.runtime.memory import release_memory
from training.runtime.ranks import (
    first_rank_logger,
    gather_lists,
    is_first_rank,
    num_ranks,
    of_first_rank,
    rank,
)
from training.runtime.signals import OwnSigterm, keyboard_interrupts
from training.runtime.watch import RankWatch
from training.split import Split
from training.trainer import (
    MONITOR,
    RESUME,
    Machine,
    Publishing,
    build_loggers,
    build_trainer,
    quiet_lightning,
)

logger = first_rank_logger(__name__)


LIGHTER_CONFIG = "configs/birds_small.yaml"
LIGHT_BACKBONES, LIGHT_CELLS = ("resnet10t", "test_resnet"), 4  # cells that a view makes one of
BAR_SCORES = {f"val_{key}": metric.bar for key, metric in METRICS.items() if metric.bar}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldRun:
    """Settings that all folds of an experiment share; `on_batches` counts in place of a bar."""

    experiment: Experiment
    machine: Machine
    config: TrainingConfig
    split: Split
    launch: Launch | None = None
    on_batches: Callable[[int], None] | None = None
    watch: RankWatch = field(init=False)

    def __post_init__(self) -> None:
        advice = partial(advise, self.experiment)
        is_launched = self.launch is not None
        watch = RankWatch(self.config.trainer.num_ranks, advice, is_launched=is_launched)
        object.__setattr__(self, "watch", watch)


def train_fold(run: FoldRun, data: FoldData, fold: int) -> tuple[FoldResult, Predictions]:
    """Trains, writes `fold_K.ckpt`, and predicts from that file; the same on all ranks.

    Slices that could not be read are listed in `quarantine_fold_K.parquet` next to the
    predictions. Memory of the model and its optimizer is free again on return.
    """
    start_s = time.monotonic()
    truth, model = run.split.truth, _new_model(run, data, fold)
    module = _new_module(run, data, fold, model)
    logger.info(
        f"fold {fold}: {len(data.train_recordings)} recordings to learn from, "
        f"{len(data.held_out_recordings)} held out; {_networks(run.config.model)} with "
        f"{num_parameters(model):,} parameters"
    )
    num_epochs, checkpoint, bad = _fit(run, module, data, fold)
    del model, module
    if run.config.refit.kind != NONE:
        bad += refit_head(checkpoint, data, run.config.refit, _compute(run, f"fold {fold} refit"))
        run.experiment.share(checkpoint)
    trained = read_checkpoint(checkpoint)
    predictions, held_out_bad = _predict_held_out(run, trained, data)
    _report_bad(run, fold, [*bad, *held_out_bad])
    scores = truth.score(predictions.probabilities, predictions.recording_no)
    best_epoch = trained.epoch + 1
    del trained
    result = FoldResult(
        fold=fold,
        num_recordings=len(data.held_out_recordings),
        num_slices=len(predictions.rows),
        best_epoch=best_epoch,
        num_epochs=num_epochs,
        scores=scores,
        plan_digest=data.planner()(0).digest,
        memory=release_memory(),
        duration_s=time.monotonic() - start_s,
    )
    return result, predictions


def label_groups(split: Split, config: TrainingConfig) -> tuple[Groups, ...]:
    """Groups of the classes by `labels.groups`; ConfigError where a column has none."""
    names = taxonomy_names(split.recordings) if config.labels.groups else {}
    return build_groups(config.labels.groups, split.labels.names, names)


def _networks(config: ModelConfig) -> str:
    count = len(config.views)
    return config.backbone if count == 1 else f"{count} x {config.backbone}"


def _new_module(run: FoldRun, data: FoldData, fold: int, model: Classifier) -> SliceModule:
    """The module that trains a model, and writes into checkpoints what it means."""
    recipe, labels = data.source.recipe, run.split.labels
    names, groups = taxonomy_names(run.split.recordings), label_groups(run.split, run.config)
    contents = checkpoint_contents(
        labels, recipe, asdict(run.config), fold=fold, names=names, groups=groups
    )
    return SliceModule(
        model,
        run.config,
        run.split.truth,
        top_db=recipe.top_db,
        contents=contents,
        distillation=_new_distillation(run, data, fold, model),
    )


def _new_model(run: FoldRun, data: FoldData, fold: int) -> Classifier:
    """A model with initial weights that depend on (seed, fold) and the file to begin with alone."""
    config, recipe = run.config, data.source.recipe
    with _drawing(run, fold, "weights"):
        model = build_classifier(
            _begin_with(run, fold, data.source.remote),
            num_classes=len(run.split.labels),
            slice_shape=data.chunks.shape(recipe),
            meaning=Meaning(run.split.labels.names, recipe),
            num_groups=num_groups(label_groups(run.split, config)),
        )
    if run.machine.compile.value == "on":
        model.compile_backbones(full_batch=config.val_loader.batch_size)
    return model


def _new_distillation(
    run: FoldRun, data: FoldData, fold: int, model: Classifier
) -> Distillation | None:
    """Projections to the teacher's embeddings, with initial weights by (seed, fold) alone."""
    if data.teacher is None:
        return None
    with _drawing(run, fold, "teacher"):
        return Distillation(
            run.config.teacher,
            embedding_size=model.embedding_size // len(model.views),
            width=data.teacher.width,
            num_views=len(model.views),
        )


@contextmanager
def _drawing(run: FoldRun, fold: int, purpose: str) -> Iterator[None]:
    """Initial weights made inside depend on (seed, fold, purpose) alone."""
    text = f"{run.config.seed}/{fold}/{purpose}".encode()
    with torch.random.fork_rng(devices=[]):  # weights are made on the CPU
        torch.manual_seed(int.from_bytes(blake2b(text, digest_size=7).digest()))
        yield


def _begin_with(run: FoldRun, fold: int, remote: RemoteConfig) -> ModelConfig:
    """The config of a model with the weights to begin with; none where it will be resumed."""
    model = run.config.model
    if any(_scratch(run, fold).glob(f"{RESUME}_*.ckpt")):
        return replace(model, pretrained=False, weights_file="")
    if run.config.trainer.warm_start:
        return replace(model, weights_file=str(warm_start_file(run.config, fold, remote)))
    return model


def warm_start_file(config: TrainingConfig, fold: int, remote: RemoteConfig) -> Path:
    """The weights of `trainer.warm_start` for a fold; raises ConfigError where it has none."""
    name, file = config.trainer.warm_start, f"fold_{fold}.ckpt"
    wanted = f"weights/{name}/{file}"
    folder = local_experiments(config.experiment, remote, [name], lambda path: path == wanted)
    path = folder / wanted
    if not path.is_file():
        raise ConfigError(
            f"trainer.warm_start={name}: {config.experiment.root}/{wanted} does not exist; choose "
            "among its folds by train_folds=, or give one file for all folds as model.weights_file="
        )
    return path


def _scratch(run: FoldRun, fold: int) -> Path:
    """Folder of the checkpoints of a fold that is not done."""
    return run.experiment.weights / f".fold_{fold}"


def _fit(
    run: FoldRun, module: SliceModule, data: FoldData, fold: int
) -> tuple[int, Path, list[BadSlice]]:
    """Epochs that were trained, the checkpoint of the best, and what this rank could not read.

    Continues after the last checkpoint that an interrupted run has left.
    """
    config = run.config.trainer
    batches_per_step = _accumulation(run.config)
    readers = FoldDataModule(data, accumulation=batches_per_step, num_epochs=config.epochs)
    scratch, training, callbacks = _scratch(run, fold), Begun(), [*_callbacks(run, data, fold)]
    log, name = _log_folder(run.experiment.preds / "log", fold), run.experiment.name
    loggers = build_loggers(run.machine, folder=log, experiment=name, fold=fold)
    with quiet_lightning(), keyboard_interrupts():
        trainer = build_trainer(
            config,
            run.machine,
            batches_per_step=batches_per_step,
            weights_folder=scratch,
            loggers=loggers,
            callbacks=[*callbacks, training, OwnSigterm()],
            cluster=run.launch.environment if run.launch else None,
        )
        choose = partial(choose_checkpoint, scratch, module, trainer, name=f"fold {fold}")
        chosen = of_first_rank(choose)
        resume = chosen and scratch / chosen.name  # nodes may have other folders
        run.watch.follow(trainer.strategy.launcher)
        with restoring(resume, training):
            trainer.fit(module, datamodule=readers, ckpt_path=resume, weights_only=True)
    _close(loggers)
    average_best(callbacks, trainer, module, scratch / f"{BEST}.ckpt")
    checkpoint = run.experiment.weights / f"fold_{fold}.ckpt"
    if is_first_rank():
        (scratch / f"{BEST}.ckpt").replace(checkpoint)
        shutil.rmtree(scratch)
    run.experiment.share(checkpoint)
    return trainer.current_epoch, checkpoint, readers.bad


def _accumulation(config: TrainingConfig) -> int:
    """Batches of a rank per optimizer step."""
    trainer, batch_size = config.trainer, config.train_loader.batch_size
    return accumulation(trainer.effective_batch_size, batch_size, trainer.num_ranks)


def _close(loggers: list[Logger]) -> None:
    for sink in loggers:
        if isinstance(sink, WandbLogger):
            sink.experiment.finish()  # else the next fold would write into this one's run


def average_best(
    callbacks: list[Callback], trainer: Trainer, module: SliceModule, best: Path
) -> None:
    """Puts the mean of the best epochs into the checkpoint of the best, if so configured."""
    for callback in callbacks:
        if isinstance(callback, BestEpochs):
            callback.finish(module, best, trainer.strategy.root_device)


def _log_folder(log: Path, fold: int) -> Path:
    """`log`, or `log/resumed_N` for the N-th time that a fold goes on: no log is overwritten."""
    folders = [log, *(log / f"resumed_{number}" for number in range(1, 1000))]
    return next(folder for folder in folders if not (folder / f"fold_{fold}").exists())


def _callbacks(run: FoldRun, data: FoldData, fold: int) -> Iterator[Callback]:
    """The forecast, the bar, and the averaging of weights."""
    config, folds = run.config, run.split.train_folds
    most = config.val_loader.max_slices_per_recording
    yield TimeForecast(
        fold,
        folds_left=rounds_left(folds, fold, config.trainer.folds_at_once),
        batch_size=config.train_loader.batch_size,
        slices=(
            -(-len(data.held_out_plan(most)) // config.trainer.validate_every),
            len(data.held_out_plan()),
        ),
        lighter=lighter_config(config.model, run.machine.accelerator.value),
    )
    if run.experiment.copy:
        yield Publishing(run.experiment.publish)
    if run.on_batches is not None:
        yield BatchCount(run.on_batches)
    elif config.trainer.progress and is_first_rank():
        yield FoldBar(fold, BAR_SCORES)
    batches = partial(_untransformed, data)
    if config.averaging.kind == BEST_EPOCHS:
        yield BestEpochs(config.averaging, monitor=MONITOR, batches=batches)
    elif config.averaging.kind != NONE:
        yield WeightAverage(config.averaging, total_epochs=config.trainer.epochs, batches=batches)


def rounds_left(folds: Sequence[int], fold: int, at_once: int) -> int:
    """Folds in a row from this one on, with it, where so many are trained at once."""
    return -(-len(folds) // at_once) - folds.index(fold) // at_once


def lighter_config(model: ModelConfig, accelerator: str) -> str:
    """The config for a CPU where one trains a model that is heavy for it; empty elsewhere."""
    is_light = model.backbone in LIGHT_BACKBONES and all(
        bands * frames >= LIGHT_CELLS for bands, frames in model.views
    )
    return "" if accelerator != "cpu" or is_light else LIGHTER_CONFIG


def _untransformed(data: FoldData) -> Iterator[Tensor]:
    """Yields batches of training slices as they are, the same on all ranks, for batch norm."""
    top_db = data.source.recipe.top_db
    plain = replace(data, transform=None, teacher=None)
    with closing(plain.train_reader(accumulation=1)) as reader:
        for batch in reader:
            yield joined(batch.slices, batch.levels, top_db)


def _compute(run: FoldRun, bar: str = "") -> Compute:
    shown = run.config.trainer.progress and is_first_rank() and run.on_batches is None
    return Compute(
        device=torch.device("cuda" if run.machine.accelerator.value == "gpu" else "cpu"),
        precision=run.machine.precision.value,
        bar=bar if shown else "",
    )


def _predict_held_out(
    run: FoldRun, trained: TrainedClassifier, data: FoldData
) -> tuple[Predictions, list[BadSlice]]:
    """Predictions of all held-out slices, to which each rank adds its share; what was not read."""
    compute = _compute(run)
    reader = data.val_reader(rank=rank(), world_size=num_ranks())
    share = predict(
        trained.model,
        reader,
        output=run.config.model.output,
        device=compute.device,
        precision=compute.precision,
        top_db=trained.recipe.top_db,
    )
    return gather_predictions(share), reader.bad


def _report_bad(run: FoldRun, fold: int, bad_of_rank: list[BadSlice]) -> None:
    """Lists what any rank could not read."""
    bad = sorted(set(gather_lists(bad_of_rank)), key=lambda one: (one.object, one.offset))
    if bad and is_first_rank():
        path = run.experiment.preds / f"quarantine_fold_{fold}.parquet"
        write_report(bad, path)
        logger.info(f"fold {fold}: {len(bad)} slices could not be read; they are listed in {path}")
