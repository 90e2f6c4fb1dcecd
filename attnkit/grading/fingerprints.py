"""Fingerprints of Python code by winnowing (Schleimer, Wilkerson and Aiken 2003, doi:10.1145/872757.872770).

A statement becomes a row of tokens in which only structure is left: operators, calls, the names of attributes; no
names, constants, comments, docstrings, annotations or imports. Of the hashes of every K tokens in a row the smallest
of each WINDOW is kept, so a piece of K + WINDOW - 1 tokens that two answers share always gives them a fingerprint in
common. Rows end with their statement: statements in another order, statements in between and statements moved to a
helper leave the others' fingerprints as they are.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from attnkit.lab.parsing import parse

K, WINDOW = 7, 4
MAX_TOKENS = 20_000
MAX_SOURCE = 50_000
# Of a statement shorter than K tokens the whole is a fingerprint, unless it says nothing at all (`return x`).
SHORTEST = 4
_LEXICAL = re.compile(r"[A-Za-z_]\w*|\d[\w.]*|\"[^\"\n]*\"|'[^'\n]*'|[^\s\w]")
_DROPPED = ast.Import | ast.ImportFrom | ast.Pass | ast.Global | ast.Nonlocal
_BODIES = ("body", "orelse", "finalbody", "handlers", "cases")


class Token(NamedTuple):
    """One token and the line that it stands on, from 1."""

    text: str
    line: int


Lines = tuple[int, int]


def fingerprints(source: str) -> dict[int, Lines]:
    """The fingerprints of `source`, each with the lines that it was first found on. Takes any text whatever."""
    found: dict[int, Lines] = {}
    left = MAX_TOKENS
    for row in _rows(source[:MAX_SOURCE]):
        row = row[:left]
        left -= len(row) + 1
        if left <= 0:
            break
        for value, lines in _winnowed(row):
            found.setdefault(value, lines)
    return found


def _rows(source: str) -> Iterator[list[Token]]:
    try:
        tree = parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        yield from _lexical_rows(source)
        return
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        parts = [one for name in _BODIES for one in getattr(node, name, ()) if isinstance(one, ast.AST)]
        waiting.extend(reversed(parts))
        if isinstance(node, ast.stmt) and not isinstance(node, _DROPPED) and not _is_words(node):
            yield list(_tokens(node))


def _is_words(node: ast.stmt) -> bool:
    """A docstring, or an ellipsis."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _lexical_rows(source: str) -> Iterator[list[Token]]:
    """Of text that Python cannot read: words and signs, line by line."""
    for number, line in enumerate(source.split("\n"), 1):
        words = _LEXICAL.findall(line.split("#")[0])
        yield [
            Token("name" if w[0].isalpha() or w[0] == "_" else "value" if w[0] in "\"'0123456789" else w, number)
            for w in words
        ]


def _tokens(statement: ast.stmt) -> Iterator[Token]:
    """The statement's own tokens, outermost first; those of the statements within it are left to them."""
    waiting: list[tuple[ast.AST, int]] = [(statement, statement.lineno)]
    while waiting:
        node, line = waiting.pop()
        line = getattr(node, "lineno", line)
        yield from (Token(text, line) for text in _words(node))
        waiting.extend((child, line) for child in reversed(_children(node)))


def _words(node: ast.AST) -> list[str]:
    match node:
        case ast.Name() | ast.arg():
            return ["name"]
        case ast.Constant():
            return ["value"]
        case ast.Attribute(attr=name):
            return [f".{name}"]
        case ast.Call(args=args, keywords=keywords):
            return [f"call {len(args)} {len(keywords)}"]
        case ast.keyword(arg=name):
            return [f"{name}="]
        case ast.AugAssign(op=op):
            return ["assign", "name", "binop", type(op).__name__]
        case ast.Assign() | ast.AnnAssign() | ast.NamedExpr():
            return ["assign"]
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
            return ["function"]
        case ast.For() | ast.While() | ast.AsyncFor():
            return ["loop"]
        case ast.expr_context() | ast.Load() | ast.Store():
            return []
        case ast.BinOp():
            return ["binop"]
    return [type(node).__name__]


def _children(node: ast.AST) -> list[ast.AST]:
    match node:
        case ast.AnnAssign(target=target, value=value):
            return [one for one in (target, value) if one is not None]
        case ast.AugAssign(target=target, value=value):
            return [target, value]
        case ast.BinOp(left=left, op=op, right=right):
            return [op, left, right]
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return [node.args, *node.decorator_list]
        case ast.arg():
            return []
    return [
        one for one in ast.iter_child_nodes(node) if not isinstance(one, ast.stmt | ast.excepthandler | ast.match_case)
    ]


def _winnowed(row: list[Token]) -> Iterator[tuple[int, Lines]]:
    if len(row) < K:
        if len(row) >= SHORTEST:
            yield _hash(row), _lines(row)
        return
    hashes = [_hash(row[start : start + K]) for start in range(len(row) - K + 1)]
    last = -1
    for start in range(max(1, len(hashes) - WINDOW + 1)):
        window = hashes[start : start + WINDOW]
        smallest = min(window)
        place = start + len(window) - 1 - window[::-1].index(smallest)  # of equal ones the rightmost
        if place != last:
            last = place
            yield smallest, _lines(row[place : place + K])


def _hash(row: list[Token]) -> int:
    text = "\x1f".join(token.text for token in row).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big")


def _lines(row: list[Token]) -> Lines:
    return min(token.line for token in row), max(token.line for token in row)
