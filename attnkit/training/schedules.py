"""Learning rates over time: functions from the number of an update, counted from 1, to a factor of the base rate.

Step 1 is the first update, and no schedule gives it a rate of 0: an update that changes nothing is wasted. (torch's
schedulers and Hugging Face's count from 0, and a warm-up that starts at 0 there wastes one.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, no_type_check

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

Schedule = Callable[[int], float]


@no_type_check
def noam(d_model: int, warmup: int = 4000) -> Schedule:
    """d_model^-0.5 min(step^-0.5, step warmup^-1.5): Vaswani et al. 2017 (arXiv:1706.03762), eq. 3.

    The factor is the rate itself, so the optimizer's base rate is 1 (or a multiplier near it).

    >>> rate = noam(d_model=512, warmup=4000)
    >>> f"{rate(1):.2e} {rate(4000):.2e} {rate(16000):.2e}"
    '1.75e-07 6.99e-04 3.49e-04'
    """
    _positive(d_model=d_model, warmup=warmup)
    return _counted(lambda step: d_model**-0.5 * min(step**-0.5, step * warmup**-1.5))


@no_type_check
def constant(warmup: int = 0) -> Schedule:
    """Rises in a line to 1 at step `warmup`, and stays there.

    >>> [constant(warmup=4)(step) for step in (1, 2, 4, 9)]
    [0.25, 0.5, 1.0, 1.0]
    """
    _positive(warmup=warmup, least=0)
    return _warmed(warmup, lambda step: 1.0)


@no_type_check
def linear(steps: int, warmup: int = 0, floor: float = 0.0) -> Schedule:
    """Rises in a line to 1 at step `warmup` (without one, at step 1), falls in a line to `floor` at step `steps`.

    >>> [linear(steps=6, warmup=2)(step) for step in range(1, 8)]
    [0.5, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """
    return _decaying(steps, warmup, floor, lambda progress: 1 - progress)


@no_type_check
def cosine(steps: int, warmup: int = 0, floor: float = 0.0) -> Schedule:
    """Rises in a line to 1 at step `warmup` (without one, at step 1), falls along half a cosine to `floor` at `steps`.

    Loshchilov and Hutter 2017 (arXiv:1608.03983), eq. 5, without restarts.

    >>> [round(cosine(steps=6, warmup=2, floor=0.1)(step), 3) for step in range(1, 8)]
    [0.5, 1.0, 0.868, 0.55, 0.232, 0.1, 0.1]
    """
    return _decaying(steps, warmup, floor, lambda progress: (1 + math.cos(math.pi * progress)) / 2)


@no_type_check
def one_cycle(
    steps: int,
    rise: float = 0.3,
    start: float = 1 / 25,
    end: float = 1 / 25e4,
    anneal: Literal["cos", "linear"] = "cos",
) -> Schedule:
    """From `start` up to 1 during the share `rise` of the steps, then down to `end`.

    Smith and Topin 2017 (arXiv:1708.07120), with the rates of `torch.optim.lr_scheduler.OneCycleLR` in its two-phase
    form, whose `max_lr` is the base rate here. Cycles the rate only, not the momentum; stays at `end` after `steps`.

    >>> [round(one_cycle(steps=6, rise=0.5)(step), 3) for step in range(1, 8)]
    [0.04, 0.52, 1.0, 0.75, 0.25, 0.0, 0.0]
    """
    _positive(steps=steps)
    for name, value in (("rise", rise), ("start", start), ("end", end)):
        if not 0 <= value <= 1 or (name == "start" and value == 0):
            raise ValueError(
                f"{name} is {value!r}; it must be a share {'in (0, 1]' if name == 'start' else 'in [0, 1]'}"
            )
    if anneal not in ("cos", "linear"):
        raise ValueError(f"anneal is {anneal!r}; it must be 'cos' or 'linear'")
    peak = rise * steps - 1  # torch's: where the peak lies, counted from 0, perhaps between two steps

    def factor(step: int) -> float:
        done = min(step, steps) - 1
        if done <= peak or steps == 1:
            return _between(start, 1.0, done / peak if peak > 0 else 0.0, anneal)
        return _between(1.0, end, (done - peak) / (steps - 1 - peak), anneal)

    return _counted(factor)


def scheduler(optimizer: Optimizer, schedule: Schedule) -> LambdaLR:
    """torch's scheduler for a schedule: sets the rate of the first update now, and the next at each `.step()`.

    `LambdaLR` counts the updates *done*, so the next one has the number one more.
    """
    return LambdaLR(optimizer, lambda done: schedule(done + 1))


def _between(first: float, last: float, progress: float, anneal: str) -> float:
    share = (1 - math.cos(math.pi * progress)) / 2 if anneal == "cos" else progress
    return first + (last - first) * share


@no_type_check
def _decaying(steps: int, warmup: int, floor: float, fall: Callable[[float], float]) -> Schedule:
    """Warm-up, then `fall`, which goes from 1 to 0 while the progress goes from 0 to 1."""
    _positive(steps=steps)
    _positive(warmup=warmup, least=0)
    if warmup > steps:
        raise ValueError(f"warmup is {warmup}; it must not be longer than steps, {steps}")
    if not 0 <= floor <= 1:
        raise ValueError(f"floor is {floor!r}; it is a share of the peak, so it must be in [0, 1]")
    peak = max(warmup, 1)
    length = max(steps - peak, 1)
    return _warmed(warmup, lambda step: floor + (1 - floor) * fall(min(max(step - peak, 0) / length, 1.0)))


def _warmed(warmup: int, after: Schedule) -> Schedule:
    return _counted(lambda step: step / warmup if step < warmup else after(step))


def _counted(factor: Schedule) -> Schedule:
    """`factor`, refusing a step 0."""

    def schedule(step: int) -> float:
        if step < 1:
            raise ValueError(f"step is {step}; updates are counted from 1")
        return factor(step)

    return schedule


@no_type_check
def _positive(least: int = 1, **values: int) -> None:
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} is {value!r}; it must be an integer, {least} or more")
