"""Counter-based random numbers: bits from (seed, epoch, purpose, key), without generator state.

A recording's key comes from its id alone, so adding a recording changes no bits of the others,
and no order of evaluation, number of workers or number of ranks can matter.
"""

import hashlib

import numpy as np
import polars as pl

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))
_FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
IDS_AT_ONCE = 2**17  # whose digests are Python objects meanwhile


def recording_keys(recordings: pl.DataFrame) -> np.ndarray:
    """Returns the key of each recording, uint64 [n]: 64-bit blake2b of its id, little endian."""
    blake2b = hashlib.blake2b
    keys = np.empty(len(recordings), np.uint64)
    begin = 0
    for ids in recordings.select("recording_id").iter_slices(IDS_AT_ONCE):
        texts = ids["recording_id"]
        packed = b"".join(blake2b(name.encode(), digest_size=8).digest() for name in texts)
        keys[begin : begin + len(texts)] = np.frombuffer(packed, "<u8")
        begin += len(texts)
    return keys


def random_bits(
    keys: np.ndarray, *, seed: int, epoch: int, purpose: str, counter: np.ndarray | int = 0
) -> np.ndarray:
    """Returns 64 random bits per key and counter, uint64 [n].

    Two rounds of the SplitMix64 finaliser (Steele, Lea and Flood, 2014; Stafford's variant 13)
    over key, counter and a salt that is the blake2b of seed, epoch and purpose.
    """
    text = f"{seed}/{epoch}/{purpose}".encode()
    salt = np.frombuffer(hashlib.blake2b(text, digest_size=16).digest(), "<u8").astype(np.uint64)
    count = np.atleast_1d(np.asarray(counter)).astype(np.uint64)
    return _mix(_mix(keys ^ salt[0]) + count * _GOLDEN + salt[1])


def random_unit(bits: np.ndarray) -> np.ndarray:
    """Converts 64 random bits to float64 in [0, 1)."""
    return np.asarray((bits >> np.uint64(11)) * 2.0**-53)


def sort_bits(bits: np.ndarray) -> np.ndarray:
    """Returns the argsort of random bits, int64 [n], equal to that of a stable sort."""
    order = np.argsort(bits)
    ordered = bits[order]
    if (ordered[1:] == ordered[:-1]).any():  # rare; an unstable order would depend on the processor
        order = np.argsort(bits, kind="stable")
    return order


def _mix(bits: np.ndarray) -> np.ndarray:
    """Applies a bijection on uint64 in which each output bit depends on all input bits."""
    bits = (bits ^ (bits >> _SHIFTS[0])) * _FACTORS[0]
    bits = (bits ^ (bits >> _SHIFTS[1])) * _FACTORS[1]
    return np.asarray(bits ^ (bits >> _SHIFTS[2]))
