"""What the ahead-of-time gate found, as a table to read and as a file to compare with.

`resources.json` records the last whole run: one line for each kernel, stamped with the versions of Triton and of the
kernels' source. `README.md` shows the same as a table, between two marks.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from attnkit.kernels.aot import Compiled, problems
from attnkit.kernels.aot_cases import DTYPES, Case

HERE = Path(__file__).parent
RECORD, README = HERE / "resources.json", HERE / "README.md"
START, STOP = "<!-- resources: start -->", "<!-- resources: stop -->"

# Everything that decides which machine code comes out.
SOURCES = (
    "parts", "forward", "backward", "bias_gradient", "decode", "reading", "arguments", "call", "tiles", "aot_cases",
)  # fmt: skip


def source_hash() -> str:
    """The kernels' source as a number, which comments, docstrings and line breaks do not change."""
    whole = hashlib.sha256()
    for name in SOURCES:
        tree = ast.parse((HERE / f"{name}.py").read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        whole.update(ast.dump(tree).encode())
    return whole.hexdigest()[:16]


def as_json(found: Sequence[Compiled]) -> str:
    """A record of a whole run. Seconds are left out: they are the machine's, not the kernel's."""
    stamp = {"triton": metadata.version("triton"), "source": source_hash()}
    lines = ",\n".join("  " + json.dumps(_flat(compiled)) for compiled in found)
    return f'{{\n "stamp": {json.dumps(stamp)},\n "kernels": [\n{lines}\n ]\n}}\n'


def _flat(compiled: Compiled) -> dict[str, Any]:
    """One kernel as JSON has it; zeros and empty texts are left out."""
    entries = asdict(compiled)
    case = entries.pop("case")
    del entries["seconds"]
    return case | {name: value for name, value in entries.items() if value}


def read_record(path: Path = RECORD) -> tuple[list[Compiled], dict[str, str]]:
    """What as_json wrote: the kernels and the stamp."""
    told = json.loads(path.read_text("utf-8"))
    names = {f.name for f in fields(Case)}
    found = []
    for listed in told["kernels"]:
        entry: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in listed.items()}
        case = Case(**{name: entry.pop(name) for name in names})
        found.append(Compiled(case, **entry))
    return found, told["stamp"]


def as_table(found: Sequence[Compiled]) -> str:
    """A Markdown table of the kernels that compute products; the small ones beside them are left out."""
    lines = [
        "| chip | numbers | kernel | head width | call | tile | registers | shared KB | products by | verdict |",
        "|---|---|---|---:|---|---|---:|---:|---|---|",
    ]
    for compiled in sorted(found, key=_order):
        if not compiled.dots and not compiled.error:
            continue
        q, k, warps, stages = compiled.tile or (0, 0, 0, 0)
        tile = f"{q} x {k}, {warps} warps, {stages} stage{'s'[: stages != 1]}"
        case = compiled.case
        cells = [
            *(f"sm_{case.sm}", case.dtype, compiled.name.removesuffix("_kernel"), case.width, case.variant, tile),
            *(compiled.registers, f"{compiled.shared / 1024:.0f}", _unit(compiled)),
            "; ".join(problems(compiled)) or "fits",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _order(compiled: Compiled) -> tuple:
    case = compiled.case
    return case.sm, list(DTYPES).index(case.dtype), compiled.name, case.width, case.variant != "plain"


def _unit(compiled: Compiled) -> str:
    """The instruction that multiplies matrices."""
    used = [name for name, count in (("wgmma", compiled.wgmma), ("mma", compiled.mma)) if count]
    return " and ".join(used) or "fma"


def summary(found: Sequence[Compiled], seconds: float) -> str:
    """One line for a whole run."""
    bad = sum(bool(problems(compiled)) for compiled in found)
    verdict = f"{bad} must not be shipped" if bad else "all fit"
    return f"{len(found)} kernels compiled in {seconds:.0f} s: {verdict}"


def with_table(readme: str, found: Sequence[Compiled], stamp: dict[str, str]) -> str:
    """The text of a README with the table of `found` between the marks. Raises ValueError where they are missing."""
    if START not in readme or STOP not in readme:
        raise ValueError(f"readme: it should hold the marks {START} and {STOP}")
    before, after = readme.split(START)[0], readme.split(STOP)[1]
    return f"{before}{START}\nCompiled with triton {stamp['triton']}.\n\n{as_table(found)}\n{STOP}{after}"


def record(found: Sequence[Compiled]) -> None:
    """Write resources.json and the table of README.md."""
    RECORD.write_text(as_json(found), "utf-8")
    README.write_text(with_table(README.read_text("utf-8"), *read_record()), "utf-8")
