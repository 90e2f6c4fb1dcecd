"""The results as Markdown: where they come from, the goals, each case, and who was not timed and why."""

from __future__ import annotations

import statistics

from attnkit.bench.gpu.cases import Case
from attnkit.bench.gpu.goals import MADE_FOR, Reached, reached
from attnkit.bench.gpu.results import Entry, Results
from attnkit.bench.gpu.timing import data_sheet

NOTHING = "–"


def as_report(results: Results) -> str:
    """Everything there is to read."""
    parts = [as_sentence(results), goal_table(results), case_table(results), reasons(results)]
    if results.stopped:
        parts.append(f"The run ended early: {results.stopped}. Not measured: {'; '.join(results.left) or 'nothing'}.")
    if MADE_FOR not in results.told["device"]:
        parts.append(f"The goals were set for an {MADE_FOR}; on another device they are for orientation.")
    return "\n\n".join(part for part in parts if part)


def as_sentence(results: Results) -> str:
    """The origin, to stand above the tables."""
    told, versions = results.told, results.stamp.versions
    first = (
        f"{told['device']}, driver {told.get('driver', 'none')}, torch {versions['torch']}, CUDA {versions['cuda']}, "
        f"cuDNN {versions['cudnn']}, triton {versions['triton']}, {results.stamp.date}, commit {told['commit']}, "
        f"kernels {told['kernels']}"
    )
    sheet = data_sheet(told["device"])
    speeds = [
        "" if results.matmul is None else f"cuBLAS bfloat16 {results.matmul:.0f} TFLOPS",
        "" if results.copy is None else f"copy {results.copy:.2f} TB/s",
        "" if sheet is None else f"memory {sheet:g} TB/s by the data sheet",
    ]
    stale = "STALE: the kernels were changed since." if results.stale else ""
    return ". ".join(x for x in (first, "; ".join(x for x in speeds if x), stale) if x)


def goal_table(results: Results) -> str:
    """The geometric mean of each ratio, of its plain and its causal cases, the worst case, and the goals."""
    lines = [
        "| ours | mean | plain | causal | worst | cases | must | good | reached |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(_goal_line(one) for one in reached(results))])


def _goal_line(one: Reached) -> str:
    def shown(x: float | None) -> str:
        return NOTHING if x is None else f"{x:.2f}" if one.goal.peers else f"{x:.0f} %"

    worst = NOTHING if one.worst is None else f"{shown(one.worst[1])} ({one.worst[0].name})"
    cells = [
        one.goal.name,
        *(shown(x) for x in (one.mean, one.plain, one.causal)),
        worst,
        f"{len(one.values)} of {one.cases_in_all}",
        *(shown(x) for x in one.goal.aims or (None, None)),
        one.verdict,
    ]
    return f"| {' | '.join(cells)} |"


def case_table(results: Results) -> str:
    """Each case's rate by each contender: TFLOPS and per cent of the product, TB/s for decoding, µs for dispatch."""
    names = list(dict.fromkeys(entry.contender for entry in results.entries))
    lines = [f"| case | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for case in results.cases():
        cells = (cell(results, results.find(case, name)) for name in names)
        lines.append(f"| {case.name} | {' | '.join(cells)} |")
    return "\n".join(lines) if names else ""


def cell(results: Results, entry: Entry | None) -> str:
    """One contender in one case: the median rate, half the interquartile range, and what that is of the machine's."""
    if entry is None or not entry.samples:
        return NOTHING
    if entry.case.family == "dispatch":
        return _with_spread([1e3 * x for x in entry.samples], 1) + " µs"
    if entry.case.family == "decode":
        return _with_spread(_rates(entry, entry.case.cache_bytes), 2) + f" TB/s{_shares(results, entry)}"
    share = "" if results.matmul is None else f" ({_rate(entry, entry.case.flop) / results.matmul:.0%})"
    return _with_spread(_rates(entry, entry.case.flop), 0) + share


def _rates(entry: Entry, amount: float) -> list[float]:
    """10^12 a second, of each sample."""
    return [amount / milliseconds / 1e9 for milliseconds in entry.samples]


def _rate(entry: Entry, amount: float) -> float:
    return amount / entry.median / 1e9


def _shares(results: Results, entry: Entry) -> str:
    """Of the copy's bandwidth and of the data sheet's, as far as they are known."""
    rate, sheet = _rate(entry, entry.case.cache_bytes), data_sheet(results.told["device"])
    told = [
        "" if results.copy is None else f"{rate / results.copy:.0%} of a copy",
        "" if sheet is None else f"{rate / sheet:.0%} of the data sheet",
    ]
    told = [x for x in told if x]
    return f" ({', '.join(told)})" if told else ""


def _with_spread(values: list[float], digits: int) -> str:
    middle = f"{statistics.median(values):.{digits}f}"
    if len(values) < 4:
        return middle
    low, _, high = statistics.quantiles(values, n=4)
    return f"{middle} ± {(high - low) / 2:.{max(digits, 1)}f}"


def reasons(results: Results) -> str:
    """Who was not timed, and why: one line for each contender and reason, with the cases it holds for."""
    found: dict[tuple[str, str], list[Case]] = {}
    for entry in results.entries:
        if not entry.samples:
            found.setdefault((entry.contender, entry.reason), []).append(entry.case)
    lines = [
        f"- {name}, in {len(cases)} ({cases[0].name}{', ...' if len(cases) > 1 else ''}): {reason}"
        for (name, reason), cases in found.items()
    ]
    return "\n".join(["Not timed:", "", *lines]) if lines else ""
