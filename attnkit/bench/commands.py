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


class Device(StrEnum):
    """Where attention is measured; everything else is measured on the CPU."""

    every = "every"
    cpu = "cpu"
    cuda = "cuda"


def bench(
    what: Annotated[What, typer.Argument(help="What to measure.")] = What.all,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Also write the raw samples to this JSON file; a GPU's go beside it under the device's name, "
            "or with --device cuda to the file itself."
        ),
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads for both sides; 0: as many as torch takes.")] = 0,
    device: Annotated[
        Device, typer.Option(help="Where attention is measured: the CPU, the GPU, or every one that is there.")
    ] = Device.every,
    quick: Annotated[bool, typer.Option("--quick", help="On a GPU: a first look, at two lengths.")] = False,
    minutes: Annotated[float, typer.Option(help="On a GPU: begin no case after so many minutes.")] = 8.0,
    students: Annotated[int, typer.Option(min=1, help="For grade: how many submissions the class has.")] = 200,
    nbgrader_python: Annotated[
        Path | None, typer.Option(help="For grade: the Python of an environment with nbgrader and torch.")
    ] = None,
    otter_python: Annotated[
        Path | None, typer.Option(help="For grade: the Python of an environment with otter-grader and torch.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Measure nothing; say which kept results of GPUs the kernels outdate.")
    ] = False,
) -> None:
    """Measure speed and memory beside a peer, both in one run; prints medians, ratios and goals.

    A missed goal is shown as such and is no error: machines differ, and a measurement is not a test.
    """
    if check:
        raise typer.Exit(_check())
    _measure_gpu(what, out, device, quick, minutes)
    if device != Device.cuda:
        _measure_cpu(what, out, threads, (students, nbgrader_python, otter_python))


def _measure_gpu(what: What, out: Path | None, device: Device, quick: bool, minutes: float) -> None:
    """Attention on the GPU, if it is asked for and there is one: first, since a lent machine's time is short."""
    if what not in (What.attention, What.all) or device == Device.cpu:
        if device == Device.cuda:
            raise typer.BadParameter(f"only attention is measured on a GPU, not {what}", param_hint="--device")
        return
    import torch

    if not torch.cuda.is_available():
        if device == Device.cuda:
            raise typer.BadParameter("torch finds no CUDA device here", param_hint="--device")
        return
    from attnkit.bench.gpu.origin import name_of, slug
    from attnkit.bench.gpu.run import measure_cuda
    from attnkit.bench.gpu.tables import as_report

    if out is not None and device == Device.every:
        out = out.with_name(f"{slug(name_of(torch.device('cuda')))}.json")
    print("\n" + as_report(measure_cuda(quick, minutes, out)) + "\n")
    if out is not None:
        print(f"Raw samples: {out}\n")


def _measure_cpu(what: What, out: Path | None, threads: int, graded: tuple[int, Path | None, Path | None]) -> None:
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

        rows += grading.suite(*graded)
    where = stamp()
    print(as_sentence(where) + "\n")
    print(as_table(rows))
    if out is not None:
        out.write_text(as_json(rows, where), "utf-8")
        print(f"\nRaw samples: {out}")


def _check() -> int:
    """Say of each kept measurement of a GPU whether the kernels are still those it measured; 1 when any is stale."""
    from attnkit.bench.gpu.results import kept

    found = kept()
    for path, results in found.items():
        print(f"{path.name}: {results.told['device']}, {results.stamp.date}: {'STALE' if results.stale else 'current'}")
    if not found:
        print("No GPU has been measured, so nothing is claimed of one.")
    return int(any(results.stale for results in found.values()))
