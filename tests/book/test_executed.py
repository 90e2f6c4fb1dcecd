"""Everything on a page has been run, and a page's run is its twin's: the same cells, in the same order, once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from attnkit.authoring.chapters import Chapter, load_chapters, running_order
from attnkit.authoring.lint import skip_faults
from attnkit.authoring.shown import shown_source
from attnkit.authoring.twins import twin_path

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def chapters(root: Path, site: Path) -> list[Chapter]:
    """Every page with cells; the site is built, so all have run."""
    return load_chapters(root)


def test_every_code_cell_of_every_page_has_run(chapters):
    assert chapters
    left_out = [
        f"{chapter.name}: {cell.source[:40]!r}"
        for chapter in chapters
        for cell in chapter.executed().cells
        if cell.cell_type == "code" and not cell.execution_count
    ]
    assert left_out == []


def test_nothing_is_on_a_list_of_what_not_to_run(root, chapters):
    settings = yaml.safe_load((root / "_config.yml").read_text("utf-8"))["execute"]
    assert settings["execute_notebooks"] == "cache"
    assert not settings.get("exclude_patterns")
    assert {c.name: faults for c in chapters if (faults := skip_faults(c.notebook))} == {}


def test_the_manifest_says_how_long_each_page_ran_and_what_it_rests_on(chapters, site):
    told = {page["name"]: page for page in json.loads((site / "build-manifest.json").read_text("utf-8"))["pages"]}
    assert set(told) == {chapter.name for chapter in chapters}
    for chapter in chapters:
        page = told[chapter.name]
        assert page["seconds"] > 0.05, f"{chapter.name}: a kernel alone takes longer to start"
        assert page["executed"] == page["cells"] == len(chapter.cells)
        assert (page["key"], page["inputs"]) == (chapter.key, chapter.inputs)


def code_of(path: Path) -> list[str]:
    """The sources of a twin's code cells but for the first, which installs attnkit."""
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"][1:]


def test_a_twin_has_the_cells_that_ran_in_the_order_in_which_they_ran(chapters):
    """So comparing a twin's outputs with the run, as `attnkit book twins --check` does, is running the twin."""
    for chapter in (chapter for chapter in chapters if not chapter.is_guide):
        nb = chapter.notebook
        ran = [shown_source(nb.cells[place].source) for place in running_order(nb)]
        assert code_of(twin_path(chapter)) == [source for source in ran if source], chapter.name


def test_a_twin_misses_no_name_that_only_the_page_defines(chapters, tmp_path):
    """Lines that hand numbers to the prose are left out of twins: nothing else may rest on them."""
    for chapter in (chapter for chapter in chapters if not chapter.is_guide):
        lines = [line for source in code_of(twin_path(chapter)) for line in source.splitlines()]
        magic = ("%", "!")
        kept = ["pass" if line.startswith(magic) else line for line in lines]
        (tmp_path / f"{chapter.path.stem}.py").write_text("\n".join(kept) + "\n", "utf-8")
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--select",
        "F821,F823",
        "--output-format",
        "concise",
    ]
    run = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
