"""Makes one soundscape of its plan, and the times of its calls; the work of a process."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from storage.processes import OnProgress
from tools.soundscapes.schedule import PlannedSoundscape
from tools.soundscapes.sound import (
    RATE_HZ,
    add_echo,
    at_level,
    cut_call,
    make_background,
    read_sound,
)
from tools.testbed.ogg_files import Waveform, write_ogg

PEAK = 0.9  # of full scale, at most
MODULE = "tools.soundscapes.render"


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderJob:
    """A planned soundscape and the file to write."""

    plan: PlannedSoundscape
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardCall:
    """A call as it was mixed; times in its soundscape, s, without the echo."""

    role: str
    file: str
    start_s: float
    end_s: float
    label: str
    snr_db: float
    echo_s: float
    recording: str


def render(job: RenderJob, on_progress: OnProgress) -> list[HeardCall]:
    """Writes the soundscape, and returns its calls by time."""
    sound, calls = mix(job.plan)
    write_ogg(job.path, sound, RATE_HZ, serial=job.plan.number + 1)
    on_progress(1)
    return calls


def mix(plan: PlannedSoundscape) -> tuple[Waveform, list[HeardCall]]:
    """Mixes a soundscape: float32 [samples] at RATE_HZ, and its calls by time."""
    rng = np.random.default_rng([plan.seed, 3, plan.number])
    num_samples = round(plan.duration_s * RATE_HZ)
    chosen = rng.choice(len(plan.backgrounds), min(3, len(plan.backgrounds)), replace=False)
    backgrounds = [read_sound(plan.backgrounds[number]) for number in chosen.tolist()]
    sound = make_background(backgrounds, num_samples, rng)
    heard: list[HeardCall] = []
    for planned in plan.calls:
        call = cut_call(read_sound(planned.path), round(planned.length_s * RATE_HZ), rng)
        start = round(planned.place * (num_samples - len(call)))
        call_and_echo = add_echo(at_level(call, planned.snr_db), planned.echo_s, rng)
        end = min(num_samples, start + len(call_and_echo))
        sound[start:end] += call_and_echo[: end - start]
        heard.append(
            HeardCall(
                role=plan.role,
                file=plan.name,
                start_s=round(start / RATE_HZ, 3),
                end_s=round((start + len(call)) / RATE_HZ, 3),
                label=planned.label,
                snr_db=round(planned.snr_db, 2),
                echo_s=round(planned.echo_s, 3),
                recording=planned.filename,
            )
        )
    sound *= np.float32(10 ** (plan.noise_dbfs / 20))
    sound /= np.float32(max(1.0, np.abs(sound).max() / PEAK))
    return sound, sorted(heard, key=lambda call: (call.start_s, call.end_s, call.label))
