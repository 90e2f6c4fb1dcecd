"""A page shows new numbers when only the code behind it has changed, even for who calls jupyter-book by hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from attnkit.authoring import site as building
from tests.tools import FRONT_MATTER

PAGE = (
    FRONT_MATTER
    + """# One page

```{code-cell} ipython3
from attnkit.viz.tables import Table
from attnkit.viz import glue

glue("cells", len(Table(["a"], []).header))
Table(["a"], [["CELL"]])
```

It has {glue:text}`cells` column.
"""
)


@pytest.fixture
def small_book(root: Path, site: Path, tmp_path: Path) -> Path:
    """A book of two pages with its own copy of attnkit."""
    shutil.copytree(root / "attnkit", tmp_path / "attnkit", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(root / "book" / "assets", tmp_path / "book" / "assets")
    shutil.copy(root / "_config.yml", tmp_path)
    shutil.copy(root / "pyproject.toml", tmp_path)
    (tmp_path / "book" / "references.bib").write_text("")
    (tmp_path / "book" / "one.md").write_text(PAGE)
    (tmp_path / "book" / "two.md").write_text("# Two\n\nNo cells here.\n")
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/one\nchapters:\n  - file: book/two\n")
    return tmp_path


def jupyter_book(folder: Path) -> str:
    """Build as any user of Jupyter Book would; return what was said."""
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", "."]
    environment = {**os.environ, "PYTHONPATH": str(folder), "NO_COLOR": "1"}
    run = subprocess.run(
        [*command, "-n", "-W", "--keep-going"], cwd=folder, env=environment, capture_output=True, text=True
    )
    told = [line for line in (run.stdout + run.stderr).splitlines() if "WARNING" in line or "rror" in line]
    assert run.returncode == 0, told
    return run.stdout


@pytest.mark.slow
def test_a_page_follows_the_code_that_it_imports_and_the_order_of_the_book(small_book):
    page = small_book / "_build" / "html" / "book" / "one.html"
    assert "executed book/one" in jupyter_book(small_book)
    assert '<th scope="row">CELL</th>' in page.read_text("utf-8")
    assert "It has 1 column" in BeautifulSoup(page.read_text("utf-8"), "html.parser").get_text()

    assert "executed" not in jupyter_book(small_book)

    tables = small_book / "attnkit" / "viz" / "tables.py"
    changed = tables.read_text().replace("{escape(row[0])}</th>", "new:{escape(row[0])}</th>")
    assert changed != tables.read_text()
    tables.write_text(changed)
    assert "executed book/one" in jupyter_book(small_book)
    assert "new:CELL" in page.read_text("utf-8")

    two = page.with_name("two.html")
    assert "three.html" not in two.read_text("utf-8")
    (small_book / "book" / "three.md").write_text("# Three\n\nThe newest.\n")
    with (small_book / "_toc.yml").open("a") as toc:
        toc.write("  - file: book/three\n")
    assert "executed" not in jupyter_book(small_book)
    assert "three.html" in two.read_text("utf-8"), "a new page stands beside every page at once"


@pytest.mark.slow
def test_links_back_appear_as_soon_as_an_address_is_set(small_book):
    """One setting, in one place; pages that were built without it are written again."""
    page = small_book / "_build" / "html" / "book" / "one.html"
    lab = small_book / "labs" / "demo" / "demo.ipynb"
    lab.parent.mkdir(parents=True)
    lab.write_text("{}")
    two = small_book / "book" / "two.md"
    two.write_text("# Two\n\nDo {lab}`demo`.\n")
    jupyter_book(small_book)
    assert "github.com" not in page.read_text("utf-8")
    assert "Download the lab" in page.with_name("two.html").read_text("utf-8")

    settings = small_book / "pyproject.toml"
    lines = settings.read_text().splitlines()
    address = "https://github.com/someone/somewhere"
    lines = [f'repository = "{address}"' if line.startswith("repository =") else line for line in lines]
    settings.write_text("\n".join(lines))
    (small_book / "book" / "one.ipynb").write_text("{}")  # the twin that Colab would open
    jupyter_book(small_book)
    colab = "https://colab.research.google.com/github/someone/somewhere/blob/main"
    text = page.read_text("utf-8")
    assert f"{colab}/book/one.ipynb" in text
    assert f"{address}/edit/main/book/one.md" in text
    assert f"{colab}/labs/demo/demo.ipynb" in page.with_name("two.html").read_text("utf-8")


@pytest.mark.slow
def test_one_page_can_be_built_alone_and_only_its_own_faults_stop_it(small_book, monkeypatch):
    """Not yet in _toc.yml, with links to pages that are not part of it."""
    monkeypatch.setenv("PYTHONPATH", str(small_book))
    draft = small_book / "book" / "draft.md"
    draft.write_text("(here)=\n# A draft\n\nSee [two](two.md), [one place](#there) and [here](#here).\n")
    two = small_book / "book" / "two.md"
    two.write_text("(there)=\n# Two\n\nNo cells here.\n")
    built = building.build_only(small_book, ["book/draft"], say=lambda _: None)
    assert "A draft" in (built / "book" / "draft.html").read_text("utf-8")
    assert not (built / "book" / "two.html").exists()
    assert not list((small_book / ".cache").glob("chapters/*")), "a page that was not asked for was not executed"

    draft.write_text(draft.read_text() + "\nSee [nothing](#nowhere), about 12.34.\n")
    with pytest.raises(building.BuildError, match=r"12\.34 is typed"):
        building.build_only(small_book, ["book/draft"], say=lambda _: None)
    draft.write_text(draft.read_text().replace(", about 12.34", ""))
    with pytest.raises(building.BuildError, match="nowhere") as caught:
        building.build_only(small_book, ["book/draft.md"], say=lambda _: None)
    assert "two.md" not in str(caught.value)
