"""Lets a translated sentence quote numbers: there the glue role knows the page's values although no cell is in sight.

Sphinx parses each translated message as a document of its own. myst-nb looks for a glued value among the cells of the
document that it is parsing, and finds none.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from myst_nb.ext.glue.roles import PasteTextRole

from attnkit.authoring.chapters import Chapter
from attnkit.authoring.lint import glued
from attnkit.authoring.symbols import SymbolGraph

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_KEPT = "attnkit_glued"


class GlueText(PasteTextRole):
    """The role `glue:text`, in a page or in a translated message of one."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """The value that the role's text names."""
        if "nb_renderer" in self.document or "::" in self.text:
            return super().run()
        value = self.values().get(self.text)
        if value is None:
            return super().run()  # which says what is wrong
        return [nodes.inline(value, value, classes=["pasted-text"])], []

    def values(self) -> dict[str, str]:
        """What the cells of the page hand to its text."""
        env: Any = self.document.settings.env
        if _KEPT not in env.temp_data:
            root = Path(env.srcdir)
            chapter = Chapter(
                Path(env.doc2path(env.docname)), root, SymbolGraph(root, cache=root / ".cache" / "symbols")
            )
            env.temp_data[_KEPT] = glued(chapter.executed()) if chapter.is_current else {}
        return env.temp_data[_KEPT]


def connect(app: Sphinx) -> None:
    """Put the role in the place of myst-nb's own; to be called once all extensions are set up."""
    app.add_role_to_domain("glue", "text", GlueText(), override=True)
