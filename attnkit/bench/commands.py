"""`attnkit bench`: measure, print the table, keep the samples."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class What(StrEnum):
    """What can be measured."""

    attention = "attention"
    library = "library"
    lab = "lab"
    grade = "grade"
    all = "all"


def bench(
    what: Annotated[What, typer.Argument(help="What to measure.")] = What.all,
    out: Annotated[Path | None, typer.Option(help="Also write the raw samples to this JSON file.")] = None,
    threads: Annotated[int, typer.Option(help="Threads for both sides; 0: as many as torch takes.")] = 0,
) -> None:
    """Measure speed and memory beside a peer, both in one run; prints medians, ratios and goals.

    A missed goal is shown as such and is no error: machines differ, and a measurement is not a test.
    """
    import torch

    from attnkit.bench.report import Row, as_json, as_sentence, as_table, stamp

    # Said outright even where it is torch's own choice: the libraries below torch (MKL) then use that number too,
    # where they would otherwise decide anew for each product, and differently for the two sides of a ratio.
    torch.set_num_threads(threads or torch.get_num_threads())
    rows: list[Row] = []
    if what in (What.attention, What.all):
        from attnkit.bench import attention

        rows += attention.suite()
    if what in (What.library, What.all):
        from attnkit.bench import library

        rows += library.suite()
    if what in (What.lab, What.all):
        from attnkit.bench import lab

        rows += lab.suite()
    if what in (What.grade, What.all):
        from attnkit.bench import grading

        rows += grading.suite()
    where = stamp()
    print(as_sentence(where) + "\n")
    print(as_table(rows))
    if out is not None:
        out.write_text(as_json(rows, where), "utf-8")
        print(f"\nRaw samples: {out}")
