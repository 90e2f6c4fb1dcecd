"""The generator of number names in the lab `transformer` against the package that it stands in for."""

from __future__ import annotations

from pathlib import Path

from num2words import num2words


def test_the_number_names_of_the_notebook_are_those_of_num2words(root: Path) -> None:
    """All thousand of them, in both languages; the package has no place in a student's notebook."""
    text = (root / "labs" / "transformer" / "transformer.md").read_text("utf-8")
    cell = next(part for part in text.split("```") if "def german(" in part)
    names: dict = {}
    exec(cell.split("\n", 1)[1].rsplit("\n\n\nfor number in", 1)[0], names)
    for number in range(1000):
        assert " ".join(names["english"](number)) == num2words(number).replace("-", " ")
        assert "".join(names["german"](number)) == num2words(number, lang="de")
