"""What the tests of the bench of GPUs share: tiny cases, a timer that invents, and invented results."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend

from attnkit.bench.gpu import contenders as who
from attnkit.bench.gpu import origin, run, timing
from attnkit.bench.gpu.cases import Case, Extent, Inputs, suite
from attnkit.bench.gpu.contenders import Contender
from attnkit.bench.gpu.results import Entry, Results

CPU = torch.device("cpu")
TINY = Extent(
    tokens=64, width=32, head_widths=(16, 8), first=(16, 32), others=(8,), window=5, biased=(8,), cache=24, dispatched=4
)
CASES = suite(extent=TINY)
MATH = who.sdpa("math", SDPBackend.MATH)


def named(part: str) -> Case:
    """The first tiny case whose name contains this."""
    return next(case for case in CASES if part in case.name)


def clockwork(calls: timing.Calls) -> list[list[float]]:
    """A timer that runs each call once, and says 1 ms for the first, 2 ms for the second, and so on."""
    for call in calls:
        call()
    return [[1.0 + number] * 5 for number in range(len(calls))]


def measured(cases: list[Case], *contenders: Contender, seconds: float = 600.0, **options) -> Results:
    """A run on the CPU with the clockwork."""
    return run.measure(
        cases,
        CPU,
        seconds=seconds,
        timers={"device": clockwork, "host": clockwork},
        who=lambda case: list(contenders),
        speeds=lambda timer, device: timing.anchors(timer, device, side=8, size=64),
        tell=options.pop("tell", lambda line: None),
        **options,
    )


def wrong(change: Callable[[Tensor], Tensor]) -> Contender:
    """SDPA with something done to its output."""

    def prepare(case: Case, tensors: Inputs) -> Callable[[], Tensor]:
        right = MATH.prepare(case, tensors)
        return lambda: change(right())

    return Contender("wrong", prepare)


FORWARD = Case("dense", "forward", 8, 16, 16, 2048, 2048, 128)


def invented(*entries: Entry, device: str = "NVIDIA H200", copy: float = 4.0) -> Results:
    """Results with these entries, a product at 800 TFLOPS and a copy at so many TB/s."""
    where, told = origin.origin(CPU)
    product = timing.Anchor(f"{timing.MATMUL}, 8192^3", 8e11, (1.0,))
    return Results(
        where, told | {"device": device}, [product, timing.Anchor(timing.COPY, copy * 1e9, (1.0,))], list(entries)
    )


def pair(case: Case, own: float, peer: float, name: str = "sdpa-flash") -> list[Entry]:
    return [Entry(case, "ours", (own,) * 5), Entry(case, name, (peer,) * 5)]


def results_of(case: Case, contender: Contender, tensors: Inputs) -> dict[str, Tensor]:
    return run.called(case, contender.prepare(case, tensors), tensors)[1]
