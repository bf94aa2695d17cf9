"""The bar of a fold keeps its figures on narrow terminals, and begins where training does."""

from types import SimpleNamespace

import pytest
from tqdm import tqdm

from training.runtime.bar import FoldBar, bar_format

FIGURES = "loss 1.2345 KL 0.123 AUC 0.987 acc 0.912"


@pytest.mark.parametrize("width", [60, 73, 74, 89, 90, 120])
def test_the_figures_fit(width: int) -> None:
    name = "fold 0 12/20" if width < 90 else "fold 0 epoch 12/20"
    text = tqdm.format_meter(
        n=100,
        total=100,
        elapsed=700,
        ncols=width,
        prefix=name,
        postfix=FIGURES,
        bar_format=bar_format(width),
    )
    assert len(text) <= width
    assert text.startswith(name)
    assert text.endswith(FIGURES)
    assert ("11:40" in text) == (width >= 74)


def test_a_resumed_bar_begins_where_training_does() -> None:
    progress = SimpleNamespace(total=SimpleNamespace(ready=7))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    trainer = SimpleNamespace(num_training_batches=5, max_epochs=4, fit_loop=loop)
    bar = FoldBar(0, {})
    bar.on_train_start(trainer, None)
    assert (bar._bar.n, bar._bar.total) == (7, 20)
    bar.on_train_end(trainer, None)
