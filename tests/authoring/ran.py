"""Which functions of attnkit really run: an oracle for what `attnkit.authoring.symbols` reads off the sources."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from attnkit.authoring.symbols import SymbolGraph, Uses

# Prepended to a program: on exit it prints file and line of every function of attnkit that was entered, in any thread.
TRACER = """
import atexit as _atexit, json as _json, sys as _sys, threading as _threading
_ran = set()
def _note(frame, event, argument):
    code = frame.f_code
    if event == "call" and "/attnkit/" in code.co_filename and code.co_flags & 2:  # 2: has fast locals, a function
        _ran.add((code.co_filename, code.co_firstlineno))
_sys.setprofile(_note)
_threading.setprofile(_note)
_atexit.register(lambda: (_sys.setprofile(None), print("RAN" + _json.dumps(sorted(_ran)))))
"""


def functions_that_ran(program: str, folder: Path) -> set[tuple[Path, int]]:
    """File and first line of every attnkit function that `program` enters when it runs in `folder`."""
    run = subprocess.run([sys.executable, "-c", TRACER + program], capture_output=True, text=True, cwd=folder)
    assert run.returncode == 0, run.stderr[-3000:]
    told = next(line for line in run.stdout.splitlines() if line.startswith("RAN"))
    return {(Path(file).resolve(), line) for file, line in json.loads(told.removeprefix("RAN"))}


def missed(graph: SymbolGraph, uses: Uses, ran: set[tuple[Path, int]]) -> set[str]:
    """The functions that ran although `uses` does not count them."""
    modules = {path.resolve(): name for name, path in graph.files.items()}
    found = set()
    for path, line in ran:
        module = modules[path]
        place = next(i for i, unit in enumerate(graph.module(module).units) if unit.start <= line <= unit.end)
        if (module, place) not in uses.units:
            found.add(f"{module}:{line} {graph.unit(module, place).names}")
    return found
