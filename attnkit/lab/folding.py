"""Texts that code puts together from pieces, `"soft" + "max"`, worked out from its tree without running anything."""

from __future__ import annotations

import ast
from collections.abc import Callable

MAX_LENGTH = 20_000
MAX_DEPTH = 40
# Pieces looked at for one text: names that stand for twice the name before would take for ever.
MAX_PIECES = 300

Value = str | int
_PLAIN = {"lower", "upper", "strip", "lstrip", "rstrip", "title", "swapcase", "capitalize"}


def fold(node: ast.AST | None, of_name: Callable[[str], ast.AST | None]) -> Value | None:
    """The text or whole number that the expression `node` always is; None when that cannot be told.

    `of_name` gives the one expression that a name stands for. Long results are not worked out: a short expression
    can stand for a very long text.
    """
    pieces = 0

    def at(depth: int) -> Callable[[ast.AST | None], Value | None]:
        def inner(one: ast.AST | None) -> Value | None:
            nonlocal pieces
            pieces += 1
            if one is None or depth > MAX_DEPTH or pieces > MAX_PIECES:
                return None
            return _folded(one, of_name, at(depth + 1))

        return inner

    return at(0)(node)


def _folded(
    node: ast.AST, of_name: Callable[[str], ast.AST | None], inner: Callable[[ast.AST | None], Value | None]
) -> Value | None:
    match node:
        case ast.Constant(value=bytes() as raw):
            return raw.decode("latin-1") if len(raw) <= MAX_LENGTH else None
        case ast.Constant(value=str() as text):
            return text if len(text) <= MAX_LENGTH else None
        case ast.Constant(value=int() as number) if type(number) is int and number < 1 << 32:
            return number
        case ast.Name(id=name):
            return inner(of_name(name))
        case ast.UnaryOp(op=ast.USub(), operand=one):
            positive = inner(one)
            return -positive if isinstance(positive, int) else None
        case ast.JoinedStr(values=parts):
            return _joined([inner(part) for part in parts], "")
        case ast.FormattedValue(value=part, format_spec=None):
            return inner(part)
        case ast.BinOp(op=ast.Add() | ast.Mod() | ast.Mult()):
            return _combined(node.op, inner(node.left), node.right, inner)
        case ast.Subscript(value=base, slice=ast.Slice() as part):
            return _sliced(inner(base), [inner(one) for one in (part.lower, part.upper, part.step)])
        case ast.Call(keywords=[]):
            return _called(node, inner)
    return None


def _joined(parts: list[Value | None], between: str) -> str | None:
    if any(part is None for part in parts):
        return None
    text = between.join(map(str, parts))
    return text if len(text) <= MAX_LENGTH else None


def _combined(op: ast.AST, left: Value | None, right: ast.AST, inner: Callable[..., Value | None]) -> Value | None:
    if isinstance(op, ast.Mod) and isinstance(left, str):
        values = [inner(one) for one in (right.elts if isinstance(right, ast.Tuple) else [right])]
        # only plain %s: a width may ask for a text of any length
        if left.replace("%s", "").count("%") or left.count("%s") != len(values):
            return None
        pieces = left.split("%s")
        return _joined([one for pair in zip(pieces, [*values, ""], strict=True) for one in pair], "")
    other = inner(right)
    if left is None or other is None:
        return None
    if isinstance(op, ast.Add):
        if isinstance(left, int) and isinstance(other, int):
            return left + other
        return _joined([left, other], "") if isinstance(left, str) and isinstance(other, str) else None
    if isinstance(op, ast.Mult) and isinstance(left, str) != isinstance(other, str):
        text, times = (left, other) if isinstance(left, str) else (other, left)
        assert isinstance(text, str)
        assert isinstance(times, int)
        return text * times if 0 <= times * len(text) <= MAX_LENGTH else None
    return None


def _sliced(text: Value | None, places: list[Value | None]) -> str | None:
    numbers = [place for place in places if not isinstance(place, str)]
    if not isinstance(text, str) or len(numbers) < len(places) or numbers[2] == 0:
        return None
    first, last, step = numbers
    return text[first:last:step]


def _called(node: ast.Call, inner: Callable[..., Value | None]) -> Value | None:
    match node:
        case ast.Call(func=ast.Name(id="chr"), args=[one]):
            number = inner(one)
            return chr(number) if isinstance(number, int) and 0 <= number < 0x110000 else None
        case ast.Call(func=ast.Name(id="str"), args=[one]):
            value = inner(one)
            return value if isinstance(value, str) else None
        case ast.Call(func=ast.Attribute(value=base, attr="join"), args=[ast.List() | ast.Tuple() as parts]):
            between = inner(base)
            return _joined([inner(one) for one in parts.elts], between) if isinstance(between, str) else None
        case ast.Call(func=ast.Attribute(value=base, attr="join"), args=[ast.Call() as call]):
            return _joined_backwards(inner(base), call, inner)
        case ast.Call(func=ast.Attribute(value=base, attr="replace"), args=[old, new]):
            text, before, after = inner(base), inner(old), inner(new)
            if isinstance(text, str) and isinstance(before, str) and isinstance(after, str):
                longest = (len(text) + 1) * (len(after) + 1)
                return text.replace(before, after) if longest <= MAX_LENGTH else None
        case ast.Call(func=ast.Attribute(value=base, attr="decode" | "encode"), args=_):
            return inner(base)
        case ast.Call(func=ast.Attribute(value=base, attr=name), args=[]) if name in _PLAIN:
            text = inner(base)
            return getattr(text, name)() if isinstance(text, str) else None
    return None


def _joined_backwards(between: Value | None, call: ast.Call, inner: Callable[..., Value | None]) -> str | None:
    """`"".join(reversed("xamtfos"))`."""
    match call:
        case ast.Call(func=ast.Name(id="reversed"), args=[one]):
            text = inner(one)
            return text[::-1] if isinstance(text, str) and between == "" else None
    return None
