"""Sheets of the samples that an epoch begins with, as stored and as training sees them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from datasets.augment.host_images import ImageTransforms
from datasets.augment.inject import prepare
from datasets.augment.pipeline import Augment, AugmentConfig
from datasets.batch import Batch
from datasets.injection import InjectSpec
from datasets.labels import Labels
from datasets.loading.rank_share import WRAP
from datasets.loading.wanted import join_cells
from datasets.sources.background import BackgroundPlan
from storage.errors import ConfigError
from storage.output_files import output_file
from storage.recipe import Recipe
from tools.cli.sheets.contact_sheet import write_contact_sheet
from tools.cli.training_inputs import TrainSections, open_background, open_training
from training.split import fold_data, split_recordings

SMALL = 0.7  # of the width and height of a sheet: those in a folder are for documents
SMALL_COLOURS = 64

Look = tuple[Tensor, list[str]]  # the batch as one row shows it: slices [B, M, T], and B titles


def first_batch(config: TrainSections, num: int, epoch: int) -> tuple[Recipe, Batch, list[str]]:
    """The samples that the epoch of the first fold begins with, and the names of their targets.

    The recipe has the length of a sample, which may be a chunk of several slices.
    """
    source = open_training(config)
    split = split_recordings(source, config)
    noise, background = open_background(config), None
    if noise is not None:
        background = BackgroundPlan(noise, seed=config.seed, where=config.background.where)
    data = fold_data(source, split, split.train_folds[0], config, background)
    loader = replace(config.train_loader, batch_size=num, prefetch_batches=0, remainder=WRAP)
    reader = replace(data, train_loader=loader, transform=None).train_reader(accumulation=1)
    reader.set_epoch(epoch)
    for batch in reader:
        reader.close()
        labels = split.recordings["primary_label"].gather(batch.recording_no.numpy())
        shown = replace(source.recipe, slice_s=source.recipe.slice_s * data.chunks.count)
        return shown, *_with_labels(batch, labels.fill_null("no label").to_list(), split.labels)
    raise ConfigError("the epoch holds no sample")


def _with_labels(batch: Batch, own: list[str], labels: Labels) -> tuple[Batch, list[str]]:
    """The batch with the label of each sample as its target, and the names of the targets."""
    given = batch.partner_targets
    names = sorted({*own, *(() if given is None else labels.names)})
    targets_BC = functional.one_hot(torch.tensor([names.index(one) for one in own]), len(names))
    if given is not None:
        partner_BC = torch.zeros(len(own), len(names))
        partner_BC[:, [names.index(name) for name in labels.names]] = given
        batch = batch._replace(partner_targets=partner_BC)
    return batch._replace(targets=targets_BC.float()), names


def look_of(
    batch: Batch,
    names: list[str],
    look: AugmentConfig,
    recipe: Recipe,
    seed: int,
    inject: Sequence[InjectSpec] = (),
) -> Look:
    """The batch as the augmentations of `look` and the partners of `inject` leave it."""
    slices, levels = batch.slices.clone(), batch.levels
    if look.images:
        if levels is not None:
            levels = join_cells(slices, levels, recipe.top_db)
        shape = (slices.shape[1], slices.shape[2])
        transform = ImageTransforms(look.images, seed=seed, slice_shape=shape)
        transform(slices.numpy(), epoch=int(batch.epoch), position=batch.position.numpy())
    batch = batch._replace(slices=slices, levels=levels)
    samples = prepare(batch, recipe.top_db, inject)
    mel_BMT, targets_BC = Augment(look, seed=seed, top_db=recipe.top_db)(
        samples.mel_BMT,
        samples.targets_BC,
        batch.epoch,
        batch.position,
        samples.background_BMT,
        samples.level_B,
    )
    return mel_BMT, [_shares(line, names) for line in targets_BC]


def _shares(target_C: Tensor, names: Sequence[str]) -> str:
    """The label, or all of them with their shares, the largest first."""
    order: list[int] = target_C.argsort(descending=True).tolist()
    order = [place for place in order if target_C[place] > 0]
    if len(order) == 1:
        return names[order[0]]
    return ", ".join(f"{names[place]} {target_C[place]:.0%}" for place in order)


def draw_sheet(looks: Mapping[str, Look], recipe: Recipe, path: Path) -> None:
    """Writes a sheet with one row per look."""
    slices = torch.cat([slices for slices, _ in looks.values()])
    titles = [f"{title}\n{name}" for name, (_, titles) in looks.items() for title in titles]
    columns = len(slices) // len(looks)
    with output_file(path) as file:
        write_contact_sheet(slices.numpy(), recipe, titles, file, columns=columns)


def draw_folder(looks: Mapping[str, Look], recipe: Recipe, folder: Path) -> Iterator[Path]:
    """Writes a small sheet of two rows for each look but the first, and yields its path."""
    (as_stored, stored), *others = looks.items()
    for name, look in others:
        path = folder / f"{name}.png"
        draw_sheet({as_stored: stored, name: look}, recipe, path)
        _shrink(path)
        yield path


def _shrink(path: Path) -> None:
    """Makes a picture a quarter as large on disk."""
    with Image.open(path) as image:
        size = (round(image.width * SMALL), round(image.height * SMALL))
        small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    # dithered, it would be no smaller
    small.quantize(SMALL_COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
