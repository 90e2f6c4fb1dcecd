"""The run: each case's contenders are made ready, judged, and those that are right are timed together."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from attnkit.bench.gpu import contenders as everyone
from attnkit.bench.gpu.cases import NAMES, Case, Inputs, inputs, suite
from attnkit.bench.gpu.contenders import Call, Contender, Declined
from attnkit.bench.gpu.judge import Judge
from attnkit.bench.gpu.origin import nvidia_smi, origin
from attnkit.bench.gpu.results import Entry, Results, write
from attnkit.bench.gpu.tables import cell
from attnkit.bench.gpu.timing import Anchor, Timer, anchors, on_device, on_host, synchronize

Anchors = Callable[[Timer, torch.device], list[Anchor]]


class DeviceLost(RuntimeError):
    """A kernel left the device in a state in which nothing runs any more."""


def measure(
    cases: Sequence[Case],
    device: torch.device,
    *,
    seconds: float,
    timers: Mapping[str, Timer],
    who: Callable[[Case], list[Contender]] = everyone.contenders,
    speeds: Anchors = anchors,
    tell: Callable[[str], object] = print,
    out: Path | None = None,
) -> Results:
    """Measure cases in order until `seconds` are over, and keep what there is in `out` after each.

    `timers` has one for "device" and one for "host", which times the family "dispatch". `who` says who is measured on
    a case. `speeds` measures what results are compared with, before the cases and after them. A case once begun is
    finished, so leave room for one.
    """
    end = time.monotonic() + seconds
    results = Results(*origin(device), left=[case.name for case in cases])
    results.anchors += speeds(timers["device"], device)
    if device.type == "cuda":
        results.told |= nvidia_smi()  # now that it has work, as an idle GPU has other clocks
    for number, case in enumerate(cases):
        if time.monotonic() > end:
            results.stopped = f"its {seconds / 60:.3g} minutes were over"
            break
        try:
            timer = timers["host" if case.family == "dispatch" else "device"]
            entries = run_case(case, who(case), timer, device)
        except DeviceLost as failure:
            results.stopped = str(failure)
            _keep(results, out)
            return results
        results.entries += entries
        results.left = [left.name for left in cases[number + 1 :]]
        _keep(results, out)
        tell(_line(results, entries))
    results.anchors += speeds(timers["device"], device)
    _keep(results, out)
    return results


def measure_cuda(quick: bool = False, minutes: float = 8.0, out: Path | None = None) -> Results:
    """All cases on the CUDA device, or with `quick` those of two lengths."""
    return measure(
        suite(quick),
        torch.device("cuda"),
        seconds=60 * minutes,
        timers={"device": on_device, "host": on_host},
        tell=lambda line: print(line, flush=True),
        out=out,
    )


def _keep(results: Results, out: Path | None) -> None:
    if out is not None:
        write(results, out)


def _line(results: Results, entries: Sequence[Entry]) -> str:
    """A case as it is told while the run goes on."""
    found = (f"{e.contender} {cell(results, e) if e.samples else '(' + e.reason[:60] + ')'}" for e in entries)
    return f"{entries[0].case.name}: {', '.join(found)}" if entries else "nobody to measure"


def run_case(case: Case, who: Sequence[Contender], timer: Timer, device: torch.device) -> list[Entry]:
    """Everybody's entry in a case. Raises DeviceLost when the device does not survive a contender."""
    tensors = inputs(case, device)
    judge = Judge(case, tensors)
    entries: list[Entry] = []
    calls: dict[int, Callable[[], object]] = {}
    for number, contender in enumerate(who):
        entry, call = make_ready(case, contender, tensors, judge)
        entries.append(entry)
        if call is None:
            _survived(contender.name, entry)
        else:
            calls[number] = call
    if calls:
        entries = _timed(entries, calls, timer)
    calls.clear()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return entries


def make_ready(
    case: Case, contender: Contender, tensors: Inputs, judge: Judge
) -> tuple[Entry, Callable[[], object] | None]:
    """An entry without samples, and the call to time; None when it declines, fails or is wrong."""
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as said:  # SDPA tells why a kernel declines by warning
        warnings.simplefilter("always")
        try:
            call, found = called(case, contender.prepare(case, tensors), tensors)
            error = judge(found)
        except Exception as failure:
            return Entry(case, contender.name, reason=_reason(failure, said)), None
    first = round(time.perf_counter() - start, 3)
    if error > 1:
        shown = f"wrong: its largest error is {error:.3g} times what is allowed"
        return Entry(case, contender.name, reason=shown, error=min(error, 1e30), first=first), None
    return Entry(case, contender.name, error=error, first=first), call


def called(case: Case, run: Call, tensors: Inputs) -> tuple[Callable[[], object], dict[str, Tensor]]:
    """The call to time, and the results of its first run by name."""

    def forward() -> Tensor:
        with torch.no_grad():
            return run()

    if case.direction == "forward":
        return forward, {"out": forward()}
    leaves = tensors.leaves
    out = run()

    def backward() -> tuple[Tensor, ...]:
        return torch.autograd.grad(out, leaves, tensors.d_out, retain_graph=True)

    def both() -> tuple[Tensor, ...]:
        return torch.autograd.grad(run(), leaves, tensors.d_out)

    call = backward if case.direction == "backward" else both
    gradients = dict(zip(NAMES, call(), strict=False))  # the bias is last, and not in every case
    return call, gradients | ({"out": out.detach()} if case.direction == "both" else {})


def _reason(failure: Exception, said: Sequence[warnings.WarningMessage]) -> str:
    """Why a contender has no result, in a line: its error, and what was warned of before it."""
    kind = "" if isinstance(failure, Declined) else f"{type(failure).__name__}: "
    told = dict.fromkeys([f"{kind}{failure}", *(str(one.message) for one in said)])
    lines = [" ".join(text.split("(Triggered internally")[0].split()) for text in told]
    return " | ".join(line[:300] for line in lines)[:900]


def _survived(name: str, entry: Entry) -> None:
    """Raise DeviceLost when the device cannot go on after a contender failed."""
    try:
        synchronize()
    except Exception as failure:
        raise DeviceLost(f"{name} took the device down in {entry.case.name}: {entry.reason} ({failure})") from failure


def _timed(entries: list[Entry], calls: dict[int, Callable[[], object]], timer: Timer) -> list[Entry]:
    """The entries with the samples of those that can be timed, all in one go."""
    try:
        samples = dict(zip(calls, timer(list(calls.values())), strict=True))
    except Exception as failure:
        reason = f"while timing: {_reason(failure, ())}"
        found = [replace(e, reason=reason) if i in calls else e for i, e in enumerate(entries)]
        _survived("timing", found[next(iter(calls))])
        return found
    return [replace(e, samples=tuple(samples[i])) if i in samples else e for i, e in enumerate(entries)]
