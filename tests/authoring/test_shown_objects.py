"""A page shows an object's source by its name, dotted for a method, in the twin as on the site."""

from __future__ import annotations

import pytest

from attnkit.authoring.chapters import load_chapters
from attnkit.authoring.execution import refresh
from attnkit.authoring.project import load_project
from attnkit.authoring.twins import TwinError, make_twin

SOURCE = """
def go():
    return 0


class Car:
    def go(self):
        return 1

    @property
    def speed(self):
        return 2
"""


def twin_text(book, shown: str, options: str = "") -> str:
    book.module("cars.py", SOURCE)
    book.page(
        "one",
        f"# One\n\n{book.cell('x = 1')}```{{literalinclude}} ../attnkit/cars.py\n:language: python\n"
        f":pyobject: {shown}\n{options}```\n",
    )
    chapters = load_chapters(book.root)
    refresh(chapters, say=lambda _: None)
    twin = make_twin(chapters[0], load_project(book.root))
    return "\n".join(cell.source for cell in twin.cells if cell.cell_type == "markdown")


@pytest.mark.parametrize(
    ("shown", "code"),
    [
        ("go", "def go():\n    return 0"),
        ("Car.go", "def go(self):\n    return 1"),
        ("Car.speed", "@property\ndef speed(self):\n    return 2"),
    ],
)
def test_a_twin_shows_the_object_that_is_named(book, shown, code):
    assert f"```python\n{code}\n```" in twin_text(book, shown)


@pytest.mark.parametrize("shown", ["speed", "Car.stop", "go.inner"])
def test_a_name_that_is_not_there_is_refused(book, shown):
    with pytest.raises(TwinError, match=f"no function or class '{shown}'"):
        twin_text(book, shown)


def test_a_twin_leaves_out_first_lines(book):
    assert "```python\ndef speed(self):\n    return 2\n```" in twin_text(book, "Car.speed", ":lines: 2-\n")


def test_other_choices_of_lines_are_refused(book):
    with pytest.raises(TwinError, match="a beginning"):
        twin_text(book, "Car.speed", ":lines: 2,5\n")
