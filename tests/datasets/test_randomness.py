"""datasets.randomness: bits that depend on all of their inputs and on nothing else."""

import numpy as np
import pytest

from datasets.randomness import random_bits, random_unit, recording_keys
from tests.fakes import fake_recordings

KEYS = np.arange(4096, dtype=np.uint64)


def bits_of(**changes):
    return random_bits(KEYS, **{"seed": 5, "epoch": 2, "purpose": "slice", **changes})


def test_keys_are_the_blake2b_of_the_ids_alone():
    table = fake_recordings([1, 2, 3, 4])
    keys = recording_keys(table)
    assert keys.dtype == np.uint64
    assert len(set(keys.tolist())) == 4
    shuffled = table[[2, 0, 3, 1]]
    assert recording_keys(shuffled).tolist() == keys[[2, 0, 3, 1]].tolist()
    # hashlib.blake2b("take 0.5%é".encode(), digest_size=8), read as little endian
    assert keys[0] == int.from_bytes(bytes.fromhex("013065bb15f7a102"), "little")


@pytest.mark.parametrize(
    "change", [{"seed": 6}, {"epoch": 3}, {"purpose": "order"}, {"counter": 1}]
)
def test_each_input_changes_half_of_all_bits(change):
    flipped = np.unpackbits((bits_of() ^ bits_of(**change)).view(np.uint8))
    assert abs(flipped.mean() - 0.5) < 0.005


def test_neighbouring_keys_share_no_pattern():
    flipped = np.unpackbits((bits_of()[1:] ^ bits_of()[:-1]).view(np.uint8).reshape(-1, 8), axis=1)
    assert np.abs(flipped.mean(0) - 0.5).max() < 0.05


def test_units_are_uniform_and_below_one():
    units = random_unit(
        random_bits(np.arange(200_000, dtype=np.uint64), seed=1, epoch=0, purpose="x")
    )
    counts = np.histogram(units, 100, (0, 1))[0]
    assert units.max() < 1
    assert units.min() >= 0
    assert ((counts - 2000) ** 2 / 2000).sum() < 149  # chi-square, 99 degrees, p = 0.001


def test_the_bits_stay_what_they_are():
    """Plans of saved trainings rest on these numbers."""
    assert bits_of()[:2].tolist() == [5389171458907769064, 7458063730325431056]
