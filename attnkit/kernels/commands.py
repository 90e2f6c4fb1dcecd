"""`attnkit kernels`: what the fused kernels ask of a chip, found without one."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer


def kernels(
    resources: Annotated[bool, typer.Option("--resources", help="Compile every shipped tile.")] = False,
    sm: Annotated[int, typer.Option(help="Only for this chip: 75, 80, 86, 89 or 90; 0 for all.")] = 0,
    everything: Annotated[bool, typer.Option("--all", help="Also what is left out for time; takes an hour.")] = False,
    jobs: Annotated[int, typer.Option(help="How many compilers run at once; 0: one for each core.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Also write what was found to this JSON file.")] = None,
    record: Annotated[bool, typer.Option("--record", help="Also keep it as resources.json and in README.md.")] = False,
) -> None:
    """Registers, shared memory and tensor core instructions of the fused kernels; no GPU is needed.

    Without --resources it prints what was recorded last. With it, it compiles, and exits with 1 when a kernel must not
    be shipped: it spills, misses the tensor cores, makes wgmma wait, or is too large for the chip's shared memory.
    """
    from attnkit.kernels import aot_report

    if not resources:
        found, stamp = aot_report.read_record()
        print(f"Recorded with triton {stamp['triton']}:\n")
        print(aot_report.as_table([compiled for compiled in found if sm in (0, compiled.case.sm)]))
        return
    if record and (sm or everything):
        sys.exit("attnkit: --record keeps a whole run: leave out --sm and --all")
    found, seconds = _compile(sm, everything, jobs)
    print(aot_report.as_table(found) + "\n")
    print(aot_report.summary(found, seconds))
    if out is not None:
        out.write_text(aot_report.as_json(found), "utf-8")
    if record:
        aot_report.record(found)
    _fail_on_problems(found)


def _compile(sm: int, everything: bool, jobs: int) -> tuple[list, float]:
    """The kernels that were asked for, compiled, and how long it took; the count goes to standard error."""
    from attnkit.kernels import aot, aot_cases

    cases = [
        case for case in (aot_cases.every_case() if everything else aot_cases.shipped_cases()) if sm in (0, case.sm)
    ]
    if not cases:
        sys.exit(f"attnkit: --sm {sm}: there are no tiles for it; try 75, 80, 86, 89 or 90")
    start, done = time.perf_counter(), 0

    def tell(compiled: aot.Compiled) -> None:
        nonlocal done
        done += 1
        print(f"\r{done} kernels of {len(cases)} cases", end="", file=sys.stderr, flush=True)

    try:
        found = aot.compile_all(cases, jobs, tell)
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        sys.exit("attnkit: this needs 'triton', which is not installed. Run: pip install 'attnkit[fused]'")
    print(file=sys.stderr)
    return found, time.perf_counter() - start


def _fail_on_problems(found: list) -> None:
    """Exit with 1 and name each kernel that must not be shipped."""
    from attnkit.kernels.aot import problems

    bad = [(compiled, words) for compiled in found if (words := problems(compiled))]
    for compiled, words in bad:
        case = compiled.case
        print(
            f"sm_{case.sm} {case.dtype} {compiled.name} width {case.width} {case.variant} {compiled.tile}: "
            + "; ".join(words),
            file=sys.stderr,
        )
    if bad:
        sys.exit(1)
