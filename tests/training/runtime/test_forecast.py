"""The forecast of a training's time, by a clock of the test."""

import logging
from types import SimpleNamespace

import pytest

from training.fold import lighter_config
from training.model.config import ModelConfig
from training.runtime.forecast import (
    Forecast,
    TimeForecast,
    Work,
    forecast,
    forecast_text,
    time_text,
)

WORK = Work(
    batches=100,
    batch_size=10,
    val_slices=600,
    held_out_slices=3000,
    epochs_left=15,
    epochs=20,
    folds_left=3,
)


def test_the_sum_is_that_of_its_parts():
    found = forecast(0.3, WORK)  # 0.01 s to predict a slice
    assert found.epoch_s == pytest.approx(100 * 0.3 + 600 * 0.01)
    assert found.total_s == pytest.approx((15 + 2 * 20) * 36 + 3 * 3000 * 0.01)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45, "45 s"), (89, "89 s"), (720, "12 min"), (12240, "3.4 h"), (345600, "4.0 days")],
)
def test_durations_are_in_their_unit(seconds, text):
    assert time_text(seconds) == text


def test_a_light_config_is_named_only_where_a_training_takes_hours():
    short, long = Forecast(epoch_s=30, total_s=7000), Forecast(epoch_s=3600, total_s=90000)
    assert forecast_text(short, WORK, "light.yaml") == (
        "about 30 s an epoch, at most 1.9 h in all (20 epochs, 3 folds in a row)"
    )
    assert forecast_text(long, WORK, "light.yaml").endswith("CPU: light.yaml is a light one")
    assert "light" not in forecast_text(long, WORK, "")


@pytest.mark.parametrize(
    ("accelerator", "backbone", "views", "named"),
    [
        ("cpu", "efficientnet_b0", [[1, 1]], True),
        ("cpu", "resnet10t", [[1, 1]], True),
        ("cpu", "resnet10t", [[4, 1], [2, 2]], False),
        ("gpu", "efficientnet_b0", [[1, 1]], False),
    ],
)
def test_a_heavy_model_on_a_cpu_has_a_lighter_config(accelerator, backbone, views, named):
    name = lighter_config(ModelConfig(backbone=backbone, views=views), accelerator)
    assert name == ("configs/birds_small.yaml" if named else "")


def said_by(caplog, *, batches, batch_s, epochs=2):
    """Messages of a fold whose batches take `batch_s`, and its validations a year."""
    now = [0.0]
    callback = TimeForecast(
        4, folds_left=2, batch_size=3, slices=(90, 180), lighter="l.yaml", clock=lambda: now[0]
    )
    trainer = SimpleNamespace(
        num_training_batches=batches, max_epochs=20, world_size=2, current_epoch=0
    )
    with caplog.at_level(logging.INFO):
        for epoch in range(epochs):
            trainer.current_epoch = epoch
            callback.on_train_epoch_start(trainer, None)
            for number in range(batches):
                now[0] += batch_s if number else 60.0  # the first one takes longer
                callback.on_train_batch_end(trainer, None, None, None, number)
            now[0] += 3e7
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("batches", [2, 3, 4, 15, 100])
def test_it_is_said_once_from_steps_of_one_epoch(caplog, batches):
    (message,) = said_by(caplog, batches=batches, batch_s=30.0)
    epoch_s = batches * 30 + 45 * 10 / 3
    total_s = 40 * epoch_s + 2 * 90 * 10 / 3
    assert message.startswith(
        f"fold 4: about {time_text(epoch_s)} an epoch, at most {time_text(total_s)} in all"
    )


def test_nothing_is_said_of_what_takes_seconds_or_cannot_be_measured(caplog):
    assert said_by(caplog, batches=10, batch_s=0.01) == []
    assert said_by(caplog, batches=1, batch_s=100.0) == []
