"""MyST turned into the Markdown that any notebook front end can show. What it does not know, it refuses."""

from __future__ import annotations

import ast
import os
import re
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path

from attnkit.authoring.chapters import pages
from attnkit.authoring.pagetext import LABEL, MATH_LABEL, ROLE, Directive, directives, replace_directives
from attnkit.authoring.project import Project
from attnkit.authoring.references import Work

_ADMONITIONS = {"note", "tip", "warning", "important", "caution", "attention", "hint", "seealso", "admonition"}
_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


# Marks in rendered text between which a solution stands, so that the twin can move it out of sight of its exercise.
SOLUTION, END = "<!-- solution -->", "<!-- end of solution -->"


class TwinError(ValueError):
    """A page uses markup that has no plain form; the message names page and markup."""


class PlainMarkdown:
    """Renders the Markdown cells of one page, in order: exercises and equations are numbered as they come."""

    def __init__(self, page: Path, project: Project, values: Mapping[str, str], works: Mapping[str, Work]):
        self.page, self.project, self.values, self.works = page, project, values, works
        self.homes = label_homes(pages(project.root))
        self.cited: list[str] = []
        source = page.read_text("utf-8")
        labels = re.findall(r"^`{3,}\{exercise(?:-start)?\}[^\n]*\n:label: ([\w-]+)", source, re.M)
        self.exercises = {label: number for number, label in enumerate(labels, start=1)}
        self.equations = {m["label"]: number for number, m in enumerate(MATH_LABEL.finditer(source), start=1)}

    def render(self, text: str) -> str:
        """One Markdown cell."""
        text = replace_directives(text, self.directive)
        text = LABEL.sub(lambda m: f'<a id="{m["label"]}"></a>', text)
        text = MATH_LABEL.sub(lambda m: rf"\tag{{{self.equations[m['label']]}}}" + "\n$$", text)
        text = ROLE.sub(lambda m: self.role(m["name"], m["text"]), text)
        text = _LINK.sub(lambda m: f"[{m['text']}]({self.target(m['target'])})", text)
        return re.sub(r"\n{3,}", "\n\n", text).strip()

    def role(self, name: str, text: str) -> str:
        """A role in running text."""
        if name in {"glue:text", "glue"}:
            if text not in self.values:
                raise TwinError(f"{self.page}: no cell glues {text!r}")
            return self.values[text]
        if name in {"cite", "cite:t", "cite:p"}:
            return ", ".join(self.citation(key.strip()) for key in text.split(","))
        if name == "eq":
            return f"({self.equations[text]})"
        if name == "lab":
            path = f"labs/{text}/{text}.ipynb"
            address = self.project.colab_url(path)
            return f"[Open the lab in Colab]({address})" if address else f"the lab’s notebook, `{path}`"
        if name == "math":
            return f"${text}$"
        raise TwinError(f"{self.page}: the role {{{name}}} has no plain form; add one to {Path(__file__).name}")

    def citation(self, key: str) -> str:
        """A work as a linked name; remembered for the list of references."""
        if key not in self.cited:
            self.cited.append(key)
        work = self.works[key]
        return f"[{work.short}]({work.url})"

    def directive(self, d: Directive) -> str:
        """A directive, with what is inside it."""
        body = replace_directives(d.body, self.directive)
        if d.name in _ADMONITIONS:
            title = d.argument or d.name.capitalize()
            return _quoted(f"**{title}**\n\n{body}")
        if d.name == "dropdown":
            return f"<details><summary>{d.argument}</summary>\n\n{body}\n\n</details>"
        if d.name in {"exercise", "exercise-start"}:
            number = self.exercises[d.options["label"]]
            anchor = f'<a id="{d.options["label"]}"></a>\n\n'
            return f"{anchor}**Exercise {number}{': ' + d.argument if d.argument else ''}**\n\n{body}"
        if d.name in {"solution", "solution-start"}:
            text = f"{SOLUTION}\n\n### Exercise {self.exercises[d.argument]}\n\n{body}"
            return text if d.name == "solution-start" else f"{text}\n\n{END}"
        if d.name == "solution-end":
            return END
        if d.name == "exercise-end":
            return ""
        if d.name == "math":
            return f"$$\n{body}\n$$"
        if d.name == "literalinclude":
            return f"```python\n{self.included(d)}\n```"
        raise TwinError(f"{self.page}: the directive {{{d.name}}} has no plain form; add one to {Path(__file__).name}")

    def references(self) -> str:
        """The list of the works cited so far, or ""."""
        works = [self.works[key] for key in sorted(self.cited)]
        lines = [f"- {', '.join(work.authors)} ({work.year}). [{work.title}]({work.url})." for work in works]
        return "\n".join(["## References", "", *lines]) if lines else ""

    def included(self, d: Directive) -> str:
        """The source of the object that a literalinclude shows."""
        source = (self.page.parent / d.argument).read_text("utf-8")
        wanted = d.options.get("pyobject")
        if not wanted:
            return source.rstrip()
        node = _definition(ast.parse(source), wanted)
        if node is None:
            raise TwinError(f"{self.page}: {d.argument} has no function or class {wanted!r}")
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        shown = source.splitlines()[first - 1 : node.end_lineno]
        shown = shown[self._skipped(d) :]
        return textwrap.dedent("\n".join(shown))

    def _skipped(self, d: Directive) -> int:
        """How many lines at the beginning are left out, such as the decorator of a static method: `:lines: 2-`."""
        match = re.fullmatch(r"(\d+)-", d.options.get("lines", "1-"))
        if not match:
            raise TwinError(
                f"{self.page}: :lines: is {d.options['lines']!r}; the twin knows only a beginning, as in 2-"
            )
        return int(match[1]) - 1

    def target(self, target: str) -> str:
        """A link's target: to another chapter's twin, in Colab if the book is published."""
        path, _, anchor = target.partition("#")
        if anchor and not path:
            home = self.homes.get(anchor)
            if home is None:
                raise TwinError(f"{self.page}: no page has the label {anchor!r}")
            if home == self.page:
                return target
            path = os.path.relpath(home, self.page.parent)
        if "://" in target or not path.endswith(".md"):
            return target
        twin = (self.page.parent / path).resolve().with_suffix(".ipynb")
        address = self.project.colab_url(twin.relative_to(self.project.root).as_posix())
        place = address or Path(path).with_suffix(".ipynb").as_posix()
        return f"{place}#{anchor}" if anchor else place


def label_homes(paths: Iterable[Path]) -> dict[str, Path]:
    """Which page each label stands in."""
    homes: dict[str, Path] = {}
    for path in paths:
        text = path.read_text("utf-8")
        labels = [m["label"] for m in (*LABEL.finditer(text), *MATH_LABEL.finditer(text))]
        labels += [d.options["label"] for d in directives(text) if "label" in d.options]
        homes.update(dict.fromkeys(labels, path))
    return homes


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())


def _definition(tree: ast.Module, dotted: str) -> ast.FunctionDef | ast.ClassDef | None:
    """The function or class of that name, or the method `Class.method`, as Sphinx reads it; None if there is none."""
    node: ast.AST = tree
    for name in dotted.split("."):
        kinds = (ast.FunctionDef, ast.ClassDef)
        inner = [n for n in ast.iter_child_nodes(node) if isinstance(n, kinds) and n.name == name]
        if not inner:
            return None
        node = inner[0]
    return node if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else None
