"""Draw what the augmentations of a config do to slices of the store.

    python -m tools.show_augment store=data/store --png augment.png
    python -m tools.show_augment store=data/store --each --num 4 --png docs/augmentations.png
    python -m tools.show_augment --config configs/birdclef2025.yaml --epoch 3 augment.mixup.p=1

Takes the same keys as tools.train, and the very samples that its epoch begins with: each as stored,
and as training sees it. `--each` draws one row per augmentation instead, at probability 1 and with
the config's other values, whether the config uses it or not; `background` where there is a source.
"""

import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import torch
from torch import Tensor

from datasets.augment import Augment, AugmentConfig
from datasets.background import BackgroundPlan
from datasets.batch import Batch
from datasets.rank_share import WRAP
from storage.errors import ConfigError
from tools.command import Arguments, Command, run
from tools.contact_sheet import MAX_PANELS, write_contact_sheet
from tools.train import Sections, open_background, open_training
from training.module import to_unit
from training.split import fold_data, split_recordings

COMMAND = Command(
    doc=__doc__,
    sections=Sections,
    flags=(
        ("--png", {"metavar": "FILE", "default": "augment.png", "help": "(default: %(default)s)"}),
        ("--num", {"type": int, "default": 6, "help": "slices to draw (default: %(default)s)"}),
        ("--epoch", {"type": int, "default": 0, "help": "which epoch (default: %(default)s)"}),
        ("--each", {"action": "store_true", "help": "one row per augmentation"}),
    ),
)
AS_STORED = "as stored"


def main(config: Sections, arguments: Arguments) -> None:
    """Writes the sheet."""
    source = open_training(config)
    split = split_recordings(source, config)
    batch = _first_batch(config, arguments)
    looks = dict(_looks(config.augment, arguments.each, behind=batch.background is not None))
    if not 1 <= arguments.num <= MAX_PANELS // len(looks):
        raise ConfigError(
            f"--num {arguments.num} slices in {len(looks)} rows: a sheet has 1 to {MAX_PANELS} "
            f"panels, so give --num 1 to {MAX_PANELS // len(looks)}"
        )
    rows = [
        _augmented(batch, Augment(look, seed=config.seed, top_db=source.recipe.top_db))
        for look in looks.values()
    ]
    labels = split.recordings["primary_label"].gather(batch.recording_no.numpy()).to_list()
    titles = [f"{label}\n{look}" for look in looks for label in labels]
    write_contact_sheet(
        torch.cat(rows).numpy(),
        source.recipe,
        titles,
        Path(arguments.png),
        columns=arguments.num,
    )
    print(f"--png: {arguments.png}")


def _first_batch(config: Sections, arguments: Arguments) -> Batch:
    """The samples that the epoch of the first fold begins with."""
    source = open_training(config)
    split = split_recordings(source, config)
    data = fold_data(source, split, split.train_folds[0], config)
    behind = open_background(config)
    if behind is not None:
        plan = BackgroundPlan(behind, seed=config.seed, where=config.background.where)
        data = replace(data, background=plan)
    data = replace(
        data,
        train_loader=replace(
            config.train_loader, batch_size=arguments.num, prefetch_batches=0, remainder=WRAP
        ),
    )
    reader = data.train_reader(accumulation=1)
    reader.set_epoch(arguments.epoch)
    for batch in reader:
        reader.close()
        return batch
    raise ConfigError("the epoch holds no sample")


def _looks(
    config: AugmentConfig, each: bool, *, behind: bool
) -> Iterator[tuple[str, AugmentConfig]]:
    """What is drawn, row by row: a name and the augmentations."""
    yield AS_STORED, AugmentConfig()
    if not each:
        yield "augmented", config
        return
    for entry in fields(config):
        if entry.name != "background" or behind:
            alone = replace(getattr(config, entry.name), p=1.0)
            yield entry.name, replace(AugmentConfig(), **{entry.name: alone})


def _augmented(batch: Batch, augment: Augment) -> Tensor:
    targets = torch.ones(len(batch.slices), 1)
    background = None if batch.background is None else to_unit(batch.background)
    mel_BMT, _ = augment(to_unit(batch.slices), targets, batch.epoch, batch.position, background)
    return mel_BMT


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
