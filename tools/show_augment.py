"""Draw what the augmentations of a config do to slices of the store.

    python -m tools.show_augment store=data/store --png augment.png
    python -m tools.show_augment store=data/store --each --num 4 --png docs/augmentations.png
    python -m tools.show_augment --config configs/birdclef2025.yaml --epoch 3 augment.mixup.p=1
    python -m tools.show_augment store=data/store --folder docs/augmentations --num 3

Takes the same keys as tools.train, and the very samples that its epoch begins with: each as stored,
and as training sees it. `--each` draws one row per augmentation instead, at probability 1 and with
the config's other values, whether the config uses it or not; `background` where there is a source,
`images` and `inject` where they are given, as they are. `--folder` makes a small sheet for each of
these. A title has the label, or the labels and their shares.
"""

import sys
from dataclasses import replace
from pathlib import Path

from datasets.augment.pipeline import AUGMENTATIONS, AugmentConfig
from storage.errors import ConfigError
from tools.cli.command import Arguments, Command, importing, run
from tools.cli.output_files import MAX_PANELS, check_output, make_folder
from tools.cli.training_inputs import TrainSections, check_epoch

COMMAND = Command(
    doc=__doc__,
    sections=TrainSections,
    flags=(
        ("--png", {"metavar": "FILE", "default": "augment.png", "help": "(default: %(default)s)"}),
        ("--num", {"type": int, "help": "slices to draw (default: 6, or as many as fit)"}),
        ("--epoch", {"type": int, "default": 0, "help": "which epoch (default: %(default)s)"}),
        ("--each", {"action": "store_true", "help": "one row per augmentation"}),
        ("--folder", {"metavar": "FOLDER", "help": "one sheet per augmentation, FOLDER/NAME.png"}),
    ),
)
AS_STORED, AUGMENTED, INJECT = "as stored", "augmented", "inject"
NUM_SLICES = 6


def main(config: TrainSections, arguments: Arguments) -> None:
    """Writes the sheet, or those of a folder."""
    check_epoch(arguments.epoch)
    wanted = _wanted(config, arguments.each or bool(arguments.folder))
    num = _num_slices(arguments.num, 2 if arguments.folder else len(wanted))
    if arguments.folder:
        make_folder("--folder", Path(arguments.folder))
    else:
        check_output("--png", arguments.png)
    with importing("drawing"):
        from tools.cli.sheets.augment_sheet import draw_folder, draw_sheet, first_batch, look_of
    recipe, batch, names = first_batch(config, num, arguments.epoch)
    injected = dict.fromkeys((AUGMENTED, INJECT), config.sampling.inject)
    looks = {
        name: look_of(batch, names, augment, recipe, config.seed, injected.get(name, ()))
        for name, augment in wanted.items()
    }
    if arguments.folder:
        for path in draw_folder(looks, recipe, Path(arguments.folder)):
            print(path)
        return
    draw_sheet(looks, recipe, Path(arguments.png))
    print(f"--png: {arguments.png}")


def _num_slices(asked: int | None, num_rows: int) -> int:
    """Slices to draw; raises ConfigError where a sheet of so many rows cannot have as many."""
    most = MAX_PANELS // num_rows
    if asked is None:
        return min(NUM_SLICES, most)
    if asked < 1:
        raise ConfigError(f"--num {asked} must be at least 1")
    if asked > most:
        raise ConfigError(
            f"--num {asked} slices in {num_rows} rows: a sheet has 1 to {MAX_PANELS} panels, so "
            f"give --num 1 to {most}"
        )
    return asked


def _wanted(config: TrainSections, each: bool) -> dict[str, AugmentConfig]:
    """Rows of the drawing: a name and the augmentations of each."""
    augment, wanted = config.augment, {AS_STORED: AugmentConfig()}
    if not each:
        return {**wanted, AUGMENTED: augment}
    if config.sampling.inject:
        wanted[INJECT] = AugmentConfig()
    if augment.images:
        wanted["images"] = AugmentConfig(images=augment.images)
    for name in AUGMENTATIONS:
        if name != "background" or config.background.given:
            alone = replace(getattr(augment, name), p=1.0)
            wanted[name] = replace(AugmentConfig(), **{name: alone})
    return wanted


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
