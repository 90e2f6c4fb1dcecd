"""The file to hand in: looked at as the grader will see it, written beside the notebook, and what to say about it.

The notebook itself is the file where it can be found and holds what was run. Otherwise the file is made of the cells
that were run in this kernel, with the text cells of the notebook if there are any.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnkit.lab import kernel
from attnkit.lab.bank import LabSpec
from attnkit.lab.question import Question
from attnkit.lab.reading.cells import Cell, choose, plan, read_cells
from attnkit.lab.reading.leftout import undefined
from attnkit.lab.reading.notebook import MAX_CELLS, MAX_SOURCE, NotANotebook, TextCell, code_sources, text_cells
from attnkit.lab.reading.words import find_answer

# The grader takes up to 10 MiB; pictures in outputs, which count for nothing, may make a notebook larger.
MAX_FILE = 8 * 2**20


@dataclass
class HandIn:
    """What was found and done. `path` is the file that was written, or None; `trouble` is one sentence each."""

    path: Path | None = None
    offered: bool = False
    trouble: list[str] = field(default_factory=list)
    empty: bool = False


def prepare(spec: LabSpec) -> HandIn:
    """Look at the answers of the notebook around us, write the file and offer it. Never raises."""
    done = HandIn()
    try:
        data = _contents(spec, done)
    except Exception as error:  # whatever a notebook may hold: the file that the student has is still there
        done.trouble.append(f"The notebook could not be looked at ({type(error).__name__}): hand in its saved file.")
        return done
    if done.empty:
        return done
    path = Path(f"{re.sub(r'[^A-Za-z0-9_-]', '_', spec.name)}-hand-in.ipynb")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        why = error.strerror or type(error).__name__
        done.trouble.append(f"{path} could not be written here ({why}): save the notebook and hand in that file.")
        return done
    done.path, done.offered = path, kernel.offer(path)
    return done


def _contents(spec: LabSpec, done: HandIn) -> bytes:
    """The bytes of the file to hand in; what is wrong with it goes to `done`."""
    ran = _without_older(read_cells(_fitting(kernel.executed())), spec)
    found = _Notebook.of(kernel.saved(spec.name), spec)
    texts: Sequence[TextCell] = found.texts if found else ()
    if found is not None:
        other = [name for name in _coded(spec) if _differs(name, found.cells, ran)]
        if not other:
            done.trouble += _trouble(spec, found.cells, texts, has_texts=True)
            done.empty = _nothing(spec, found.cells, texts)
            return found.data if len(found.data) <= MAX_FILE else _without_outputs(found.data)
        done.trouble.append(_save_first(other, found.live))
    done.trouble += _trouble(spec, ran, texts, has_texts=found is not None)
    done.empty = _nothing(spec, ran, texts)
    sources = _fitting(kernel.executed())
    return _made(_text_cells_of(found), [sources[cell.index - 1] for cell in ran])


@dataclass(frozen=True)
class _Notebook:
    """The notebook's file, taken apart."""

    data: bytes
    live: bool
    cells: list[Cell]
    texts: list[TextCell]

    @classmethod
    def of(cls, saved: kernel.Saved | None, spec: LabSpec) -> _Notebook | None:
        """None for a file that cannot be read, and for one in which nobody has written: another copy is being used."""
        try:
            if saved is None:
                return None
            made = cls(saved.data, saved.live, read_cells(code_sources(saved.data)), text_cells(saved.data))
        except NotANotebook:
            return None
        return None if saved.guessed and _nothing(spec, made.cells, made.texts) else made


def _coded(spec: LabSpec) -> list[str]:
    return [question.name for question in spec.questions.values() if not question.manual]


def _nothing(spec: LabSpec, cells: list[Cell], texts: Sequence[TextCell]) -> bool:
    """Whether no question is answered."""
    return not any(
        any(find_answer(texts, question.name)) if question.manual else not plan(cells, question.name).blank
        for question in spec.questions.values()
    )


# --- what was run -----------------------------------------------------------------------------------------------------


def _fitting(sources: list[str]) -> list[str]:
    """The sources of as many cells as a grader reads, the latest; of cells that were run again the last time counts."""
    last = list(dict.fromkeys(reversed(sources)))
    kept, room = [], MAX_SOURCE
    for source in last[: MAX_CELLS // 2]:
        room -= len(source)
        if room < 0:
            break
        kept.append(source)
    return kept[::-1]


def _without_older(cells: list[Cell], spec: LabSpec) -> list[Cell]:
    """The cells without earlier versions of answers."""
    chosen = {id(cell) for name in _coded(spec) if (cell := choose(cells, name)[0]) is not None}
    asked = set(_coded(spec))
    return [cell for cell in cells if id(cell) in chosen or not cell.questions & asked]


def _differs(name: str, saved: list[Cell], ran: list[Cell]) -> bool:
    """Whether the saved notebook's answer is not the one that was run, or lacks what it leans on."""
    there, here = choose(saved, name)[0], choose(ran, name)[0]
    if here is None:
        return False  # nothing was run that could be lost
    if there is None or _plain(there.source) != _plain(here.source):
        return True
    return bool(undefined(saved, there) - undefined(ran, here))


def _plain(source: str) -> str:
    return "\n".join(line.rstrip() for line in source.strip().splitlines())


def _save_first(names: list[str], live: bool) -> str:
    listed = _listed(names)
    if live:
        return (
            f"What you ran for {listed} is not what the notebook has now: run the changed cells, then this cell again. "
            "The file holds what you ran."
        )
    return (
        f"What you ran for {listed} is not what the saved notebook has: save it first, then run this cell again. "
        "The file holds what you ran."
    )


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


# --- what the grader will find ----------------------------------------------------------------------------------------


def _trouble(spec: LabSpec, cells: list[Cell], texts: Sequence[TextCell], has_texts: bool) -> list[str]:
    """What is wrong with each answer, each with what to do."""
    found: list[str] = []
    for question in spec.questions.values():
        found += _in_words(question, texts, has_texts) if question.manual else _in_code(question.name, cells)
    return found


def _in_words(question: Question, texts: Sequence[TextCell], has_texts: bool) -> Iterable[str]:
    if any(find_answer(texts, question.name)):
        return
    if has_texts:
        yield f"{question.name} is answered in words, and its text cell is empty."
    else:
        yield (
            f"{question.name} is answered in words, and text cells are not seen from here: "
            "hand in the saved notebook itself."
        )


def _in_code(name: str, cells: list[Cell]) -> Iterable[str]:
    how = plan(cells, name)
    if how.blank:
        yield f"{name} is not written yet: run its cell when it is."
        return
    if how.error:
        yield f"{name} cannot be read by Python ({how.error}): mend its cell and run it again."
        return
    chosen, _ = choose(cells, name)
    defined = chosen is not None and chosen.defines(name)
    known = callable(kernel.names().get(name))
    if not defined and not known:
        yield f"{name} is not defined in the cell that is marked `# question: {name}`: define it there."
    elif not known:
        yield f"{name} is in the notebook and was not run: run its cell, then this cell again."
    for note in how.notes:
        more = f" Put the line `# question: {name}` at its top." if "without the comment" in note else ""
        yield f"{name}: {note[0].lower()}{note[1:]}{more}"


# --- the file ---------------------------------------------------------------------------------------------------------


def _text_cells_of(found: _Notebook | None) -> list[dict[str, Any]]:
    """The notebook's text cells as they are, with what is attached to them."""
    cells = json.loads(found.data.decode("utf-8-sig"))["cells"] if found else []
    return [cell for cell in cells if isinstance(cell, dict) and cell.get("cell_type") == "markdown"]


def _made(texts: list[dict[str, Any]], sources: Iterable[str]) -> bytes:
    """A notebook of these cells; the same cells always give the same bytes."""
    cells = [{**cell, "id": f"text-{number}"} for number, cell in enumerate(texts, 1)]
    cells += [
        {
            "cell_type": "code",
            "id": f"code-{number}",
            "metadata": {},
            "source": source,
            "outputs": [],
            "execution_count": None,
        }
        for number, source in enumerate(sources, 1)
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    made = {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells}
    return json.dumps(made, indent=1, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _without_outputs(data: bytes) -> bytes:
    """The notebook without its outputs, which the grader does not look at."""
    notebook = json.loads(data.decode("utf-8-sig"))
    for cell in notebook["cells"]:
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            cell["outputs"] = []
    return json.dumps(notebook, indent=1).encode()
