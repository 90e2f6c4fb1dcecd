"""`attnkit bench`: measure, print the table, keep the samples."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class What(StrEnum):
    """What can be measured."""

    attention = "attention"
    grade = "grade"
    all = "all"


def bench(
    what: Annotated[What, typer.Argument(help="What to measure.")] = What.all,
    out: Annotated[Path | None, typer.Option(help="Also write the raw samples to this JSON file.")] = None,
    threads: Annotated[int, typer.Option(help="Threads for torch; 0 leaves its own choice.")] = 0,
) -> None:
    """Measure speed and memory beside a peer, both in one run; prints medians, ratios and goals.

    A missed goal is shown as such and is no error: machines differ, and a measurement is not a test.
    """
    import torch

    from attnkit.bench.report import Row, as_json, as_table, stamp

    if threads:
        torch.set_num_threads(threads)
    rows: list[Row] = []
    if what in (What.attention, What.all):
        from attnkit.bench import attention

        rows += attention.suite()
    if what in (What.grade, What.all):
        from attnkit.bench import grading

        rows += grading.suite()
    where = stamp()
    print(f"{where.processor}, {where.cores} cores, torch {where.versions['torch']}, {where.date}\n")
    print(as_table(rows))
    if out is not None:
        out.write_text(as_json(rows, where), "utf-8")
        print(f"\nRaw samples: {out}")
