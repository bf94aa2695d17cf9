"""Draw what the augmentations of a config do to slices of the store.

    python -m tools.show_augment store=data/store --png augment.png
    python -m tools.show_augment store=data/store --each --num 4 --png docs/augmentations.png
    python -m tools.show_augment --config configs/birdclef2025.yaml --epoch 3 augment.mixup.p=1
    python -m tools.show_augment store=data/store --folder docs/augmentations --num 3

Takes the same keys as tools.train, and the very samples that its epoch begins with: each as stored,
and as training sees it. `--each` draws one row per augmentation instead, at probability 1 and with
the config's other values, whether the config uses it or not; `background` where there is a source,
`images` where they are given, as they are. `--folder` makes a small sheet for each of these. A
title has the label, or the labels and their shares.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from datasets.augment.host_images import ImageTransforms
from datasets.augment.pipeline import AUGMENTATIONS, Augment, AugmentConfig
from datasets.batch import Batch
from datasets.loading.rank_share import WRAP
from datasets.slice_source import SliceSource
from datasets.sources.background import BackgroundPlan
from storage.encoding import to_unit
from storage.errors import ConfigError
from storage.recipe import Recipe
from tools.cli.command import Arguments, Command, run
from tools.cli.contact_sheet import MAX_PANELS, write_contact_sheet
from tools.cli.output_files import check_output, make_folder, output_file
from tools.cli.training_inputs import TrainSections, check_epoch, open_background, open_training
from training.split import fold_data, split_recordings

COMMAND = Command(
    doc=__doc__,
    sections=TrainSections,
    flags=(
        ("--png", {"metavar": "FILE", "default": "augment.png", "help": "(default: %(default)s)"}),
        ("--num", {"type": int, "default": 6, "help": "slices to draw (default: %(default)s)"}),
        ("--epoch", {"type": int, "default": 0, "help": "which epoch (default: %(default)s)"}),
        ("--each", {"action": "store_true", "help": "one row per augmentation"}),
        ("--folder", {"metavar": "FOLDER", "help": "one sheet per augmentation, FOLDER/NAME.png"}),
    ),
)
AS_STORED = "as stored"
SMALL = 0.7  # of the width and height of a sheet: those in a folder are for documents
SMALL_COLOURS = 64


Look = tuple[Tensor, list[str]]  # the batch as one row shows it: slices [B, M, T], and B titles


def main(config: TrainSections, arguments: Arguments) -> None:
    """Writes the sheet, or those of a folder."""
    check_epoch(arguments.epoch)
    if arguments.num < 1:
        raise ConfigError(f"--num {arguments.num} must be at least 1")
    if arguments.folder:
        make_folder("--folder", Path(arguments.folder))
    else:
        check_output("--png", arguments.png)
    wanted = _wanted(config, arguments.each or bool(arguments.folder))
    num_rows = 2 if arguments.folder else len(wanted)
    if arguments.num > MAX_PANELS // num_rows:
        raise ConfigError(
            f"--num {arguments.num} slices in {num_rows} rows: a sheet has 1 to {MAX_PANELS} "
            f"panels, so give --num 1 to {MAX_PANELS // num_rows}"
        )
    source = open_training(config)
    recipe = source.recipe
    batch, labels = _first_batch(source, config, arguments)
    looks = {
        name: _look(batch, labels, augment, recipe, config.seed) for name, augment in wanted.items()
    }
    if not arguments.folder:
        _write(looks, recipe, Path(arguments.png))
        print(f"--png: {arguments.png}")
        return
    stored = looks.pop(AS_STORED)
    for name, look in looks.items():
        path = Path(arguments.folder) / f"{name}.png"
        _write({AS_STORED: stored, name: look}, recipe, path)
        _shrink(path)
        print(path)


def _first_batch(
    source: SliceSource, config: TrainSections, arguments: Arguments
) -> tuple[Batch, list[str]]:
    """The samples that the epoch of the first fold begins with, as stored, and their labels."""
    split = split_recordings(source, config)
    noise, background = open_background(config), None
    if noise is not None:
        background = BackgroundPlan(noise, seed=config.seed, where=config.background.where)
    data = fold_data(source, split, split.train_folds[0], config, background)
    loader = replace(
        config.train_loader, batch_size=arguments.num, prefetch_batches=0, remainder=WRAP
    )
    reader = replace(data, train_loader=loader, transform=None).train_reader(accumulation=1)
    reader.set_epoch(arguments.epoch)
    for batch in reader:
        reader.close()
        labels = split.recordings["primary_label"].gather(batch.recording_no.numpy())
        return batch, labels.fill_null("no label").to_list()
    raise ConfigError("the epoch holds no sample")


def _wanted(config: TrainSections, each: bool) -> dict[str, AugmentConfig]:
    """Rows of the drawing: a name and the augmentations of each."""
    augment, wanted = config.augment, {AS_STORED: AugmentConfig()}
    if not each:
        return {**wanted, "augmented": augment}
    if augment.images:
        wanted["images"] = AugmentConfig(images=augment.images)
    for name in AUGMENTATIONS:
        if name != "background" or config.background.given:
            alone = replace(getattr(augment, name), p=1.0)
            wanted[name] = replace(AugmentConfig(), **{name: alone})
    return wanted


def _look(batch: Batch, labels: list[str], look: AugmentConfig, recipe: Recipe, seed: int) -> Look:
    """The batch as the augmentations of `look` leave it."""
    slices = batch.slices.clone()
    if look.images:
        transform = ImageTransforms(look.images, seed=seed, slice_shape=recipe.slice_shape)
        transform(slices.numpy(), epoch=int(batch.epoch), position=batch.position.numpy())
    names = sorted(set(labels))
    targets_BC = functional.one_hot(torch.tensor([names.index(one) for one in labels])).float()
    background = None if batch.background is None else to_unit(batch.background)
    augment = Augment(look, seed=seed, top_db=recipe.top_db)
    mel_BMT, targets_BC = augment(
        to_unit(slices), targets_BC, batch.epoch, batch.position, background
    )
    return mel_BMT, [_shares(line, names) for line in targets_BC]


def _shares(target_C: Tensor, names: Sequence[str]) -> str:
    """The label, or all of them with their shares, the largest first."""
    order: list[int] = target_C.argsort(descending=True).tolist()
    order = [place for place in order if target_C[place] > 0]
    if len(order) == 1:
        return names[order[0]]
    return ", ".join(f"{names[place]} {target_C[place]:.0%}" for place in order)


def _write(looks: Mapping[str, Look], recipe: Recipe, path: Path) -> None:
    slices = torch.cat([slices for slices, _ in looks.values()])
    titles = [f"{title}\n{name}" for name, (_, titles) in looks.items() for title in titles]
    columns = len(slices) // len(looks)
    with output_file(path) as file:
        write_contact_sheet(slices.numpy(), recipe, titles, file, columns=columns)


def _shrink(path: Path) -> None:
    """Makes a picture a quarter as large on disk."""
    with Image.open(path) as image:
        size = (round(image.width * SMALL), round(image.height * SMALL))
        small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    # dithered, it would be no smaller
    small.quantize(SMALL_COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
