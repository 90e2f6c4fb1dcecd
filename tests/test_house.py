"""The house rules of the design, checked: who imports whom, what `import attnkit` loads, how long a file may be."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "attnkit"

# From the ground up. A room may import from its own floor and from every floor below it.
FLOORS = [
    {"_lazy", "_optional"},
    {"masks", "positions"},
    {"backends", "kernels"},
    {"attention"},
    {"testing", "nn"},
    {"models", "variants", "rivals"},
    # viz stands here since some explorers run a search or a model, and a training draws its history.
    {"training", "generation", "data", "integrations", "viz"},
    {"lab", "museum"},
    {"grading", "authoring", "bench"},
    {"cli"},
]
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}

# What a reader opens to understand a Transformer.
LIBRARY = {"masks", "positions", "backends", "nn", "models", "training", "generation", "data", "integrations"}
LIBRARY |= {"rivals", "variants", "museum"}

PICKLES = {"pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}

# `import attnkit` may load none of these.
HEAVY = (
    "triton",
    "matplotlib",
    "ipywidgets",
    "IPython",
    "pandas",
    "attnkit.lab",
    "attnkit.grading",
    "attnkit.authoring",
)


def room_of(module: str) -> str | None:
    """The room of a dotted name inside attnkit, or None for what is not attnkit's or is attnkit itself."""
    parts = module.split(".")
    return parts[1] if parts[0] == "attnkit" and len(parts) > 1 else None


def imported_rooms(source: str) -> set[str]:
    """The rooms that a file's imports reach, at its top or inside its functions."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "write imports in full, so that this test can follow them"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return {room for name in names if (room := room_of(name)) in LEVEL}


def upward_imports(own: str, source: str) -> set[str]:
    """The rooms above `own` that `source` imports."""
    return {room for room in imported_rooms(source) if LEVEL[room] > LEVEL[own]}


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent != PACKAGE or path.name != "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_imports_upward(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert own in LEVEL, f"{own} is a new room: give it a floor in FLOORS and in the design"
    assert not upward_imports(own, path.read_text("utf-8"))


def test_an_upward_import_is_seen() -> None:
    """The check itself can fail: also on an import hidden in a function."""
    assert upward_imports("masks", "def f():\n    from attnkit.lab.judge import judge\n") == {"lab"}
    assert upward_imports("backends", "from attnkit import attention\n") == {"attention"}
    assert not upward_imports("lab", "from attnkit.masks import Causal\nimport attnkit\n")


def loaded_by(statement: str) -> set[str]:
    """Names of the modules that a fresh interpreter has loaded after `statement`."""
    code = f"import sys, json\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout))


def test_importing_attnkit_loads_only_what_attention_needs() -> None:
    extra = loaded_by("import attnkit") - loaded_by("import torch")
    assert not sorted(name for name in extra if name.startswith(HEAVY))


def test_attnkit_works_with_no_triton_installed() -> None:
    blocked = "sys.modules['triton'] = None\nimport torch, attnkit\nattnkit.attention(*torch.randn(3, 1, 2, 4, 8))"
    loaded_by(blocked)


def test_the_trusted_side_of_the_grader_reads_no_pickle() -> None:
    """Nothing that comes from outside is unpickled, anywhere in the package. A name in a list is no use."""
    found = [
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', '?')}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if unpickles(node)
    ]
    assert not found


def unpickles(node: ast.AST) -> bool:
    """Whether a piece of source imports a module that unpickles, loads by torch, or lets NumPy do it."""
    if isinstance(node, ast.Import):
        return any(alias.name.split(".")[0] in PICKLES for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] in PICKLES
    if isinstance(node, ast.Attribute):
        return node.attr == "load" and isinstance(node.value, ast.Name) and node.value.id == "torch"
    return isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False"


def test_a_module_that_unpickles_is_found() -> None:
    wrong = ["import pickle", "from dill import loads", "torch.load(f)", "np.load(f, allow_pickle=True)"]
    assert all(any(unpickles(node) for node in ast.walk(ast.parse(source))) for source in wrong)
    assert not any(unpickles(node) for node in ast.walk(ast.parse("np.load(f, allow_pickle=False); x = 'pickle'")))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_short(path: Path) -> None:
    most = 300 if path.parent.name in LIBRARY else 320
    if path.parent == PACKAGE / "models" and path.name != "pretrained.py":
        most = 119  # a model is a short assembly
    assert len(path.read_text("utf-8").splitlines()) <= most, "a file this long wants a new room"


def test_the_lock_covers_every_dependency_and_pins_it() -> None:
    lock = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lock), "the lock pins, and names no address"
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = settings["optional-dependencies"]
    wanted = settings["dependencies"] + [
        d for extra in ("models", "hf", "tensorboard", "grade", "book", "test") for d in extras[extra]
    ]
    names = {re.split(r"[^\w.-]", d)[0].lower().replace("_", "-") for d in wanted} - {"attnkit"}
    locked = {line.split("==")[0].lower().replace("_", "-") for line in lock}
    assert not names - locked


def test_students_get_lower_bounds_only() -> None:
    """An upper bound or a pin would make pip change what Colab already has."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert all(re.fullmatch(r"[\w-]+>=[\d.]+", dependency) for dependency in settings["dependencies"])


def test_npm_lock_names_no_host() -> None:
    assert '"resolved"' not in (ROOT / "package-lock.json").read_text("utf-8")


def methods(tree: ast.AST) -> dict[str, list[ast.FunctionDef]]:
    """The methods of every class in a file, by class and by name."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return {c.name: [node for node in c.body if isinstance(node, ast.FunctionDef)] for c in classes}


def test_what_a_base_class_leaves_open_is_closed_below_it() -> None:
    """`raise NotImplementedError` stands only where a subclass of ours defines the method: no stub is called done."""
    opened, closed = set(), set()
    for path in FILES:
        for functions in methods(ast.parse(path.read_text("utf-8"))).values():
            for function in functions:
                is_open = isinstance(function.body[-1], ast.Raise) and "NotImplementedError" in ast.dump(
                    function.body[-1]
                )
                (opened if is_open else closed).add(function.name)
    assert len(opened) > 10, "the search finds them"
    assert not opened - closed
