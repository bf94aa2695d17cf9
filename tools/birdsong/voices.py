"""Waveforms of invented birds: notes, individuals, distance, echoes, wind and crickets."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator, default_rng

from tools.birdsong.species import SPECIES, Phrase, Species

RATE_HZ = 32_000
CEILING_HZ = 15_000  # harmonics above are left out, below half of RATE_HZ
PAUSE_S = 1.5  # usual time between two songs

Waveform = np.ndarray[Any, np.dtype[np.float32]]


class Singer(NamedTuple):
    """One bird in one recording."""

    species: Species
    distance_m: float


class Take(NamedTuple):
    """Plan of one recording; takes of one session share the place and the individuals."""

    number: int
    session: int
    singers: tuple[Singer, ...]  # the first one gives the primary label
    duration_s: float


class Bout(NamedTuple):
    """Stretch of a soundscape in which one bird sings."""

    singer: Singer
    start_s: float
    end_s: float


def synthesise_audio(take: Take, seed: int) -> Waveform:
    """Returns mono audio at RATE_HZ, float32 [samples], peak below 0.9; about 0.1 s for 15 s."""
    place_rng = default_rng([seed, 0, take.session])
    rng = default_rng([seed, 1, take.number])
    dry = np.zeros(round(take.duration_s * RATE_HZ), np.float32)
    for singer in take.singers:
        voice_rng = default_rng([seed, 2, take.session, SPECIES.index(singer.species)])
        _sing(singer, voice_rng, rng, dry)
    return _heard(dry, place_rng, rng)


def synthesise_soundscape(bouts: Sequence[Bout], duration_s: float, seed: int) -> Waveform:
    """Returns mono audio at RATE_HZ, float32 [samples]: birds by turns in one place."""
    rng = default_rng([seed, 4])
    dry = np.zeros(round(duration_s * RATE_HZ), np.float32)
    for number, bout in enumerate(bouts):
        stretch = dry[round(bout.start_s * RATE_HZ) : round(bout.end_s * RATE_HZ)]
        _sing(bout.singer, default_rng([seed, 5, number]), rng, stretch)
    return _heard(dry, default_rng([seed, 6]), rng)


def _heard(dry: Waveform, place_rng: Generator, rng: Generator) -> Waveform:
    """Adds the background and echoes of a place; the level is that of a recorder set at random."""
    sound = dry + _background(place_rng, rng, len(dry))
    for delay_s in place_rng.uniform(0.02, 0.25, 6):  # echoes
        delay = int(delay_s * RATE_HZ)
        sound[delay:] += np.float32(0.5 * np.exp(-delay_s / 0.08)) * dry[:-delay]
    return np.asarray(sound * (rng.uniform(0.15, 0.85) / np.abs(sound).max()), np.float32)


def _sing(singer: Singer, voice_rng: Generator, rng: Generator, out: Waveform) -> None:
    """Adds songs to `out` from end to end, with this bird's pitch and tempo, and pauses."""
    pitch = singer.species.pitch * 2 ** voice_rng.normal(0, 0.08)
    tempo = singer.species.tempo * 2 ** voice_rng.normal(0, 0.2)
    at = int(rng.uniform(0, 1) * RATE_HZ)
    while at < len(out):
        level = 10 / singer.distance_m * 10 ** (rng.normal(0, 2) / 20)
        for phrase in singer.species.song:
            for number in range(phrase.notes):
                stretch = phrase.hurry**number / tempo
                note = level * _note(phrase, stretch * phrase.note_s, pitch, singer.distance_m)
                out[at : at + len(note)] += note[: max(0, len(out) - at)]
                at += int(stretch * (phrase.note_s + phrase.gap_s) * RATE_HZ)
        at += int(PAUSE_S * 2 ** rng.normal(0, 0.5) * RATE_HZ)


def _note(phrase: Phrase, duration_s: float, pitch: float, distance_m: float) -> Waveform:
    """Returns one note, of power 1/2 less the loss in air and leaves: 15 dB in 100 m at 8 kHz."""
    num_samples = max(64, int(duration_s * RATE_HZ))
    place = (np.arange(num_samples) + 0.5) / num_samples  # from 0 to 1 over the note
    depth, rate_hz = phrase.vibrato
    vibrato = depth * np.sin(2 * np.pi * rate_hz * duration_s * place)
    tone, power = np.zeros(num_samples), 0.0
    for contour_hz in filter(None, (phrase.contour_hz, phrase.second_hz)):
        knots = np.linspace(0, 1, len(contour_hz))
        frequency_hz = pitch * 2 ** (np.interp(place, knots, np.log2(contour_hz)) + vibrato)
        phase = 2 * np.pi * np.cumsum(frequency_hz) / RATE_HZ
        for harmonic, level_db in enumerate((0.0, *phrase.harmonics_db), 1):
            if harmonic * np.max(frequency_hz) < CEILING_HZ:
                loss_db = (harmonic * frequency_hz / 1000) ** 1.3 * distance_m / 100
                tone += 10 ** ((level_db - loss_db) / 20) * np.sin(harmonic * phase)
                power += 10 ** (level_db / 10)
    return np.asarray(tone * np.sin(np.pi * place) ** 0.6 / np.sqrt(power), np.float32)


def _background(place_rng: Generator, rng: Generator, num_samples: int) -> Waveform:
    """Returns wind with gusts and, at one place of three, a cricket: float32 [num_samples]."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    frequency_hz = np.fft.rfftfreq(num_samples, 1 / RATE_HZ)
    spectrum *= np.maximum(frequency_hz, 60) ** -place_rng.uniform(0.4, 0.9)
    wind = np.fft.irfft(spectrum, num_samples)
    time_s = np.arange(num_samples) / RATE_HZ
    gusts = np.exp(rng.normal(0, 0.5, int(time_s[-1] / 0.8) + 3))  # one every 0.8 s
    sound = wind / wind.std() * np.interp(time_s, 0.8 * np.arange(len(gusts)), gusts)
    if place_rng.random() < 0.35:  # a steady tone in pulses
        pulses = np.sin(np.pi * place_rng.uniform(25, 70) * time_s) ** 2
        sound += pulses * np.sin(2 * np.pi * place_rng.uniform(3800, 9000) * time_s)
    return np.asarray(10 ** (place_rng.normal(-44, 5) / 20) * sound, np.float32)
