"""What ours should reach on an H200, and what it reached: geometric means over cases, and the worst case of each."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from attnkit.bench.gpu.cases import Case, Direction, Family, suite
from attnkit.bench.gpu.contenders import CUDNN, EFFICIENT, FLASH, OURS
from attnkit.bench.gpu.results import Results
from attnkit.bench.gpu.timing import data_sheet

SDPA = (FLASH, CUDNN, EFFICIENT)  # the fastest of them counts
LEAST_LENGTH = 2048  # of dense cases that count; a shorter one is mostly launch
MADE_FOR = "H200"


@dataclass(frozen=True)
class Goal:
    """A comparison over some cases. `aims`, what it must reach and what is good, are times as fast as the fastest peer.

    Without peers they are per cent of the memory's bandwidth. Without aims the comparison is only told.
    """

    name: str
    family: Family
    directions: tuple[Direction, ...]
    d: int | None = None
    peers: tuple[str, ...] = ()
    aims: tuple[float, float] | None = None

    def covers(self, case: Case) -> bool:
        """Does a case count towards this?"""
        fits = case.family == self.family and case.direction in self.directions and self.d in (None, case.d)
        return fits and (case.family != "dense" or case.k_len >= LEAST_LENGTH)


def _dense(direction: Direction, d: int, peer: str, aims: tuple[float, float] | None = None) -> Goal:
    return Goal(f"{direction} D{d} against {peer}", "dense", (direction,), d, (peer,), aims)


GOALS = (
    _dense("forward", 128, FLASH, (1.20, 1.30)),
    _dense("forward", 128, CUDNN, (0.70, 0.78)),
    _dense("forward", 128, "flex", (1.00, 1.15)),
    _dense("forward", 64, FLASH, (1.20, 1.25)),
    _dense("forward", 64, CUDNN, (0.95, 1.00)),
    _dense("forward", 64, "flex"),
    _dense("backward", 64, FLASH, (1.00, 1.15)),
    _dense("backward", 64, CUDNN),
    _dense("backward", 64, "flex"),
    _dense("backward", 128, FLASH, (0.95, 1.10)),
    _dense("backward", 128, CUDNN),
    _dense("backward", 128, "flex"),
    Goal("window against SDPA with a mask", "window", ("forward", "backward"), None, SDPA, (6.0, 8.0)),
    Goal("window against flex", "window", ("forward", "backward"), None, ("flex",)),
    Goal("half padding against SDPA with a mask", "padding", ("forward", "backward"), None, SDPA),
    Goal("learned bias, forward + backward, against sdpa-efficient", "bias", ("both",), None, (EFFICIENT,), (1.2, 1.5)),
    Goal("decode, % of the memory's bandwidth", "decode", ("forward",), None, (), (60.0, 75.0)),
)


class Reached(NamedTuple):
    """A goal with what was measured. `causal` and `plain` are the geometric means over those cases alone.

    `missing` are cases in which the peer was timed and ours was not: then nothing was reached.
    """

    goal: Goal
    values: dict[Case, float]
    missing: list[Case]

    @property
    def cases_in_all(self) -> int:
        """How many cases of the whole suite count, measured or not."""
        return sum(map(self.goal.covers, suite()))

    @property
    def mean(self) -> float | None:
        return geometric_mean(list(self.values.values()))

    @property
    def plain(self) -> float | None:
        return geometric_mean([x for case, x in self.values.items() if not case.causal])

    @property
    def causal(self) -> float | None:
        return geometric_mean([x for case, x in self.values.items() if case.causal])

    @property
    def worst(self) -> tuple[Case, float] | None:
        return min(self.values.items(), key=lambda item: item[1]) if self.values else None

    @property
    def verdict(self) -> str:
        """ "good", "must", "missed"; nothing where there is no goal or no measurement."""
        if self.goal.aims is None:
            return ""
        if self.missing:
            return f"missed: ours has no time in {len(self.missing)} of the cases"
        if self.mean is None:
            return "not measured"
        must, good = self.goal.aims
        return "good" if self.mean >= good else "must" if self.mean >= must else "missed"


def geometric_mean(values: Sequence[float]) -> float | None:
    """Of positive numbers; None of none."""
    return math.exp(statistics.fmean(math.log(x) for x in values)) if values else None


def reached(results: Results, goals: Sequence[Goal] = GOALS) -> list[Reached]:
    """Every goal with its values."""
    return [_reached(results, goal) for goal in goals]


def _reached(results: Results, goal: Goal) -> Reached:
    values: dict[Case, float] = {}
    missing = []
    for case in filter(goal.covers, results.cases()):
        own, peers = results.timed(case, OURS), results.timed(case, *goal.peers)
        if goal.peers and not peers:
            continue
        if own:
            values[case] = _value(results, case, own[0].median, [peer.median for peer in peers])
        else:
            missing.append(case)
    return Reached(goal, values, missing)


def _value(results: Results, case: Case, own: float, peers: list[float]) -> float:
    """Times as fast as the fastest peer, or per cent of the bandwidth."""
    return min(peers) / own if peers else 100 * bandwidth_share(results, case, own)


def bandwidth_share(results: Results, case: Case, milliseconds: float) -> float:
    """The speed at which keys and values were read, as a share of the data sheet's.

    NaN where the data sheet is not known and nothing was copied either; of the copy's speed where only that is known.
    """
    whole = data_sheet(results.told["device"]) or results.copy or math.nan
    return case.cache_bytes / milliseconds / 1e9 / whole
