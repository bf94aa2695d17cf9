"""The sound of invented birds: songs, distance, wind, rain and insects.

    singer = Singer(species=SPECIES[0], voice=1, distance_m=12)
    sound = synthesise_take((singer,), duration_s=15, seed=0, place=1, take=1, calls=False)

A note is a contour with harmonics, a wobble and a buzz; a bird sings its species' notes at its own
pitch and tempo. Everything is a pure function of its arguments; about 0.1 s on one core per 15 s.
"""

import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tools.birdsong_species import Phrase, Species

RATE_HZ = 32_000
CEILING_HZ = 15_000  # nothing is sung above
FFT_BLOCK = 4096  # lengths of Fourier transforms: so many samples times 2, 3 and 5 only

Waveform = np.ndarray[Any, np.dtype[np.float32]]
Spectrum = np.ndarray[Any, np.dtype[np.complexfloating]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Singer:
    """One bird in one recording; `voice` numbers the individual, the same over several takes."""

    species: Species
    voice: int
    distance_m: float


def synthesise_take(
    singers: tuple[Singer, ...], *, duration_s: float, seed: int, place: int, take: int, calls: bool
) -> Waveform:
    """One mono recording at 32,000 Hz, float32, peak below 0.9.

    `place` fixes the weather, `take` the course of events; `calls` lets the first singer call, too.
    """
    rng = np.random.default_rng([seed, 2, take])
    num_samples = round(duration_s * RATE_HZ)
    padded = _fast_length(num_samples + RATE_HZ)  # a second for the echoes
    frequency_hz = np.fft.rfftfreq(padded, 1 / RATE_HZ).astype(np.float32)
    forest = np.fft.rfft(_forest(np.random.default_rng([seed, 3, place])), padded)
    spectrum = np.zeros(len(frequency_hz), np.complex64)
    for number, singer in enumerate(singers):
        dry = np.zeros(padded, np.float32)
        _sing(_individual(singer, seed), calls and number == 0, rng, dry[:num_samples])
        spectrum += np.fft.rfft(dry) * _path(singer.distance_m, frequency_hz, forest)
    sound = np.fft.irfft(spectrum, padded)[:num_samples].astype(np.float32)
    weather = np.random.default_rng([seed, 1, place])
    sound += _background(weather, rng, frequency_hz, num_samples)
    return np.asarray(sound * (rng.uniform(0.15, 0.85) / np.abs(sound).max()), np.float32)


def _fast_length(least: int) -> int:
    """The next length whose Fourier transform is fast."""
    blocks = -(-least // FFT_BLOCK)
    while True:
        rest = blocks
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return blocks * FFT_BLOCK
        blocks += 1


def _individual(singer: Singer, seed: int) -> Species:
    """The species as this one bird sings it: own pitch, tempo, timbre and order of phrases."""
    species = singer.species
    rng = np.random.default_rng([seed, 0, singer.voice, zlib.crc32(species.label.encode())])
    pitch, tempo = 2 ** rng.normal(0, 0.06), 2 ** rng.normal(0, 0.15)

    def vary(phrase: Phrase) -> Phrase:
        bend = 2 ** rng.normal(0, 0.04, len(phrase.contour_hz))
        notes = phrase.notes * 2 ** rng.normal(0, 0.3) if phrase.notes > 1 else 1
        return replace(
            phrase,
            contour_hz=tuple(pitch * bend * phrase.contour_hz),
            second_hz=tuple(pitch * np.array(phrase.second_hz)),
            note_s=phrase.note_s * tempo * 2 ** rng.normal(0, 0.1),
            gap_s=phrase.gap_s * tempo * 2 ** rng.normal(0, 0.1),
            notes=max(1, round(notes)),
            harmonics_db=tuple(level + rng.normal(0, 4) for level in phrase.harmonics_db),
            buzz=(phrase.buzz[0], phrase.buzz[1] * 2 ** rng.normal(0, 0.1)),
        )

    song = [vary(phrase) for phrase in species.song]
    if len(song) > 1 and rng.random() < 0.15:
        song = song[1:] + song[:1]
    return replace(species, song=tuple(song), call=vary(species.call))


def _sing(bird: Species, calls: bool, rng: np.random.Generator, out: Waveform) -> None:
    """Adds songs with pauses between them to `out` until it is full."""
    at = int(rng.uniform(0, min(1.2, 0.15 * len(out) / RATE_HZ)) * RATE_HZ)
    while at < len(out):
        if calls and rng.random() < 0.4:
            phrases: tuple[Phrase, ...] = (bird.call,)
        else:
            phrases = tuple(p for p in bird.song if rng.random() < 0.93) or bird.song
        level = 10 ** (rng.normal(0, 2) / 20)
        for phrase in phrases:
            at = _add_phrase(phrase, level, rng, out, at)
        at += int(bird.pause_s * 2 ** rng.normal(0, 0.5) * RATE_HZ)


def _add_phrase(
    phrase: Phrase, level: float, rng: np.random.Generator, out: Waveform, at: int
) -> int:
    """Adds the notes of one phrase to `out` from sample `at`; returns the sample behind them."""
    notes = phrase.notes
    if notes > 2:
        notes = max(2, notes + int(rng.integers(-(notes // 5) - 1, notes // 5 + 2)))
    for number in range(notes):
        stretch = phrase.hurry**number
        octaves = phrase.drift_octaves * number / max(1, notes - 1) + rng.normal(0, 0.01)
        note = _note(phrase, stretch * phrase.note_s, 2**octaves)
        if at >= len(out):
            break
        heard = note[: len(out) - at]
        out[at : at + len(heard)] += level * 10 ** (rng.normal(0, 1) / 20) * heard
        at += len(note) + int(stretch * phrase.gap_s * RATE_HZ)
    return at


def _note(phrase: Phrase, duration_s: float, pitch: float) -> Waveform:
    """One note, float32, as loud as a sine of amplitude 1."""
    num_samples = max(64, int(duration_s * RATE_HZ))
    place = ((np.arange(num_samples) + 0.5) / num_samples).astype(np.float32)
    time_s = place * np.float32(duration_s)
    depth, rate_hz = phrase.wobble
    sway = depth * np.sin(2 * np.pi * rate_hz * time_s) if depth else 0.0
    tone = np.zeros(num_samples, np.float32)
    power = 0.0
    for contour in filter(None, (phrase.contour_hz, phrase.second_hz)):
        knots = np.linspace(0, 1, len(contour))
        frequency_hz = pitch * 2 ** (np.interp(place, knots, np.log2(contour)) + sway)
        cycles = np.cumsum(frequency_hz) / RATE_HZ
        phase = (2 * np.pi * (cycles % 1)).astype(np.float32)
        for harmonic, level_db in enumerate((0.0, *phrase.harmonics_db), 1):
            if harmonic * frequency_hz.max() < CEILING_HZ:
                tone += np.float32(10 ** (level_db / 20)) * np.sin(harmonic * phase)
                power += 10 ** (level_db / 10)
    tone *= np.sin(np.pi * place) ** np.float32(0.6) / np.float32(np.sqrt(power))
    depth, rate_hz = phrase.buzz
    if depth:
        tone *= 1 - depth * (0.5 + 0.5 * np.cos(2 * np.pi * rate_hz * time_s))
    return tone


def _forest(rng: np.random.Generator) -> Waveform:
    """The sound of a place: reverberation of power 1 and one echo, float32, one second."""
    time_s = np.arange(RATE_HZ, dtype=np.float32) / RATE_HZ
    decay = np.exp(-time_s / np.float32(rng.uniform(0.06, 0.16)))
    tail = rng.standard_normal(RATE_HZ, dtype=np.float32) * decay
    tail[: int(rng.uniform(0.005, 0.03) * RATE_HZ)] = 0
    tail /= np.sqrt(np.sum(tail**2))
    tail[int(rng.uniform(0.08, 0.3) * RATE_HZ)] += 0.3
    return tail


def _path(distance_m: float, frequency_hz: np.ndarray[Any, Any], forest: Spectrum) -> Spectrum:
    """What a song meets on its way: level, loss of treble in air and leaves, reverberation.

    1 at 10 m and low frequencies; 15 dB are lost at 8 kHz for every 100 m.
    """
    loss_db = (frequency_hz / 1000) ** 1.3 * (distance_m / 100)
    direct = (10 / distance_m) * 10 ** (-loss_db / 20)
    return direct * (1 + min(0.9, distance_m / 80) * forest)


def _background(
    weather: np.random.Generator,
    rng: np.random.Generator,
    frequency_hz: np.ndarray[Any, Any],
    num_samples: int,
) -> Waveform:
    """Wind with gusts, and at some places insects or rain."""
    padded = 2 * (len(frequency_hz) - 1)
    seconds = num_samples / RATE_HZ
    time_s = np.arange(num_samples, dtype=np.float32) / RATE_HZ
    level = 10 ** (weather.normal(-44, 5) / 20)
    tilt = weather.uniform(0.4, 0.9)
    noise = rng.standard_normal(2 * len(frequency_hz), dtype=np.float32).view(np.complex64)
    noise *= np.maximum(frequency_hz, 60) ** -tilt
    wind = np.fft.irfft(noise, padded)[:num_samples].astype(np.float32)
    gusts = np.exp(rng.normal(0, 0.5, int(seconds / 0.8) + 3))
    wind *= np.interp(time_s, 0.8 * np.arange(len(gusts)), gusts) * level / wind.std()
    if weather.random() < 0.35:
        wind += _insects(weather, time_s) * level * weather.uniform(0.3, 1.2)
    if weather.random() < 0.2:
        wind += _rain(weather, rng, num_samples) * level * weather.uniform(1, 3)
    return wind


def _insects(weather: np.random.Generator, time_s: Any) -> Waveform:
    """A cricket: a steady tone in pulses, the pulses in chirps."""
    carrier = np.sin(2 * np.pi * ((weather.uniform(3800, 9000) * time_s) % 1))
    pulses = np.sin(np.pi * weather.uniform(25, 70) * time_s) ** 2
    chirp_s, duty = weather.uniform(0.3, 1.5), weather.uniform(0.3, 1.0)
    return np.asarray(carrier * pulses * ((time_s % chirp_s) < duty * chirp_s), np.float32)


def _rain(weather: np.random.Generator, rng: np.random.Generator, num_samples: int) -> Waveform:
    """Drops on leaves: short broad clicks at random times."""
    num_drops = int(weather.uniform(20, 120) * num_samples / RATE_HZ)
    click = np.diff(rng.standard_normal(97)) * np.exp(-np.arange(96) / 24)
    starts = rng.integers(0, num_samples - len(click), num_drops)
    drops = np.zeros(num_samples, np.float32)
    clicks = rng.lognormal(0, 0.8, (num_drops, 1)) * click
    np.add.at(drops, starts[:, None] + np.arange(len(click)), clicks.astype(np.float32))
    return drops
