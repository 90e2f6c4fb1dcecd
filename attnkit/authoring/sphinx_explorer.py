"""Explorers in pages: their scripts on the pages that need them, and a directive for pages without cells.

    ```{explorer} positions
    :title: How far away is that?
    {"kind": "rope", "d": 32}
    ```

The argument is a kind of explorer, the body the keyword arguments of its function (`attnkit.viz.explore_positions`) as
JSON. The title stands in the page as text, so a translation of the page translates it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from attnkit.viz.explorer import FRAME, Explorer, kinds, script

if TYPE_CHECKING:
    from sphinx.application import Sphinx

FOLDER = "explorer"  # in the site's _static
_HOST = re.compile(r'class="ak-explorer" data-ak-kind="([\w-]+)"')


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive and the hooks."""
    app.add_directive("explorer", ExplorerDirective)
    app.connect("builder-inited", write_scripts)
    app.connect("html-page-context", add_scripts)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


class ExplorerDirective(SphinxDirective):
    """The explorer of the kind that the argument names, made from the JSON in the body."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {"title": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """The title, and the explorer as HTML."""
        try:
            explorer = make(self.arguments[0], "\n".join(self.content))
        except (ValueError, TypeError) as error:
            raise self.error(f"explorer {self.arguments[0]}: {error}") from None
        shown: list[nodes.Node] = []
        if title := self.options.get("title", ""):
            children, messages = self.state.inline_text(title, self.lineno)
            heading = nodes.rubric(title, "", *children)
            self.set_source_info(heading)  # without a place in the source, nothing of it is translated
            shown += [heading, *messages]
        return [*shown, nodes.raw("", explorer.html(inline=False), format="html")]


def make(kind: str, body: str) -> Explorer:
    """The explorer that a directive asks for; ValueError or TypeError says what is wrong with it."""
    from attnkit import viz

    names = sorted(name.removeprefix("explore_") for name in viz.__all__ if name.startswith("explore_"))
    if kind not in names:
        raise ValueError(f"kind: was {kind!r}; it should be one of {', '.join(names)}")
    options = json.loads(body) if body.strip() else {}
    if not isinstance(options, dict):
        raise ValueError(f"body: was {body!r}; it should be a JSON object of keyword arguments")
    return getattr(viz, f"explore_{kind}")(**options)


def write_scripts(app: Sphinx) -> None:
    """Lay the scripts where pages can load them, one file each."""
    if app.builder.format != "html":
        return
    folder = Path(app.outdir) / "_static" / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*FRAME, *kinds()):
        path, text = folder / file_name(name), script(name)
        if not path.is_file() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def add_scripts(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """On a page with explorers, the frame and the scripts of their kinds; on others nothing."""
    found = sorted(set(_HOST.findall(context.get("body") or "")))
    for place, name in enumerate((*FRAME, *found) if found else ()):
        # Added while a page is written, a script is for this page alone. Deferred scripts run in their order.
        app.add_js_file(f"{FOLDER}/{file_name(name)}", priority=600 + place, loading_method="defer")


def file_name(name: str) -> str:
    """`matrix` is served as `matrix.js`."""
    return name if name.endswith(".js") else f"{name}.js"
