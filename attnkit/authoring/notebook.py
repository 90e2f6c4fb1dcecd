"""Notebooks from MyST sources: reading, stable ids, execution, byte-stable writing.

Chapters and labs share these steps, so that the same source always gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from attnkit.authoring.project import Project

# What a run must not depend on: the machine's threads, hash seeds, plot backend or network.
EXECUTION_ENV = {
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "HF_HUB_OFFLINE": "1",
    "ATTNKIT_BOOK": "1",  # attnkit.viz.glue then hands its values to the page
}


def read_myst(path: Path | str) -> NotebookNode:
    """The notebook written in the MyST Markdown file `path`, with deterministic cell ids."""
    nb = jupytext.read(Path(path), fmt="md:myst")
    nb.metadata = NotebookNode(
        kernelspec=NotebookNode(display_name="Python 3", language="python", name="python3"),
        language_info=NotebookNode(name="python"),
    )
    nb.nbformat, nb.nbformat_minor = 4, 5
    return with_stable_ids(nb)


def with_stable_ids(nb: NotebookNode) -> NotebookNode:
    """Give each cell an id made of its content and, for equal cells, their order."""
    seen: dict[str, int] = {}
    for cell in nb.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        count = seen[digest] = seen.get(digest, 0) + 1
        cell["id"] = digest if count == 1 else f"{digest}-{count}"
    return nb


@contextmanager
def execution_environment() -> Iterator[None]:
    """The environment variables of a reproducible run, put back afterwards."""
    before = {name: os.environ.get(name) for name in EXECUTION_ENV}
    os.environ.update(EXECUTION_ENV)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def execute(nb: NotebookNode, cwd: Path | str, timeout: int = 300, allow_errors: bool = False) -> NotebookNode:
    """Run `nb` in a fresh kernel started in `cwd`; outputs are stored in place.

    `timeout` is in seconds a cell. A cell that raises ends the run, unless `allow_errors`.
    """
    client = NotebookClient(
        nb,
        timeout=timeout,
        allow_errors=allow_errors,
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],  # else each kernel warns that its sockets are not encrypted
        resources={"metadata": {"path": str(cwd)}},
    )
    with execution_environment():
        client.execute()
    return merge_streams(nb)


def merge_streams(nb: NotebookNode) -> NotebookNode:
    """Join neighbouring pieces of the same stream: how often the kernel flushes depends on its luck."""
    for cell in nb.cells:
        merged: list[NotebookNode] = []
        for output in cell.get("outputs", []):
            last = merged[-1] if merged else None
            if last and output.output_type == last.output_type == "stream" and output.name == last.name:
                last.text += output.text
            else:
                merged.append(output)
        if cell.cell_type == "code":
            cell.outputs = merged
    return nb


def keep_text_outputs(nb: NotebookNode) -> NotebookNode:
    """Drop what bloats a repository (images, HTML, widgets): text outputs stay, so that nbval can compare them."""
    for cell in nb.cells:
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            if "data" in output:
                output.data = NotebookNode({k: v for k, v in output.data.items() if k == "text/plain"})
                output.metadata = NotebookNode()
        cell.outputs = [output for output in cell.outputs if "data" not in output or output.data]
    return nb


def dumps(nb: NotebookNode) -> str:
    """`nb` as JSON text that is the same for the same notebook, whoever writes it."""
    nbformat.validate(nb)
    return json.dumps(nbformat.from_dict(nb), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def write_if_changed(nb: NotebookNode, path: Path) -> bool:
    """Write `nb` to `path`; return whether that changed the file."""
    text = dumps(nb)
    if path.is_file() and path.read_text("utf-8") == text:
        return False
    path.write_text(text, "utf-8")
    return True


def setup_source(project: Project, extra: str = "") -> str:
    """Source of a notebook's first code cell: installs attnkit where it is missing, then says what is there.

    `extra` is what the notebook needs beyond a student's install.

    What it prints differs from machine to machine, so the comment tells nbval to let its output be.
    """
    target = project.install_target(extra)
    missing = f'    %pip install -q "{target}"' if target else _not_installed(project)
    return (
        "#@title Setup (run once)\n"
        "# NBVAL_IGNORE_OUTPUT\n"
        "import importlib.util\n\n"
        'if importlib.util.find_spec("attnkit") is None:\n'
        f"{missing}\n\n"
        "import attnkit\n\n"
        "attnkit.about()"
    )


def _not_installed(project: Project) -> str:
    """What stands in for an installation where nothing says where from."""
    lines = ['"attnkit is not installed, and this copy of the notebook names no address to install it from. "']
    if project.is_clone:
        lines += ['"Whoever publishes it sets [tool.attnkit] repository in pyproject.toml; "']
        lines += ['"in a clone, run: pip install -e ."']
    else:
        lines += ['"Install it as your course says, then run this cell again."']
    return "    raise ModuleNotFoundError(\n" + "".join(f"        {line}\n" for line in lines) + "    )"
