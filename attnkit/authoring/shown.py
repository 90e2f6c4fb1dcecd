"""The part of a cell that a reader needs: everything but the lines that hand numbers to the prose."""

from __future__ import annotations

import ast
from collections.abc import Iterator


def shown_source(source: str) -> str:
    """`source` without `glue(...)` statements, at any depth, and without the import of `glue`; "" if nothing is left.

    A loop or condition goes when all that it does is to glue.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return source
    lines: list[str | None] = list(source.splitlines())
    for node in _gluing(tree.body):
        for i in _rows(node):
            lines[i] = None
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "attnkit.viz":
            names = [alias.name for alias in node.names if alias.name != "glue"]
            for i in _rows(node):
                lines[i] = None
            if names:
                lines[node.lineno - 1] = f"from attnkit.viz import {', '.join(names)}"
    return "\n".join(line for line in lines if line is not None).strip("\n")


def _rows(node: ast.stmt) -> range:
    return range(node.lineno - 1, node.end_lineno or node.lineno)


def _gluing(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that only glue, here or further in. A block that only glues beside one that does more stays."""
    for node in body:
        if _only_glues(node):
            yield node
            continue
        for block in _blocks(node):
            if not all(map(_only_glues, block)):
                yield from _gluing(block)


def _blocks(node: ast.stmt) -> list[list[ast.stmt]]:
    """The indented statements below a loop, a condition or a `with`."""
    if isinstance(node, ast.For | ast.If | ast.While):
        return [block for block in (node.body, node.orelse) if block]
    return [node.body] if isinstance(node, ast.With) else []


def _only_glues(node: ast.stmt) -> bool:
    blocks = _blocks(node)
    if blocks:
        return all(_only_glues(inner) for block in blocks for inner in block)
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id == "glue"
    )
