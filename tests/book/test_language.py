"""The words: no known misspelling in pages, masters, guides and sources; British spelling in what a reader reads."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from attnkit.authoring.pagetext import prose

ALLOWED = Path(__file__).with_name("words.txt")
_STEMS = (
    "normal|real|general|initial|special|local|token|summar|character|regular|minim|maxim|visual|serial|organ|recogn"
)
AMERICAN = re.compile(
    rf"\b(colors?|colored|behaviors?|neighbors?|neighboring|favor(?:s|ed|ite)?|centers?|centered|gray|modeling|modeled|labeled"
    rf"|labeling|analyz\w+|(?:{_STEMS}|emphas|util|parallel|quant|memor|optim|penal)iz(?:e|es|ed|ing|ation|ations))\b",
    re.IGNORECASE,
)


def texts(root: Path) -> list[Path]:
    """What a reader reads."""
    pages = [*(root / "book").rglob("*.md"), *(root / "labs").glob("*/*.md")]
    return sorted([*pages, root / "README.md", root / "CONTRIBUTING.md"])


def misspelled(*paths: Path) -> str:
    """What codespell finds in files and folders; "" when all is well."""
    command = [
        sys.executable,
        "-m",
        "codespell_lib",
        "--ignore-words",
        str(ALLOWED),
        "--skip",
        "*.ipynb,*.json,*.safetensors",
    ]
    run = subprocess.run([*command, *map(str, paths)], capture_output=True, text=True)
    assert run.returncode in (0, 65), run.stderr
    return run.stdout


def american(text: str) -> list[str]:
    """American spellings in the prose of a page; code, links and the names of tags keep theirs."""
    return [match[0] for match in AMERICAN.finditer(prose(text))]


def test_no_known_misspelling(root: Path) -> None:
    assert misspelled(*texts(root), root / "attnkit") == ""


def test_prose_is_spelt_the_british_way(root: Path) -> None:
    assert {path.name: found for path in texts(root) if (found := american(path.read_text("utf-8")))} == {}


def test_both_checks_see_a_fault_when_there_is_one(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Teh weights are recieved.\n")
    assert "Teh ==> The" in misspelled(page)
    assert american("We normalize the colors of `color` and label them.") == ["normalize", "colors"]


@pytest.mark.parametrize("word", ["size", "prize", "colour", "normalise", "citizen", "horizon"])
def test_right_words_pass(word: str) -> None:
    assert american(f"A {word} it is.") == []
