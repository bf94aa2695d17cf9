"""Calls, backgrounds, echo and levels, against their definitions."""

import numpy as np
import pytest

from tests.sounds import RATE_HZ, chirps
from tests.tools.soundscapes.sources import burst
from tools.soundscapes.sound import (
    FADE,
    LOW_HZ,
    MIN_CALL,
    add_echo,
    at_level,
    cut_call,
    high_pass,
    make_background,
    rms,
)


def test_a_call_is_the_loud_part_of_a_recording() -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        call = cut_call(burst(3000, 3.0, rng), 2 * RATE_HZ, rng)
        assert MIN_CALL <= len(call) <= 1.1 * RATE_HZ  # of one second
        inside = call[FADE:-FADE]
        levels = [rms(inside[start : start + 1600]) for start in range(0, len(inside) - 1600, 1600)]
        assert min(levels) > 0.05  # no silence at its ends
        assert call[0] == call[-1] == 0


def test_a_short_recording_is_one_call() -> None:
    rng = np.random.default_rng(1)
    call = cut_call(burst(3000, 0.2, rng), 2 * RATE_HZ, rng)
    assert len(call) == round(0.2 * RATE_HZ)


@pytest.mark.parametrize("snr_db", [-20.0, 0.0, 6.0])
def test_level_of_a_call_is_over_that_of_the_background(snr_db: float) -> None:
    rng = np.random.default_rng(2)
    background = make_background([chirps(4, rng), chirps(7, rng)], 10 * RATE_HZ, rng)
    assert len(background) == 10 * RATE_HZ
    assert rms(background) == pytest.approx(1, rel=1e-3)
    call = at_level(burst(3000, 1.0, rng), snr_db)
    assert 20 * np.log10(rms(call) / rms(background)) == pytest.approx(snr_db, abs=0.01)


def test_background_has_no_gaps_between_its_pieces() -> None:
    rng = np.random.default_rng(3)
    noise = rng.standard_normal(RATE_HZ // 2).astype(np.float32)  # shorter than a passage
    background = make_background([noise], 20 * RATE_HZ, rng)
    levels = [rms(background[at : at + 3200]) for at in range(0, len(background), 3200)]
    assert min(levels) > 0.5
    assert max(levels) < 2


def test_echo_falls_by_60_db_and_leaves_the_call_first() -> None:
    rng = np.random.default_rng(4)
    click = np.zeros(3200, np.float32)
    click[0] = 1
    heard = add_echo(click, 0.5, rng)
    assert heard[0] == pytest.approx(1, abs=0.05)
    tail = heard[3200:16000]
    early, late = rms(heard[1:1600]), rms(tail[-1600:])
    assert 20 * np.log10(early / late) == pytest.approx(60 * 0.95, abs=4)
    assert np.array_equal(add_echo(click, 0.0, rng), click)


def test_what_is_below_the_low_limit_is_taken_out() -> None:
    time_s = np.arange(RATE_HZ) / RATE_HZ
    low, high = (np.sin(2 * np.pi * f * time_s) for f in (LOW_HZ / 2, 2000))
    kept = high_pass((low + high).astype(np.float32))
    assert np.allclose(kept, high, atol=1e-4)
