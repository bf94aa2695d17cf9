"""Signal processing of mixed soundscapes: calls, backgrounds, echo, levels.

All of it is a function of its arguments and of the generator that it is given. Levels are root mean
squares above LOW_HZ, where wind and traffic have most of their power and birds none.
"""

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.random import Generator
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import fftconvolve

from storage.audio.decode import Decoder
from tools.testbed.ogg_files import Waveform

RATE_HZ = 32_000
LOW_HZ = 250.0
FRAME = RATE_HZ // 20  # samples of a frame whose level is measured, 50 ms
LOUD_DB, QUIET_DB = 6.0, 15.0  # below the loudest: a frame to choose; the end of a call
FADE = RATE_HZ // 50  # samples, 20 ms
MIN_CALL = RATE_HZ * 3 // 10  # samples
OVERLAP = RATE_HZ // 2  # samples in which one piece of a background passes into the next
PIECE_S = 6.0  # of a background, at most
CALMEST_OF = 4  # draws of a piece; the one without calls of its own is wanted
ECHO_GAIN = 0.5  # of the echo's level, relative to the direct sound
CACHED = 32  # recordings, of about 4 MB each


@lru_cache(maxsize=CACHED)
def read_sound(path: str) -> Waveform:
    """Decodes a recording, float32 [samples] at RATE_HZ, without what is below LOW_HZ."""
    blocks = [block.copy() for block in Decoder(Path(path), RATE_HZ)]
    return high_pass(np.concatenate(blocks))


def high_pass(sound: Waveform) -> Waveform:
    """Takes out what is below LOW_HZ, by the spectrum of the whole."""
    size = next_fast_len(len(sound), real=True)
    spectrum = rfft(sound, size)
    spectrum[: math.ceil(LOW_HZ * size / RATE_HZ)] = 0
    return np.asarray(irfft(spectrum, size)[: len(sound)], np.float32)


def rms(sound: Waveform) -> float:
    """Root mean square; a little above zero for silence."""
    return float(np.sqrt(np.mean(np.square(sound, dtype=np.float64)) + 1e-12))


def frame_levels(sound: Waveform) -> np.ndarray:
    """Level of each FRAME of a sound, dB, float64 [frames]; the last one may be shorter."""
    starts = np.arange(0, len(sound), FRAME)
    power = np.add.reduceat(np.square(sound, dtype=np.float64), starts)
    lengths = np.minimum(FRAME, len(sound) - starts)
    return np.asarray(10 * np.log10(power / lengths + 1e-12))


def cut_call(sound: Waveform, length: int, rng: Generator) -> Waveform:
    """Cuts a call of at most `length` samples out of a recording, around one of its loud frames.

    Quiet frames at both ends are left out, as far as MIN_CALL samples remain; the ends fade.
    """
    levels = frame_levels(sound)
    loud = np.flatnonzero(levels >= levels.max() - LOUD_DB)
    centre = int(rng.choice(loud)) * FRAME + FRAME // 2
    start = centre - int(rng.uniform(0.25, 0.75) * length)
    start = int(np.clip(start, 0, max(0, len(sound) - length)))
    call = _trimmed(sound[start : start + length]).copy()
    fade = min(FADE, len(call) // 2)
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    call[:fade] *= ramp
    call[len(call) - fade :] *= ramp[::-1]
    return call


def _trimmed(call: Waveform) -> Waveform:
    """Leaves out quiet frames at both ends."""
    levels = frame_levels(call)
    active = np.flatnonzero(levels >= levels.max() - QUIET_DB)
    start, end = int(active[0]) * FRAME, (int(active[-1]) + 1) * FRAME
    if end - start < MIN_CALL:
        start = max(0, min(start, len(call) - MIN_CALL))
        end = start + MIN_CALL
    return call[start:end]


def add_echo(call: Waveform, echo_s: float, rng: Generator) -> Waveform:
    """A call with a decaying echo, float32, longer than it by `echo_s`.

    The room's response is noise that falls by 60 dB in `echo_s` (Schroeder's model of a diffuse
    field), at ECHO_GAIN of the direct sound.
    """
    size = round(echo_s * RATE_HZ)
    if size < FRAME:
        return call
    decay = 10 ** (-3 * np.arange(size) / size)
    response = rng.standard_normal(size) * decay
    response *= ECHO_GAIN / np.sqrt(np.sum(response**2))
    response[0] += 1
    return np.asarray(fftconvolve(call, response), np.float32)


def make_background(sounds: list[Waveform], num_samples: int, rng: Generator) -> Waveform:
    """Joins pieces of backgrounds into one of `num_samples`, of root mean square 1.

    Each piece is the calmest of some draws, brought to one level; each passes into the next with
    constant power.
    """
    joined = np.zeros(num_samples + 2 * OVERLAP, np.float32)
    ramp = np.sin(np.linspace(0, np.pi / 2, OVERLAP, dtype=np.float32))
    at = 0
    while at < num_samples + OVERLAP:
        piece = _calm_piece(sounds[int(rng.integers(len(sounds)))], rng)
        piece[:OVERLAP] *= ramp
        piece[-OVERLAP:] *= ramp[::-1]
        piece = piece[: len(joined) - at]
        joined[at : at + len(piece)] += piece
        at += len(piece) - OVERLAP
    joined = joined[OVERLAP:-OVERLAP]
    return joined / np.float32(rms(joined))


def _calm_piece(sound: Waveform, rng: Generator) -> Waveform:
    """A piece of a background, of root mean square 1: the one whose frames differ least."""
    if len(sound) < 3 * OVERLAP:
        sound = np.resize(sound, 3 * OVERLAP)
    length = min(len(sound), round(PIECE_S * RATE_HZ))
    starts = rng.integers(0, len(sound) - length + 1, CALMEST_OF)
    pieces = [sound[start : start + length] for start in starts.tolist()]
    calmest = min(pieces, key=lambda piece: float(np.ptp(frame_levels(piece))))
    return calmest / np.float32(rms(calmest))


def at_level(call: Waveform, snr_db: float) -> Waveform:
    """A call at a level over a background of root mean square 1."""
    return call * np.float32(10 ** (snr_db / 20) / rms(call))
