"""Executes the chapters that changed, in parallel, strictly: a warning on stderr or a missing exception is an error."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from time import perf_counter

from nbclient.exceptions import CellControlSignal, CellExecutionError, DeadKernelError
from nbformat import NotebookNode

from attnkit.authoring.chapters import Chapter, running_order
from attnkit.authoring.notebook import dumps, execute, execution_environment, read_myst

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_DURATIONS = Path(".cache") / "durations.json"
Say = Callable[[str], None]


class ChapterError(RuntimeError):
    """A chapter did not run; the message says which page, which cell and what to do."""


def refresh(chapters: Sequence[Chapter], jobs: int | None = None, say: Say = print) -> list[str]:
    """Execute those chapters whose cells or imported code changed; return their names in order of finishing.

    `jobs` run at a time, as many as there are cores if None; those that took longest last time start first.
    """
    stale = by_duration([chapter for chapter in chapters if not chapter.is_current])
    if not stale:
        return []
    done: list[str] = []
    failures: list[str] = []
    # The kernels are the processes; a thread only waits for one. The environment is set here, once for all threads,
    # since each of them would otherwise put back what another still needs.
    with execution_environment(), ThreadPoolExecutor(max_workers=jobs or cores()) as pool:
        running = {pool.submit(run_to_file, c.path, c.executed_path): c for c in stale}
        for future in as_completed(running):
            chapter = running[future]
            try:
                seconds = future.result()
            except ChapterError as error:
                failures.append(str(error))
                continue
            done.append(chapter.name)
            say(f"executed {chapter.name} in {seconds:.1f} s ({len(done)} of {len(stale)})")
            _remember(chapter, seconds)
            _forget_older(chapter)
    if failures:
        raise ChapterError("\n\n".join(failures))
    return done


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def durations(root: Path) -> dict[str, float]:
    """How many seconds each chapter took when it last ran here."""
    try:
        return json.loads((root / _DURATIONS).read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def by_duration(chapters: Sequence[Chapter]) -> list[Chapter]:
    """Longest first, so that no core waits for the last one; what has never run comes before everything."""
    known = durations(chapters[0].root) if chapters else {}
    return sorted(chapters, key=lambda chapter: -known.get(chapter.name, float("inf")))


def run_to_file(source: Path, target: Path) -> float:
    """Execute the page `source` and keep the notebook at `target`; return the seconds it took."""
    start = perf_counter()
    nb = run_strictly(source)
    seconds = perf_counter() - start
    nb.metadata["attnkit"] = NotebookNode(seconds=round(seconds, 3))
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, suffix=".part")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(dumps(nb))
    Path(temporary).replace(target)  # a killed run leaves no half-written notebook
    return seconds


def run_strictly(source: Path) -> NotebookNode:
    """The executed notebook of the page `source`, or a ChapterError that names the cell at fault.

    The cells run in the order of the twin (see `running_order`), so that a run of the page is a run of its twin.
    """
    nb = read_myst(source)
    ordered = NotebookNode({**nb, "cells": [nb.cells[place] for place in running_order(nb)]})
    try:
        execute(ordered, cwd=source.parent)
    except CellExecutionError as error:
        index = next((i for i, cell in enumerate(nb.cells) if _raised(cell)), None)
        raise ChapterError(_describe(source, nb, index, f"{error.ename}: {error.evalue}")) from None
    except (CellControlSignal, DeadKernelError) as error:
        index = next((i for i, cell in enumerate(nb.cells) if _waiting(cell)), None)
        raise ChapterError(_describe(source, nb, index, f"{type(error).__name__}: {error}")) from None
    for index, cell in enumerate(nb.cells):
        fault = cell_fault(cell)
        if fault:
            raise ChapterError(_describe(source, nb, index, fault))
    return nb


def cell_fault(cell: NotebookNode) -> str:
    """What is wrong with an executed cell although it did not stop the run, or ""."""
    if cell.cell_type != "code":
        return ""
    if cell.execution_count is None:
        return "did not run: no cell of the book may be left out"
    stderr = "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stderr")
    if stderr:
        return f"wrote to stderr, which readers would see as a warning:\n{stderr.strip()}"
    expected = "raises-exception" in cell.metadata.get("tags", [])
    if expected and not _raised(cell):
        return "is tagged raises-exception but raised nothing"
    return ""


def _raised(cell: NotebookNode) -> bool:
    return any(output.output_type == "error" for output in cell.get("outputs", []))


def _waiting(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and cell.execution_count is None


def _remember(chapter: Chapter, seconds: float) -> None:
    known = {**durations(chapter.root), chapter.name: round(seconds, 3)}
    part = (chapter.root / _DURATIONS).with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(known, indent=1, sort_keys=True), "utf-8")
    part.replace(chapter.root / _DURATIONS)


def _describe(source: Path, nb: NotebookNode, index: int | None, what: str) -> str:
    if index is None:
        return f"{source}: {what}"
    code = nb.cells[index].source
    number = sum(cell.cell_type == "code" for cell in nb.cells[: index + 1])
    line = _line_of(source, code)
    shown = "\n".join(f"    {text}" for text in code.splitlines()[:12])
    return (
        f"{source}:{line}: code cell {number} failed\n{shown}\n  {_COLOURS.sub('', what)}\n"
        "  Mend the cell, or the attnkit function that it calls, then run: attnkit book build"
    )


def _line_of(source: Path, code: str) -> int:
    text = source.read_text("utf-8")
    at = text.find(code)
    return text.count("\n", 0, at) + 1 if at >= 0 else 1


def _forget_older(chapter: Chapter) -> None:
    keep = chapter.executed_path
    stem = keep.name.split(".")[0]
    for path in keep.parent.glob(f"{stem}.*.ipynb"):
        if path != keep:
            path.unlink(missing_ok=True)
