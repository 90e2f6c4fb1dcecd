"""A notebook cell as Python: `%magic`, `!shell` and `help?` lines become the calls that Jupyter makes of them.

The rules are those of IPython's TransformerManager (`IPython/core/inputtransformer2.py`, which a test holds them
against); the trusted side does without IPython, and reads hostile text in one pass. The calls go to `get_ipython()`,
which in the worker takes part in everything and does nothing. Line numbers stay what they are.
"""

from __future__ import annotations

import re
import textwrap
from typing import NamedTuple

# Cell magics that run their cell as Python, in the notebook's own names.
PYTHON_MAGICS = ("time", "timeit", "capture", "prun")
WRITING_MAGICS = ("writefile", "file")
# Line magics that run the rest of their line as Python, in the notebook's own names.
_RUNNING = ("time", "prun")

_ESCAPES = "%!?,;/"
_TOKEN = re.compile(
    r"""
    (?P<string>[rbfutRBFUT]{0,2}(?:
        '''(?:\\.|[^\\])*?(?:'''|\Z) | \"\"\"(?:\\.|[^\\])*?(?:\"\"\"|\Z)
      | '(?:\\.|[^\\'\n])*'? | "(?:\\.|[^\\"\n])*"?))
    | (?P<comment>\#[^\n]*)
    | (?P<join>\\\n)
    | (?P<newline>\n)
    | (?P<open>[(\[{])
    | (?P<close>[)\]}])
    | (?P<operator>\*\*=|//=|>>=|<<=|[-+*/%&|^@=!<>:]=|=)
    | (?P<name>\w+)
    | (?P<space>[ \t\f]+)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_INDENT = re.compile(r"[ \t\f]*")
_COMMAND = re.compile(r"[ \t]*(?=!(?!=)|%[ \t]*[A-Za-z_])")
_NAME_AND_MARK = 500
_HELP = re.compile(r"(%{0,2}(?!\d)[\w*]+(?:\.(?!\d)[\w*]+|\[-?[0-9]+\])*)(\?\??)$")
_PROMPTS = (re.compile(r"^\s*(?:>>>|\.\.\.)(?:[ \t]|$)"), re.compile(r"^(?:In \[\d+\]: |\s*\.{3,}: ?)"))


class CellMagic(NamedTuple):
    """A cell that begins with `%%name line`; `body` is the rest, on the lines that it has in the cell."""

    name: str
    line: str
    body: str


def cell_magic(source: str) -> CellMagic | None:
    """The magic that a cell begins with. Comments may stand before it, as Colab's forms have them (`#@title`)."""
    lines = source.split("\n")
    first = next((i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), len(lines))
    match = re.match(r"%%(\w+)(?:[ \t]+(.*))?$", lines[first].rstrip()) if first < len(lines) else None
    if match is None:
        return None
    return CellMagic(match[1], (match[2] or "").strip(), "\n".join([*lines[:first], "", *lines[first + 1 :]]))


def as_python(source: str, running: tuple[str, ...] = _RUNNING) -> str:
    """`source` with IPython's own syntax turned into Python, on the same lines.

    A line magic of `running` becomes the Python that it runs (`%time y = f(x)` is `y = f(x)`).
    """
    source = textwrap.dedent(source)
    out: list[str] = []
    place = 0
    while place < len(source):
        indent = _INDENT.match(source, place)
        assert indent is not None
        start = indent.end()
        if _escaped(source, start):
            end = _end_of_line(source, start)
            text = source[start:end]
            out += [indent[0], _help(text) or _call(_assembled(text), running), "\n" * text.count("\n")]
        else:
            text, end = _logical_line(source, start, running)
            out += [indent[0], text]
        out.append(source[end : end + 1])
        place = end + 1
    return "".join(out)


def without_prompts(source: str) -> str:
    """Code that was copied with its `>>>` or `In [1]:` prompts, without them."""
    for prompt in _PROMPTS:
        source = "\n".join(prompt.sub("", line) for line in textwrap.dedent(source).split("\n"))
    return source


def _escaped(source: str, start: int) -> bool:
    """Whether the statement at `start` begins as no statement of Python does."""
    return source[start : start + 1] in tuple(_ESCAPES) and source[start : start + 2] not in ("%=", "!=", "/=", "//")


def _end_of_line(source: str, start: int) -> int:
    """The end of the line at `start`, which a backslash continues on the next."""
    end = source.find("\n", start)
    while end > start and source[end - 1] == "\\":
        end = source.find("\n", end + 1)
    return len(source) if end < 0 else end


def _assembled(text: str) -> str:
    """A line that backslashes continue as one line."""
    *pieces, last = text.split("\n")
    return " ".join([*(piece.rstrip()[:-1] for piece in pieces), last.rstrip()])


def _logical_line(source: str, start: int, running: tuple[str, ...]) -> tuple[str, int]:
    """The statement at `start` in Python, and where it ends: brackets, strings and backslashes go on over lines."""
    depth, place, assigned, last = 0, start, False, ""
    while place < len(source):
        token = _TOKEN.match(source, place)
        assert token is not None  # `other` takes anything
        kind, text = token.lastgroup, token[0]
        if kind == "newline" and depth == 0:
            break
        if kind == "open":
            depth += 1
        elif kind == "close":
            depth = max(0, depth - 1)
        elif text == "=" and depth == 0 and not assigned:
            assigned = True
            if (value := _value_at(source, token.end())) is not None:
                end = _end_of_line(source, value)
                right = source[value:end]
                return source[start:value] + _assigned(_assembled(right), running) + "\n" * right.count("\n"), end
        if kind not in ("space", "join", "newline"):
            last = text
        place = token.end()
    text = source[start:place]
    return (_help(text) or text) if last == "?" else text, place


def _value_at(source: str, place: int) -> int | None:
    """Where a magic's or the shell's command begins, if that is what is assigned."""
    match = _COMMAND.match(source, place)
    return match.end() if match else None


def _assigned(line: str, running: tuple[str, ...]) -> str:
    """What IPython makes of the right side of `x = !ls` or `x = %time f()`."""
    return f"get_ipython().getoutput({line[1:]!r})" if line[0] == "!" else _call(line, running)


def _help(text: str) -> str:
    """The call for `name?`, or "" when `text` does not end so."""
    # Only the end: searching a long text for where the name begins would take the square of its length.
    match = _HELP.search(text[-_NAME_AND_MARK:]) if text.endswith("?") and "#" not in text else None
    return _help_call(match[1], match[2]) + "\n" * text.count("\n") if match else ""


def _help_call(target: str, mark: str) -> str:
    method = "pinfo2" if mark == "??" else "psearch" if "*" in target else "pinfo"
    return f"get_ipython().run_line_magic({method!r}, {target!r})"


def _call(line: str, running: tuple[str, ...]) -> str:
    """What IPython makes of an escaped line: `%`, `!`, `?`, or a call without its parentheses."""
    mark = line[:2] if line[:2] in ("!!", "??") else line[:1]
    content = line[len(mark) :]
    if mark in ("!", "!!"):
        return f"get_ipython().{'system' if mark == '!' else 'getoutput'}({content!r})"
    if mark in ("?", "??"):
        return _help_call(content, mark) if content else "get_ipython().show_usage()"
    name, _, arguments = content.partition(" ")
    if mark == "%":
        runs = name in running and arguments.strip()
        return arguments.strip() if runs else f"get_ipython().run_line_magic({name!r}, {arguments!r})"
    if mark == ",":
        return '{}("{}")'.format(name, '", "'.join(arguments.split()))
    if mark == ";":
        return f'{name}("{arguments}")'
    return f"{name}({', '.join(arguments.split())})"
