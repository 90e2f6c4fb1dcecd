"""The part of a cell that a reader needs: everything but the lines that hand numbers to the prose."""

from __future__ import annotations

import ast


def shown_source(source: str) -> str:
    """`source` without top-level `glue(...)` statements and without the import of `glue`; "" when nothing is left."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return source
    lines: list[str | None] = list(source.splitlines())
    for node in tree.body:
        if _only_glues(node):
            for i in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[i] = None
        elif isinstance(node, ast.ImportFrom) and node.module == "attnkit.viz":
            names = [alias.name for alias in node.names if alias.name != "glue"]
            for i in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[i] = None
            if names:
                lines[node.lineno - 1] = f"from attnkit.viz import {', '.join(names)}"
    return "\n".join(line for line in lines if line is not None).strip("\n")


def _only_glues(node: ast.stmt) -> bool:
    if isinstance(node, ast.For):
        return all(_only_glues(inner) for inner in node.body)
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id == "glue"
    )
