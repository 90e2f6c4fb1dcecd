"""Schedules against torch's schedulers, Hugging Face's and the formula; steps are counted from 1."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from attnkit.training import Schedule, constant, cosine, linear, noam, one_cycle, scheduler

SCHEDULES: dict[str, Callable[[int, int], Schedule]] = {
    "noam": lambda steps, warmup: noam(64, max(warmup, 1)),
    "constant": lambda steps, warmup: constant(warmup),
    "linear": lambda steps, warmup: linear(steps, warmup),
    "cosine": lambda steps, warmup: cosine(steps, warmup),
    "one_cycle": lambda steps, warmup: one_cycle(steps, warmup / steps),
    "one_cycle, linear, to 0": lambda steps, warmup: one_cycle(steps, warmup / steps, end=0.0, anneal="linear"),
}


def rates(make: Callable[[SGD], LRScheduler], count: int, rate: float = 1.0) -> list[float]:
    """The rates of the first `count` updates under a torch scheduler."""
    optimizer = SGD(nn.Linear(1, 1).parameters(), lr=rate)
    schedule = make(optimizer)
    found = []
    for _ in range(count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_noam_is_equation_3() -> None:
    rate = noam(d_model=512, warmup=4000)
    for step in (1, 2, 3999, 4000, 4001, 100_000):
        assert rate(step) == 512**-0.5 * min(step**-0.5, step * 4000**-1.5)
    peak = max(range(1, 10_000), key=rate)
    assert peak == 4000


@pytest.mark.parametrize("steps", [10, 33])
@pytest.mark.parametrize("warmup", [1, 4])
def test_cosine_and_linear_are_hugging_face_s_without_the_wasted_first_update(steps: int, warmup: int) -> None:
    """Theirs counts from 0, where the rate is 0: ours at step s is theirs at s."""
    for ours, theirs in ((cosine, get_cosine_schedule_with_warmup), (linear, get_linear_schedule_with_warmup)):
        expected = rates(lambda optimizer, make=theirs: make(optimizer, warmup, steps), steps + 1)
        assert expected[0] == 0
        for step in range(1, steps + 1):
            assert abs(ours(steps, warmup)(step) - expected[step]) < 1e-15


@pytest.mark.parametrize("anneal", ["cos", "linear"])
@pytest.mark.parametrize(("steps", "rise"), [(10, 0.3), (37, 0.25), (8, 0.5), (20, 0.01)])
def test_one_cycle_is_torch_s(anneal: str, steps: int, rise: float) -> None:
    expected = rates(
        lambda optimizer: OneCycleLR(
            optimizer, 0.5, steps, pct_start=rise, anneal_strategy=anneal, cycle_momentum=False
        ),
        steps - 1,
    )
    ours = one_cycle(steps, rise, anneal=anneal)
    for step, rate in enumerate(expected, 1):
        assert abs(0.5 * ours(step) - rate) < 1e-12
    assert abs(ours(steps) - 1 / 25e4) < 1e-12  # OneCycleLR's last: initial rate / final_div_factor
    assert ours(steps + 5) == ours(steps)


@pytest.mark.parametrize("name", SCHEDULES)
@given(steps=st.integers(1, 50), data=st.data())
def test_the_first_update_has_a_rate_above_0_and_none_exceeds_the_peak(
    name: str, steps: int, data: st.DataObject
) -> None:
    warmup = data.draw(st.integers(0, steps))
    schedule = SCHEDULES[name](steps, warmup)
    assert schedule(1) > 0
    assert all(0 <= schedule(step) <= 1 + 1e-12 for step in range(1, steps + 3))


@pytest.mark.parametrize("name", SCHEDULES)
def test_steps_are_counted_from_1(name: str) -> None:
    with pytest.raises(ValueError, match="step is 0; updates are counted from 1"):
        SCHEDULES[name](10, 3)(0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_scheduler_gives_the_nth_update_the_nth_rate(name: str) -> None:
    schedule = SCHEDULES[name](10, 3)
    assert rates(lambda optimizer: scheduler(optimizer, schedule), 12, rate=0.5) == pytest.approx(
        [0.5 * schedule(step) for step in range(1, 13)], abs=1e-15
    )


def test_warm_up_peak_and_floor_are_where_they_are_said_to_be() -> None:
    for schedule in (cosine(20, 5, floor=0.1), linear(20, 5, floor=0.1)):
        assert [schedule(step) for step in range(1, 6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
        assert all(schedule(step) > schedule(step + 1) for step in range(5, 20))
        assert schedule(20) == schedule(99) == pytest.approx(0.1)
    assert cosine(20)(1) == linear(20)(1) == constant()(1) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: noam(0), "d_model is 0"),
        (lambda: noam(8, warmup=0), "warmup is 0"),
        (lambda: constant(-1), "warmup is -1"),
        (lambda: cosine(0), "steps is 0"),
        (lambda: cosine(10.0), "steps is 10.0"),
        (lambda: linear(10, 11), "warmup is 11; it must not be longer than steps, 10"),
        (lambda: linear(10, floor=2.0), "floor is 2.0"),
        (lambda: one_cycle(10, rise=1.5), "rise is 1.5"),
        (lambda: one_cycle(10, start=0.0), "start is 0.0"),
        (lambda: one_cycle(10, anneal="step"), "anneal is 'step'"),
    ],
)
def test_wrong_arguments_are_named(make: Callable[[], Schedule], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_torch_s_own_schedulers_agree_on_what_a_factor_is() -> None:
    """A schedule multiplies the base rate of each group."""
    layer = nn.Linear(1, 1)
    optimizer = SGD([{"params": [layer.weight], "lr": 1.0}, {"params": [layer.bias], "lr": 0.1}], lr=1.0)
    scheduler(optimizer, constant(warmup=2))
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.05]
    assert torch.optim.lr_scheduler.LambdaLR in type(scheduler(optimizer, constant())).__mro__
