"""Timers, each of which takes many calls and interleaves them, and the two speeds that results are compared with."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attnkit.kernels.roofline import CHIPS

Calls = Sequence[Callable[[], object]]
Timer = Callable[[Calls], list[list[float]]]  # milliseconds of each call, as many samples of each

FLUSH_BYTES = 2**28  # several times the second-level cache of any GPU there is
SECONDS_EACH = 0.12  # of samples for each call of a case
LEAST, MOST = 10, 100  # samples of each call


def interleave(calls: Calls, rounds: int, time_one: Callable[[Callable[[], object]], None]) -> list[int]:
    """`time_one` of each call in each round, there and back, so that a drift of the machine hits all alike.

    Returns which call was timed, in order.
    """
    order: list[int] = []
    for number in range(rounds):
        order += range(len(calls)) if number % 2 == 0 else reversed(range(len(calls)))
    for which in order:
        time_one(calls[which])
    return order


def _sorted_out(order: list[int], samples: list[float], calls: Calls) -> list[list[float]]:
    found: list[list[float]] = [[] for _ in calls]
    for which, sample in zip(order, samples, strict=True):
        found[which].append(sample)
    return found


def on_device(calls: Calls) -> list[list[float]]:
    """Milliseconds on a CUDA device, by its events, with the cache emptied before each call.

    This is how `triton.testing.do_bench` measures, sample by sample, except that it takes one call after the other
    and so cannot interleave them. Emptying the cache also keeps the device busy while the host prepares the call, so
    that what the host takes is in the time only when it is longer than that.
    """
    flush = _flush()
    events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def time_one(call: Callable[[], object]) -> None:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        flush.zero_()
        start.record()
        call()
        end.record()
        events.append((start, end))

    def samples(rounds: int) -> list[list[float]]:
        events.clear()
        order = interleave(calls, rounds, time_one)
        torch.cuda.synchronize()
        return _sorted_out(order, [start.elapsed_time(end) for start, end in events], calls)

    samples(2)  # warms up
    return samples(rounds_for([statistics.median(one) for one in samples(3)]))


def _flush() -> Tensor:
    """Memory that fills the cache when it is written."""
    return torch.empty(FLUSH_BYTES, dtype=torch.int8, device="cuda")


def rounds_for(milliseconds: Sequence[float]) -> int:
    """How many rounds fit, when a call each takes so long."""
    return round(min(max(SECONDS_EACH * 1e3 * len(milliseconds) / sum(milliseconds), LEAST), MOST))


def on_host(calls: Calls, rounds: int = 200) -> list[list[float]]:
    """Milliseconds until a call returns to its caller, whatever it left the device to do: what dispatch costs.

    Each call finds an idle device, so that none waits for room in the queue.
    """
    samples: list[float] = []

    def time_one(call: Callable[[], object]) -> None:
        synchronize()
        start = time.perf_counter()
        call()
        samples.append((time.perf_counter() - start) * 1e3)

    interleave(calls, 20, time_one)
    samples.clear()
    order = interleave(calls, rounds, time_one)
    synchronize()
    return _sorted_out(order, samples, calls)


def synchronize() -> None:
    """Wait for the device. Raises what a kernel left behind."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@dataclass(frozen=True)
class Anchor:
    """A speed of this machine in this run: milliseconds for `amount` floating-point operations, or bytes."""

    name: str
    amount: float
    samples: tuple[float, ...]

    @property
    def rate(self) -> float:
        """In 10^12 a second, that is TFLOPS or TB/s, by the median."""
        return self.amount / statistics.median(self.samples) / 1e9


MATMUL, COPY = "cuBLAS bfloat16 product", "copy"


def anchors(timer: Timer, device: torch.device, side: int = 8192, size: int = 2**30) -> list[Anchor]:
    """A bfloat16 product of two (side, side) matrices, and a copy of `size` bytes, counted as read and as written."""
    rng = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(side, side, generator=rng, device=device, dtype=torch.bfloat16) for _ in range(2))
    source = torch.randint(0, 127, (size,), generator=rng, device=device, dtype=torch.int8)
    target = torch.empty_like(source)
    (product,) = timer([lambda: a @ b])
    (copy,) = timer([lambda: target.copy_(source)])
    return [Anchor(f"{MATMUL}, {side}^3", 2.0 * side**3, tuple(product)), Anchor(COPY, 2.0 * size, tuple(copy))]


def data_sheet(name: str) -> float | None:
    """TB/s of a device's memory by its maker's data sheet, by the name that torch gives it; None when not known."""
    chip = CHIPS.get(name)
    return None if chip is None else chip.giga_bytes / 1e3
