"""The source of a live function and of what it leans on, as the notebook's check sees it: by way of linecache."""

from __future__ import annotations

import linecache
import sys
import sysconfig
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from attnkit.lab.shortcuts import Statement, find_shortcuts, not_available

MAX_FILES = 50
_INSTALLED = tuple({sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_OURS = str(Path(__file__).resolve().parents[1])


def shortcut_notes(function: Callable[..., Any], forbidden: Iterable[str]) -> list[str]:
    """What a check says about shortcuts in `function`; nothing where its source cannot be had."""
    forbidden = tuple(forbidden)
    if not forbidden:
        return []
    if full := _known(forbidden).get(id(function)):
        module, _, name = full.rpartition(".")
        statements: list[Statement] = [(1, 1, f"from {module} import {name}", True)]
    else:
        name = getattr(function, "__name__", "")
        statements = statements_of(function, forbidden)
    return [text for _, text in not_available(find_shortcuts(statements, name, forbidden))]


def statements_of(function: Callable[..., Any], forbidden: Iterable[str]) -> list[Statement]:
    """The cells (or files) that hold `function` and the functions and classes that it names, its own cell last.

    What a name of the notebook stands for just now comes first, as an import: `import torch.nn.functional as F`.
    A function without source gives an empty list.
    """
    known = _known(forbidden)
    files: dict[str, None] = {}
    imports: dict[str, None] = {}
    seen: set[int] = set()
    waiting: list[Any] = [function]
    while waiting and len(files) < MAX_FILES:
        thing = waiting.pop()
        for code, names in _codes(thing):
            if id(code) in seen or code.co_filename.startswith((*_INSTALLED, _OURS)):
                continue
            seen.add(id(code))
            files[code.co_filename] = None
            for name in _names(code):
                if name in names:
                    waiting.append(names[name])
                    if line := _as_import(name, names[name], known):
                        imports[line] = None
    cells = [lines for name in files if (lines := linecache.getlines(name))]
    made: list[Statement] = [(0, 1, line, False) for line in imports]
    made += [(0, 1, "".join(lines), False) for lines in reversed(cells[1:])]
    return [*made, (1, 1, "".join(cells[0]), True)] if cells else []


def cell_of(function: Any) -> str:
    """The text of the cell (or file) that holds a function or class; "" where it cannot be had."""
    for code, _ in _codes(function):
        if not code.co_filename.startswith((*_INSTALLED, _OURS)):
            return "".join(linecache.getlines(code.co_filename))
    return ""


def _codes(thing: Any) -> Iterator[tuple[types.CodeType, dict[str, Any]]]:
    """The code of a function, or of a class's methods, with the names that it sees."""
    if isinstance(thing, types.FunctionType):
        inner = zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True)
        yield thing.__code__, thing.__globals__ | {name: _content(cell) for name, cell in inner}
    elif isinstance(thing, type):
        for method in vars(thing).values():
            yield from _codes(getattr(method, "__func__", method)) if not isinstance(method, type) else ()


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


def _names(code: types.CodeType) -> Iterator[str]:
    yield from (*code.co_names, *code.co_freevars)
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _names(inner)


def _known(forbidden: Iterable[str]) -> dict[int, str]:
    """The forbidden things that are loaded, by identity: a built-in function does not tell where it is from."""
    found = {}
    for full in forbidden:
        first, *rest = full.split(".")
        thing: Any = sys.modules.get(first)
        for name in rest:
            thing = getattr(thing, name, None)
        if rest and thing is not None:
            found[id(thing)] = full
    return found


def _as_import(name: str, value: Any, known: dict[int, str]) -> str:
    if isinstance(value, types.ModuleType):
        return f"import {value.__name__} as {name}"
    if id(value) in known:
        module, _, last = known[id(value)].rpartition(".")
        return f"from {module} import {last} as {name}"
    return ""
