"""Small steps of the pipeline: what is shown of a cell, what is mended in a page, vendoring, the project's address."""

from __future__ import annotations

import pytest

from attnkit.authoring.mend import mend_page
from attnkit.authoring.pagetext import directives, prose, replace_directives
from attnkit.authoring.project import Project, ProjectError, load_project
from attnkit.authoring.shown import shown_source
from attnkit.authoring.sphinx_ext import published_options
from attnkit.authoring.vendor import MATHJAX, VendorError, vendor


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("x = 1\nglue('a', x)\ny = 2", "x = 1\ny = 2"),
        ("glue('a', 1)", ""),
        ("for n in 'ab':\n    glue(n, 1)", ""),
        ("for n in 'ab':\n    glue(n, 1)\n    print(n)", "for n in 'ab':\n    print(n)"),
        ("for n in 'ab':\n    if n:\n        glue(n, 1)\nx = 1", "x = 1"),
        ("with a:\n    if x:\n        y = 1\n        glue('y', y)", "with a:\n    if x:\n        y = 1"),
        ("if x:\n    glue('x', 1)\nelse:\n    y = 1", "if x:\n    glue('x', 1)\nelse:\n    y = 1"),
        ("from attnkit.viz import glue, table", "from attnkit.viz import table"),
        ("from attnkit.viz import glue", ""),
        ("from attnkit.viz import (\n    glue,\n    table,\n)\nx = 1", "from attnkit.viz import table\nx = 1"),
        ("glue(\n    'a',\n    1,\n)\nx = 1", "x = 1"),
        ("%time x = 1", "%time x = 1"),
        ("def f():\n    glue('a', 1)", "def f():\n    glue('a', 1)"),
    ],
)
def test_only_what_serves_the_prose_is_left_out(source, shown):
    assert shown_source(source) == shown


def test_mending_is_exact_and_idempotent():
    page = (
        '<link rel="preload" as="script" href="../_static/scripts/fontawesome.js?digest=1" />\n'
        '<script defer src="../_static/scripts/fontawesome.js?digest=1"></script>\n'
        '<script src="../_static/scripts/bootstrap.js"></script>\n'
        '<button class="btn search-button-field x" title="Search" aria-label="Search" data-x="1">Search</button>\n'
        '<button class="btn search-button" aria-label="Search"></button>\n'
        '<summary aria-label="Toggle hidden content">Show</summary>\n'
        '<div id="pst-primary-sidebar" class="bd-sidebar-primary bd-sidebar">\n'
        '<div class="citation" id="id1" role="doc-biblioentry">\n'
    )
    mended = mend_page(page)
    assert "fontawesome" not in mended
    assert "bootstrap.js" in mended
    assert '<button class="btn search-button" aria-label="Search">' in mended  # no text of its own: keeps its name
    assert mended.count("aria-label") == 2  # that button's, and the sidebar's new one
    assert 'role="complementary"' in mended
    assert 'role="listitem"' in mended
    assert mend_page(mended) == mended


def test_vendoring_copies_the_fonts_too_and_says_what_to_run_when_it_cannot(tmp_path):
    with pytest.raises(VendorError, match="npm ci"):
        vendor(tmp_path)
    source = tmp_path / "node_modules" / "mathjax" / "es5"
    (source / MATHJAX[1]).mkdir(parents=True)
    (source / MATHJAX[0]).write_text("js")
    (source / MATHJAX[1] / "a.woff").write_text("font")
    assert vendor(tmp_path) is True
    assert vendor(tmp_path) is False
    placed = tmp_path / "book" / "assets" / "vendor" / "mathjax"
    assert (placed / MATHJAX[0]).read_text() == "js"
    assert (placed / MATHJAX[1] / "a.woff").read_text() == "font"
    (source / MATHJAX[0]).write_text("newer")
    assert vendor(tmp_path) is True


def test_links_back_exist_only_with_a_repository(tmp_path):
    assert published_options(Project(tmp_path, "1", "")) == {}
    options = published_options(Project(tmp_path, "1", "https://github.com/someone/somewhere"))
    assert options["repository_url"] == "https://github.com/someone/somewhere"
    assert options["launch_buttons"]["colab_url"].startswith("https://colab")


@pytest.mark.parametrize("address", ["github.com/a/b", "https://example.org/a/b", "https://github.com/a", "x"])
def test_a_wrong_address_is_refused_with_what_it_should_be(tmp_path, address):
    (tmp_path / "pyproject.toml").write_text(f'[project]\nversion = "1"\n[tool.attnkit]\nrepository = "{address}"\n')
    with pytest.raises(ProjectError, match="it should be empty or"):
        load_project(tmp_path)


def test_directives_are_read_with_nesting_options_and_code_left_alone():
    text = "a\n````{note} Title\n:class: x\n\ninner\n```{tip}\ndeep\n```\n````\n```python\n```{fake}\n```\nz"
    found = directives(text)
    assert [(d.name, d.argument) for d in found][:2] == [("note", "Title"), ("tip", "")]
    assert found[0].options == {"class": "x"}
    assert replace_directives("```python\n{note}\n```", lambda d: "gone") == "```python\n{note}\n```"
    assert "inner" in prose(text)
    with pytest.raises(ValueError, match="never closed"):
        directives("```{note}\nopen")
