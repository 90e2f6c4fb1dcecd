"""The run of the GPU bench, on a CPU: it times, lists, keeps and stops as it should. How fast, is not tested."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend

from attnkit.bench.gpu import contenders as who
from attnkit.bench.gpu import results, run, timing
from attnkit.bench.gpu.cases import Case, Inputs
from attnkit.bench.gpu.contenders import Contender
from attnkit.bench.gpu.tables import as_report, case_table, reasons
from tests.bench.gpu_tools import (
    CASES,
    CPU,
    MATH,
    clockwork,
    measured,
    named,
    wrong,
)

pytestmark = pytest.mark.slow

# Timing


def test_timers_give_each_call_its_own_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def takes(seconds: float) -> Callable[[], None]:
        return lambda: now.__setitem__(0, now[0] + seconds)

    found = timing.on_host([takes(0.001), takes(0.004), takes(0.009)], rounds=3)
    assert found == [pytest.approx([x] * 3) for x in (1.0, 4.0, 9.0)]


def test_interleaving_goes_there_and_back() -> None:
    said: list[str] = []
    order = timing.interleave([lambda: said.append("a"), lambda: said.append("b")], 3, lambda call: call())
    assert "".join(said) == "abbaab"
    assert order == [0, 1, 1, 0, 0, 1]


def test_a_device_is_timed_by_its_events_after_the_cache_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device made of a clock: an event holds the time at which it was recorded."""
    now, done = [0.0], [False]

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at = now[0]

        def elapsed_time(self, end: Event) -> float:
            assert done[0], "the device was waited for"
            return end.at - self.at

    class Flush:
        def zero_(self) -> None:
            now[0] += 1000.0

    def takes(milliseconds: float) -> Callable[[], None]:
        def call() -> None:
            now[0] += milliseconds
            said.append(milliseconds)

        return call

    said: list[float] = []
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: done.__setitem__(0, True))
    monkeypatch.setattr(timing, "_flush", Flush)
    found = timing.on_device([takes(4.0), takes(8.0)])
    assert found == [[4.0] * 20, [8.0] * 20]
    assert said.count(4.0) == 2 + 3 + 20, "warmed up, tried, measured"


def test_slow_calls_get_fewer_rounds() -> None:
    assert timing.rounds_for([0.1, 0.1]) == timing.MOST
    assert timing.rounds_for([4.0, 8.0]) == 20
    assert timing.rounds_for([500.0]) == timing.LEAST


def test_anchors_are_rates() -> None:
    product, copy = timing.anchors(lambda calls: [[2.0, 4.0, 3.0]], CPU, side=4, size=300)
    assert product.rate == pytest.approx(2 * 4**3 / 3e-3 / 1e12)
    assert copy.rate == pytest.approx(600 / 3e-3 / 1e12)


def test_the_data_sheet_is_asked_by_the_whole_name() -> None:
    assert timing.data_sheet("NVIDIA H200") == 4.8
    assert timing.data_sheet("Tesla T4") == 0.32
    assert timing.data_sheet("NVIDIA H200 NVL") is None


# The run


def test_a_run_from_end_to_end(tmp_path: Path) -> None:
    lines: list[str] = []
    found = measured(CASES, who.ours("online"), MATH, tell=lines.append, out=tmp_path / "found" / "cpu.json")
    assert found.cases() == CASES
    assert len(lines) == len(CASES)
    assert all(entry.samples and entry.error is not None and entry.error <= 1 for entry in found.entries)
    assert [entry.median for entry in found.entries[:2]] == [1.0, 2.0]
    assert not found.left
    assert not found.stopped
    assert len(found.anchors) == 4, "before and after"
    assert results.read(tmp_path / "found" / "cpu.json") == found
    report = as_report(found)
    assert all(case.name in report for case in CASES)
    assert "Not timed" not in report


def failing(case: Case, tensors: Inputs) -> Callable[[], Tensor]:
    raise RuntimeError("no kernel\n  for this")


def test_who_fails_declines_or_is_wrong_is_listed_and_not_timed() -> None:
    def declining(case: Case, tensors: Inputs) -> Callable[[], Tensor]:
        raise who.Declined("too large")

    def late(case: Case, tensors: Inputs) -> Callable[[], Tensor]:
        def call() -> Tensor:
            torch.empty(1).expand(2).view(-1).sum()
            raise ValueError("only when called")

        return call

    everybody = [
        MATH, Contender("failing", failing), Contender("declining", declining), Contender("late", late),
        wrong(lambda x: 2 * x), who.sdpa("sdpa-cudnn", SDPBackend.CUDNN_ATTENTION),
    ]  # fmt: skip
    found = measured(CASES[:2], *everybody)
    told = {entry.contender: entry.reason for entry in found.entries[:6]}
    assert [entry.contender for entry in found.entries if entry.samples] == ["math"] * 2
    assert told["failing"] == "RuntimeError: no kernel for this"
    assert told["declining"] == "too large"
    assert told["late"] == "ValueError: only when called"
    assert re.fullmatch(r"wrong: its largest error is [\d.e+]+ times what is allowed", told["wrong"])
    assert re.match("RuntimeError: No (viable backend|available kernel)", told["sdpa-cudnn"])
    text = reasons(found)
    assert f"- failing, in 2 ({CASES[0].name}, ...): RuntimeError: no kernel for this" in text
    assert f"- declining, in 2 ({CASES[0].name}, ...): too large" in text
    assert "| – |" in case_table(found)


def test_what_is_warned_of_is_part_of_the_reason() -> None:
    def warning(case: Case, tensors: Inputs) -> Callable[[], Tensor]:
        import warnings

        warnings.warn("the mask is in the way (Triggered internally at x.cpp:99.)", stacklevel=1)
        raise RuntimeError("no kernel")

    found = measured(CASES[:1], Contender("warning", warning))
    assert found.entries[0].reason == "RuntimeError: no kernel | the mask is in the way"


def test_a_failure_while_timing_is_told_of_all_that_were_timed() -> None:
    def broken(calls: timing.Calls) -> list[list[float]]:
        raise RuntimeError("out of memory")

    entries = run.run_case(CASES[0], [MATH, Contender("failing", failing)], broken, CPU)
    assert [e.reason for e in entries] == [
        "while timing: RuntimeError: out of memory",
        "RuntimeError: no kernel for this",
    ]


def test_a_run_stops_when_its_time_is_over_and_says_what_is_left(tmp_path: Path) -> None:
    found = measured(CASES[:3], MATH, seconds=-1.0, out=tmp_path / "x.json")
    assert not found.entries
    assert found.left == [case.name for case in CASES[:3]]
    assert found.stopped
    assert results.read(tmp_path / "x.json").left == found.left
    assert f"Not measured: {CASES[0].name}; " in as_report(found)


def test_what_was_measured_is_kept_when_the_run_is_cut(tmp_path: Path) -> None:
    """Also when something beyond our own care ends it in the second case."""
    seen: list[Case] = []

    def cut(case: Case) -> list[Contender]:
        seen.append(case)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return [MATH]

    with pytest.raises(KeyboardInterrupt):
        run.measure(
            CASES, CPU, seconds=60.0, timers={"device": clockwork, "host": clockwork}, who=cut,
            speeds=lambda timer, device: [], tell=lambda line: None, out=tmp_path / "x.json",
        )  # fmt: skip
    found = results.read(tmp_path / "x.json")
    assert found.cases() == CASES[:1]
    assert found.left == [case.name for case in CASES[1:]]


def test_a_lost_device_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> None:
        raise RuntimeError("illegal memory access")

    monkeypatch.setattr(run, "synchronize", lost)
    found = measured(CASES[:3], Contender("failing", failing))
    assert "failing took the device down" in found.stopped
    assert found.left == [case.name for case in CASES[:3]]


def test_dispatch_is_timed_on_the_host() -> None:
    used: list[str] = []

    def timer(name: str) -> timing.Timer:
        return lambda calls: (used.append(name), clockwork(calls))[1]

    run.measure(
        [named("forward, B4"), named("dispatch")], CPU, seconds=60.0, timers={n: timer(n) for n in ("device", "host")},
        who=lambda case: [MATH], speeds=lambda timer, device: [], tell=lambda line: None,
    )  # fmt: skip
    assert used == ["device", "host"]
