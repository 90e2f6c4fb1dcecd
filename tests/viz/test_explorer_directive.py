"""Explorers in a Sphinx page: scripts only where they are needed, a directive, a title that can be translated."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from attnkit.authoring.sphinx_explorer import make

PAGE = """# Page

```{explorer} positions
:title: How *far* away
{"kind": "alibi", "length": 16, "heads": 4}
```
"""


def sphinx(folder: Path, builder: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Build the pages in `folder` with nothing but the reader of Markdown and our extension."""
    (folder / "conf.py").write_text("extensions = ['myst_parser', 'attnkit.authoring.sphinx_explorer']\n", "utf-8")
    command = [sys.executable, "-m", "sphinx", "-b", builder, "-q", *options, str(folder), str(folder / builder)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Two pages, one with an explorer."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "index.md").write_text("# Index\n\n```{toctree}\npage\n```\n", "utf-8")
    (folder / "page.md").write_text(PAGE, "utf-8")
    run = sphinx(folder, "html", "-W")
    assert run.returncode == 0, run.stderr
    return folder


def scripts_of(page: Path) -> list[str]:
    html = BeautifulSoup(page.read_text("utf-8"), "html.parser")
    return [tag["src"].partition("?")[0] for tag in html.select("script[src]") if "explorer/" in tag["src"]]


def test_a_page_with_an_explorer_loads_the_frame_then_its_kind(built):
    names = ["explorer.js", "explorer_ui.js", "positions.js"]
    assert scripts_of(built / "html" / "page.html") == [f"_static/explorer/{name}" for name in names]
    for name in names:
        text = (built / "html" / "_static" / "explorer" / name).read_text("utf-8")
        assert "@VERSION@" not in text


def test_a_page_without_one_loads_nothing(built):
    assert scripts_of(built / "html" / "index.html") == []


def test_title_and_fallback_stand_in_the_page(built):
    html = BeautifulSoup((built / "html" / "page.html").read_text("utf-8"), "html.parser")
    assert html.select_one(".rubric").get_text() == "How far away"
    assert html.select_one(".rubric em").get_text() == "far"
    fallback = html.select_one(".ak-explorer .ak-fallback")
    assert fallback.select_one("svg")["aria-label"]
    assert fallback.select("table tr")


def test_the_title_is_offered_to_translators(built):
    run = sphinx(built, "gettext")
    assert run.returncode == 0, run.stderr
    assert "How *far* away" in (built / "gettext" / "page.pot").read_text("utf-8")


WRONG = {
    "```{explorer} matrices\n```": "kind: was 'matrices'",
    '```{explorer} positions\n{"kind": "none"}\n```': "kind: was 'none'",
    "```{explorer} positions\n[1]\n```": "should be a JSON object",
    '```{explorer} positions\n{"lenght": 3}\n```': "lenght",
    '```{explorer} positions\n{"kind"\n```': "delimiter",
}


def test_what_is_wrong_is_said_where_it_stands(tmp_path):
    (tmp_path / "index.md").write_text("# Index\n\n" + "\n\n".join(WRONG) + "\n", "utf-8")
    run = sphinx(tmp_path, "html")
    lines = (tmp_path / "index.md").read_text("utf-8").splitlines()
    for message in WRONG.values():
        assert message in run.stderr
    places = [i for i, line in enumerate(lines, start=1) if line.startswith("```{explorer}")]
    assert all(f"index.md:{place}" in run.stderr for place in places)


def test_the_body_is_the_arguments_of_the_function():
    explorer = make("matrix", '{"query": [[1, 0]], "key": [[1, 0], [0, 1]], "value": [[1], [2]], "mask": "none"}')
    assert explorer.kind == "matrix"
    assert explorer.spec["key"]["shape"] == [1, 2, 2]
