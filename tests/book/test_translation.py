"""The book can be translated: its messages are extracted without a warning, and a translated page keeps its numbers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from bs4 import BeautifulSoup

from attnkit.authoring.chapters import pages
from tests.tools import FRONT_MATTER

pytestmark = pytest.mark.slow

PAGE = """# One page

```{code-cell} ipython3
from attnkit.viz import glue
glue("sum", f"{1.25 + 1:.2f}")
```

(place)=
## A place

The sum is {glue:text}`sum`, and $a^2 + b^2$ is no sum; see [the place](#place).

$$
c = a + b
$$ (eq-sum)

Equation {eq}`eq-sum` holds in **every** language, and `code` stays code.

```{exercise} Add
:label: ex-add

What is {glue:text}`sum` less one?
```

```{solution} ex-add
:class: dropdown

Count $b$ down.
```

| symbol | meaning |
|---|---|
| $a$ | a number |
"""
MARK = "Ünd "


def jupyter_book(folder: Path, out: Path, *options: str) -> None:
    """Run it from `folder`; a warning is an error."""
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(folder)]
    command += ["-n", "-W", "--keep-going", "--path-output", str(out), *options]
    environment = {**os.environ, "PYTHONPATH": str(folder), "NO_COLOR": "1", "PYTHONWARNINGS": "ignore"}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    told = [line for line in (run.stdout + run.stderr).splitlines() if "WARNING" in line or "rror" in line]
    assert run.returncode == 0, told


def messages(folder: Path, out: Path) -> Catalog:
    """Everything that there is to translate."""
    jupyter_book(folder, out, "--builder", "custom", "--custom-builder", "gettext")
    with (out / "_build" / "gettext" / "book.pot").open("rb") as file:
        return read_po(file)


@pytest.fixture
def small_book(root: Path, site: Path, tmp_path: Path) -> Path:
    """A book of one page."""
    folder = tmp_path / "small"
    (folder / "book").mkdir(parents=True)
    shutil.copytree(root / "attnkit", folder / "attnkit", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(root / "book" / "assets", folder / "book" / "assets")
    shutil.copy(root / "pyproject.toml", folder)
    shutil.copy(root / "_config.yml", folder)
    (folder / "book" / "references.bib").write_text("")
    (folder / "book" / "one.md").write_text(FRONT_MATTER + PAGE, "utf-8")
    (folder / "_toc.yml").write_text("format: jb-book\nroot: book/one\n")
    return folder


def test_the_whole_book_gives_its_messages_without_a_warning(root: Path, site: Path, tmp_path: Path) -> None:
    catalog = messages(root, tmp_path)
    places = {Path(file).stem for message in catalog for file, _ in message.locations}
    assert places >= {page.stem for page in pages(root)}
    said = [str(message.id) for message in catalog]
    assert any("{glue:text}" in text for text in said), "a translator sees where a number stands"
    assert not [text for text in said if text.startswith("import ")], "code is not translated"


def test_a_translated_page_keeps_numbers_formulas_and_links(small_book: Path, tmp_path: Path) -> None:
    catalog = messages(small_book, tmp_path / "messages")
    for message in catalog:
        if message.id and not str(message.id).startswith(("\n", "c = ")):
            message.string = MARK + str(message.id)
    target = small_book / "locale" / "de" / "LC_MESSAGES"
    target.mkdir(parents=True)
    with (target / "book.mo").open("wb") as file:
        write_mo(file, catalog)
    original, translated = tmp_path / "original", tmp_path / "translated"
    jupyter_book(small_book, original)
    settings = small_book / "_config.yml"
    text = settings.read_text("utf-8").replace(
        "  config:\n", "  config:\n    language: de\n    locale_dirs: [locale]\n", 1
    )
    settings.write_text(text, "utf-8")
    jupyter_book(small_book, translated)

    before, after = (
        BeautifulSoup((out / "_build/html/book/one.html").read_text("utf-8"), "html.parser")
        for out in (original, translated)
    )
    assert MARK not in before.article.get_text()
    for words in ("One page", "The sum is 2.25", "Equation (1) holds", "What is 2.25 less one", "Count"):
        assert words in " ".join(before.article.get_text().split())
        assert MARK + words in " ".join(after.article.get_text().split())
    for kept in ("span.pasted-text", ".math", "article code", "article strong", "div.exercise", "div.solution"):
        texts = [[tag.get_text() for tag in page.select(kept)] for page in (before, after)]
        if kept.startswith("div"):
            texts = [[str(len(found)) for found in texts[:1]], [str(len(found)) for found in texts[1:]]]
        assert texts[0] == [text.replace(MARK, "") for text in texts[1]], kept
    links = [[a["href"] for a in page.article.select("p a")] for page in (before, after)]
    assert links[0] == links[1]
