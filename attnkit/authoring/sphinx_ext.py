"""What Sphinx does for this book beyond its usual work; listed in `_config.yml`.

However the build is started (`attnkit book build` or `jupyter-book build`), outdated chapters are executed first and
the pages that show them are read again; the launch and edit links follow `[tool.attnkit] repository`; the written
pages are mended (see `mend`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxRole

from attnkit.authoring import shown as shown_module
from attnkit.authoring.chapters import GUIDE, Chapter, load_chapters
from attnkit.authoring.execution import ChapterError, refresh
from attnkit.authoring.manifest import write_manifest
from attnkit.authoring.mend import mend
from attnkit.authoring.project import Project, load_project
from attnkit.authoring.shown import shown_source
from attnkit.authoring.slim import slim
from attnkit.authoring.vendor import VendorError, vendor

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config
    from sphinx.environment import BuildEnvironment


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the hooks."""
    # Pages that link to the lab are read again when the address changes.
    app.add_config_value("attnkit_repository", "", "env")
    # Before myst-nb and the theme read the configuration (500 is the usual priority).
    app.connect("config-inited", configure, priority=100)
    app.connect("builder-inited", prepare, priority=100)
    app.connect("env-get-outdated", outdated)
    app.connect("doctree-read", show_less)
    app.connect("html-page-context", no_launch, priority=100)
    app.connect("build-finished", finish)
    app.add_role("lab", LabRole())
    app.setup_extension("attnkit.authoring.sphinx_explorer")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


class LabRole(SphinxRole):
    """The role `lab`: where a lab is to be had, in Colab if the book is published, else as a file in the built book."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """The links to the lab that the role's text names."""
        project = load_project(self.env.srcdir)
        path = f"labs/{self.text}/{self.text}.ipynb"
        if not (project.root / path).is_file():
            message = self.inliner.reporter.error(f"{path} does not exist; run: attnkit lab build", line=self.lineno)
            return [], [message]
        download = addnodes.download_reference("", "", reftarget=f"/{path}", refdoc=self.env.docname, refdomain="")
        download += nodes.Text("Download the lab’s notebook" if not project.slug else "download its notebook")
        if not project.slug:
            return [download], []
        colab = nodes.reference("", "Open the lab in Colab", refuri=project.colab_url(path))
        return [colab, nodes.Text(" or "), download], []


def configure(app: Sphinx, config: Config) -> None:
    """Point the cache below the root and, where the book is published, add launch and edit links."""
    from attnkit.authoring import sphinx_translation

    sphinx_translation.connect(app)
    project = load_project(app.srcdir)
    config.attnkit_repository = project.repository
    config.nb_execution_cache_path = str(jupyter_cache_path(project.root))
    for name, value in published_options(project).items():
        config.html_theme_options[name] = value
    if project.slug:
        owner, _, name = project.slug.partition("/")
        config.html_baseurl = f"https://{owner.lower()}.github.io/{name}/"


def published_options(project: Project) -> dict[str, Any]:
    """The theme's options for links back to the repository; empty until one is set."""
    if not project.repository:
        return {}
    return {
        "repository_url": project.repository,
        "repository_branch": "main",
        "path_to_docs": "",
        "use_repository_button": True,
        "use_edit_page_button": True,
        "launch_buttons": {"colab_url": "https://colab.research.google.com", "notebook_interface": "jupyterlab"},
    }


def prepare(app: Sphinx) -> None:
    """Execute what changed and lay every chapter's outputs where myst-nb looks for them."""
    from sphinx.errors import ExtensionError

    root = Path(app.srcdir)
    chapters = chapters_of(app)
    try:
        vendor(root)
        refresh(chapters, say=lambda text: print(text, flush=True))
    except (ChapterError, VendorError) as error:
        raise ExtensionError(str(error)) from None
    fill_jupyter_cache(chapters, jupyter_cache_path(root))


def chapters_of(app: Sphinx) -> list[Chapter]:
    """The chapters that are being built: those of the book, or of another table of contents."""
    root = Path(app.srcdir)
    return load_chapters(root, root / str(app.config.external_toc_path))


def jupyter_cache_path(root: Path) -> Path:
    """Where myst-nb's cache lies."""
    return root / ".cache" / "jupyter-cache"


def fill_jupyter_cache(chapters: list[Chapter], folder: Path) -> None:
    """Replace what jupyter-cache holds by the current outputs: its own key does not see that attnkit changed."""
    from jupyter_cache import get_cache
    from jupyter_cache.base import CacheBundleIn
    from myst_nb.core.read import read_myst_markdown_notebook
    from myst_parser.config.main import MdParserConfig

    cache = get_cache(str(folder))
    for chapter in chapters:
        # The cache compares with myst-nb's own reading of the page, so that is what gets the outputs.
        nb = read_myst_markdown_notebook(chapter.path.read_text("utf-8"), config=MdParserConfig())
        run = [cell for cell in chapter.executed().cells if cell.cell_type == "code"]
        cells = [cell for cell in nb.cells if cell.cell_type == "code"]
        for cell, executed in zip(cells, run, strict=True):
            if cell.source != executed.source:
                raise RuntimeError(f"{chapter.name}: jupytext and myst-nb read a cell differently:\n{cell.source}")
            cell.outputs, cell.execution_count = executed.outputs, executed.execution_count
        cache.cache_notebook_bundle(CacheBundleIn(nb, str(chapter.path)), check_validity=False, overwrite=True)


def outdated(app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """The pages whose outputs changed although their source did not; all, when what concerns every page changed.

    That is the order of the book, which stands beside each page, and the rule by which cells are shown.
    """
    common = (Path(app.srcdir) / "_toc.yml", Path(shown_module.__file__))
    keys = {chapter.name: chapter.key for chapter in chapters_of(app)}
    keys[""] = hashlib.sha256(b"\0".join(path.read_bytes() for path in common)).hexdigest()
    before = getattr(env, "attnkit_keys", {})
    env.attnkit_keys = keys  # type: ignore[attr-defined]  # Sphinx pickles what extensions put on the environment
    if before.get("") != keys[""]:
        return sorted(env.found_docs)
    return [name for name, key in keys.items() if before.get(name) != key]


def show_less(app: Sphinx, doctree: nodes.document) -> None:
    """Leave out of the shown cells what only serves the page's own numbers."""
    for cell in list(doctree.findall(nodes.container)):
        if "cell_input" not in cell.get("classes", []):
            continue
        for block in cell.findall(nodes.literal_block):
            magic, _, shell = block.astext().partition("\n")
            if magic == "%%bash":  # what a reader types into a terminal
                block["language"], source = "bash", shell
            else:
                source = shown_source(block.astext())
            block.rawsource = source
            block.children = [nodes.Text(source)] if source else []
        if not any(block.astext() for block in cell.findall(nodes.literal_block)):
            cell.parent.remove(cell)


def no_launch(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """No launch button on a page of the guide: it has no notebook that Colab could open."""
    if pagename.startswith(GUIDE):
        app.env.metadata[pagename].pop("kernelspec", None)
        (context.get("meta") or {}).pop("kernelspec", None)


def finish(app: Sphinx, exception: Exception | None) -> None:
    """Mend the written pages, and write down what each was made from."""
    if exception is None and app.builder.format == "html":
        mend(Path(app.outdir))
        slim(Path(app.outdir))
        write_manifest(Path(app.outdir), Path(app.srcdir), chapters_of(app))
