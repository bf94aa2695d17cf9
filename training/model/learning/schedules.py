"""Learning rates of optimizer steps, as fractions of the peak: pure functions of the step.

    fraction = SCHEDULES["cosine"](Steps(total=2000, warmup=100, final_fraction=0.01))
    fraction(0), fraction(1999)  # 0.01, 0.01

A schedule is one function and one line in SCHEDULES. Each depends on the step alone, so a training
resumes exactly. Step 0 already moves, and the last step has `final_fraction`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

COSINE, ONE_CYCLE, WARM_RESTARTS, FLAT_COSINE = (
    "cosine",
    "one_cycle",
    "warm_restarts",
    "flat_cosine",
)
ONE_CYCLE_START = 1 / 25  # of the peak; torch's OneCycleLR has the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Optimizer steps of a training, and the numbers that a schedule depends on.

    `warmup`: steps of the linear rise; `period`: steps between two restarts; `flat` and `rise`:
    shares of all steps.
    """

    total: int
    warmup: int = 0
    final_fraction: float = 0.0
    period: int = 1
    flat: float = 0.0
    rise: float = 0.0


Fraction = Callable[[int], float]


def cosine(steps: Steps) -> Fraction:
    """Warm-up, then half a cosine from the peak to the last step."""
    return lambda step: learning_rate_fraction(
        step,
        num_steps=steps.total,
        warmup_steps=steps.warmup,
        final_fraction=steps.final_fraction,
    )


def learning_rate_fraction(
    step: int, *, num_steps: int, warmup_steps: int, final_fraction: float
) -> float:
    """Learning rate of a step as a fraction of the peak; step 0 already moves.

    Rises over `warmup_steps` to 1, falls along half a cosine to `final_fraction` at the last step.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step + 1 - warmup_steps) / max(1, num_steps - warmup_steps))
    return final_fraction + (1 - final_fraction) * (1 + math.cos(math.pi * progress)) / 2


def one_cycle(steps: Steps) -> Fraction:
    """One rise and one fall, each along half a cosine (Smith and Topin, 2019).

    Rises from 1/25 of the peak over the share `rise` of all steps, then falls to
    `final_fraction`. Momentum is not cycled. The linear warm-up is not used.
    """
    rising = round(steps.rise * steps.total)

    def fraction(step: int) -> float:
        if step < rising:
            progress = (step + 1) / rising
            return 1 - (1 - ONE_CYCLE_START) * (1 + math.cos(math.pi * progress)) / 2
        return learning_rate_fraction(
            step, num_steps=steps.total, warmup_steps=rising, final_fraction=steps.final_fraction
        )

    return fraction


def warm_restarts(steps: Steps) -> Fraction:
    """Half a cosine again and again, each over `period` steps (Loshchilov and Hutter, ICLR 2017).

    Starts with the linear warm-up, whose steps belong to the first periods. A last period that is
    not complete is cut, not compressed.
    """

    def fraction(step: int) -> float:
        if step < steps.warmup:
            return (step + 1) / steps.warmup
        begin = step // steps.period * steps.period
        return learning_rate_fraction(
            step - begin,
            num_steps=steps.period,
            warmup_steps=max(0, steps.warmup - begin),
            final_fraction=steps.final_fraction,
        )

    return fraction


def flat_cosine(steps: Steps) -> Fraction:
    """Warm-up, then the peak until the share `flat` of all steps, then half a cosine."""
    begin = max(steps.warmup, round(steps.flat * steps.total))

    def fraction(step: int) -> float:
        if steps.warmup <= step < begin:
            return 1.0
        if step < steps.warmup:
            return (step + 1) / steps.warmup
        return learning_rate_fraction(
            step - begin,
            num_steps=steps.total - begin,
            warmup_steps=0,
            final_fraction=steps.final_fraction,
        )

    return fraction


SCHEDULES: dict[str, Callable[[Steps], Fraction]] = {
    COSINE: cosine,
    ONE_CYCLE: one_cycle,
    WARM_RESTARTS: warm_restarts,
    FLAT_COSINE: flat_cosine,
}
