"""Reads the MyST of a page: directives, roles, labels. Shared by the lint and by the notebook twins."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

# An opening fence of backticks or colons with a directive name in braces.
_OPEN = re.compile(r"^(?P<fence>`{3,}|:{3,})\{(?P<name>[\w:-]+)\}[ \t]*(?P<argument>.*)$")
_CODE = re.compile(r"^(`{3,}|~{3,})[^{]*$")
_OPTION = re.compile(r"^:([\w-]+):[ \t]*(.*)$")
ROLE = re.compile(r"\{(?P<name>[\w:-]+)\}`(?P<text>[^`]+)`")
LABEL = re.compile(r"^\((?P<label>[\w-]+)\)=[ \t]*$", re.M)
MATH_LABEL = re.compile(r"^\$\$[ \t]*\((?P<label>[\w-]+)\)[ \t]*$", re.M)


@dataclass(frozen=True)
class Directive:
    """A directive as written: ```` ```{name} argument ````, its `:options:`, its body."""

    name: str
    argument: str
    options: dict[str, str] = field(default_factory=dict)
    body: str = ""


def replace_directives(text: str, render: Callable[[Directive], str]) -> str:
    """`text` with each outermost directive replaced by what `render` makes of it; code fences are left alone."""
    lines, out, i = text.splitlines(), [], 0
    while i < len(lines):
        opened = _OPEN.match(lines[i])
        fenced = opened or _CODE.match(lines[i])
        if not fenced:
            out.append(lines[i])
            i += 1
            continue
        fence = fenced[1]
        end = _closing(lines, i, fence)
        if opened:
            out.append(render(_directive(opened, lines[i + 1 : end])))
        else:
            out.extend(lines[i : end + 1])
        i = end + 1
    return "\n".join(out)


def directives(text: str) -> list[Directive]:
    """Every directive of `text`, nested ones too."""
    found: list[Directive] = []

    def note(directive: Directive) -> str:
        found.append(directive)
        replace_directives(directive.body, note)
        return ""

    replace_directives(text, note)
    return found


def prose(text: str) -> str:
    """`text` without code, roles and the markup of directives: what a reader reads as sentences and formulas."""
    plain = replace_directives(text, lambda d: prose(d.body) if d.name not in _NOT_PROSE else "")
    plain = re.sub(r"^(`{3,}|~{3,}).*?^\1[ \t]*$", "", plain, flags=re.M | re.S)
    plain = ROLE.sub("", plain)
    plain = re.sub(r"`[^`\n]*`", "", plain)
    return re.sub(r"\]\([^)\s]*\)", "]", plain)


_NOT_PROSE = {"literalinclude", "bibliography", "code-block", "code-cell"}


def _closing(lines: list[str], start: int, fence: str) -> int:
    close = re.compile(rf"^{re.escape(fence[0])}{{{len(fence)},}}[ \t]*$")
    for i in range(start + 1, len(lines)):
        if close.match(lines[i]):
            return i
    raise ValueError(f"the fence {lines[start]!r} is never closed")


def _directive(opened: re.Match[str], inner: list[str]) -> Directive:
    options: dict[str, str] = {}
    at = 0
    while at < len(inner) and (option := _OPTION.match(inner[at])):
        options[option[1]] = option[2]
        at += 1
    return Directive(opened["name"], opened["argument"].strip(), options, "\n".join(inner[at:]).strip("\n"))
