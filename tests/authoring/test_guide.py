"""The instructor's guide: what it names exists, its commands take what it gives them, its class can be played."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from attnkit.authoring import guide
from attnkit.authoring.chapters import load_chapters, pages
from attnkit.authoring.handout import HandOut
from attnkit.authoring.lab_commands import app
from attnkit.authoring.lab_new import new_lab
from attnkit.authoring.labs import LabError, find_master
from attnkit.authoring.rehearse import rehearse
from attnkit.authoring.twins import twin_path
from attnkit.authoring.verify import verify
from attnkit.cli import build_app
from attnkit.grading.cells import plan, read_cells
from attnkit.grading.identity import Student
from attnkit.grading.manual import find_answer
from attnkit.grading.notebook import code_sources, text_cells
from attnkit.lab.variants import named_student

pytestmark = pytest.mark.slow  # jails, or notebooks that run


def guide_pages(root: Path) -> list[Path]:
    """The pages of the guide that the book lists."""
    return [page for page in pages(root) if page.parent.name == "teach"]


def test_every_page_of_the_folder_is_in_the_book(root):
    assert sorted(guide_pages(root)) == sorted((root / "book" / "teach").glob("*.md"))
    assert len(guide_pages(root)) >= 4


def test_guide_pages_have_no_twin(root):
    """They run commands in a shell, which Colab has no place for."""
    of_guide = [chapter for chapter in load_chapters(root) if chapter.is_guide]
    assert of_guide
    assert not [twin_path(chapter) for chapter in of_guide if twin_path(chapter).exists()]


def test_a_template_that_changes_has_its_pages_executed_again(root):
    """The template is no module, and what the pages show is made of it."""
    own_lab = next(chapter for chapter in load_chapters(root) if chapter.name == "book/teach/own-lab")
    assert root / "attnkit" / "authoring" / "templates" / "questions.py.txt" in own_lab.dependencies


def test_every_test_that_the_security_model_names_exists(root):
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", (root / "book" / "teach" / "security.md").read_text("utf-8"))
    assert len(named) > 20
    files = {path.name: path.read_text("utf-8") for path in (root / "tests").rglob("test_*.py")}
    assert [f"{file}::{test}" for file, test in named if f"def {test}(" not in files.get(file, "")] == []


def commands(text: str) -> list[list[str]]:
    """Every call of attnkit that a page shows, as words."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = re.findall(r"^(?:    )?(attnkit [^`\n|>]+)", joined, re.MULTILINE)
    lines += re.findall(r"`(attnkit [^`\n]+)`", joined)
    return [shlex.split(re.sub(r"\s{2,}.*| #.*|\$\w+", " x", line)) for line in lines]


def unknown(command, words: list[str]) -> list[str]:
    """What the command that `words` name does not know of them: the command itself, or options."""
    while words and hasattr(command, "resolve_command"):
        try:
            _, command, words = command.resolve_command(typer.Context(command), words)
        except Exception as error:  # click's own, which typer keeps to itself
            return [str(error)]
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
    return sorted(
        {word.partition("=")[0] for word in words if word.startswith("--") and " " not in word} - known - {"--help"}
    )


def test_an_option_or_a_command_that_is_not_there_is_seen():
    click_app = typer.main.get_command(build_app())
    assert unknown(click_app, ["lab", "build", "x", "--public", "none"]) == []
    assert unknown(click_app, ["lab", "build", "x", "--publik", "none"]) == ["--publik"]
    assert unknown(click_app, ["lab", "bild"])
    assert unknown(click_app, ["grad"])


def test_every_command_that_the_guide_shows_takes_the_options_that_it_gives(root):
    click_app = typer.main.get_command(build_app())
    shown = {page.name: commands(page.read_text("utf-8")) for page in guide_pages(root)}
    assert sum(map(len, shown.values())) > 40
    wrong = [
        f"{page}: {' '.join(words)}: {fault}"
        for page, calls in shown.items()
        for words in calls
        for fault in unknown(click_app, words[1:])
    ]
    assert wrong == []


def test_the_table_of_fields_has_all_of_them(root):
    text = (root / "book" / "teach" / "own-lab.md").read_text("utf-8")
    read = re.findall(
        r'(?:getattr|_given)\((?:type\()?body\)?, "(\w+)"', (root / "attnkit/lab/question.py").read_text("utf-8")
    )
    assert len(set(read)) >= 10
    first = " ".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE))
    assert [name for name in sorted({*read, "cases", "reference"}) if f"`{name}" not in first] == []


def test_the_resource_that_the_guide_shows_works_in_the_template(root, tmp_path):
    text = (root / "book" / "teach" / "own-lab.md").read_text("utf-8")
    example = re.search(r"```python\n(resources = .*?)```", text, re.DOTALL)[1]
    folder = new_lab("averages", tmp_path)
    questions = folder / "questions.py"
    source = questions.read_text("utf-8").replace("import Case, Invariant,", "import Case, Invariant, Resource,")
    body = "".join(f"    {line}\n" if line else "\n" for line in example.splitlines())
    source = source.replace(
        '{"ordinary": 2, "shapes": 2}\n', '{"ordinary": 2, "shapes": 1, "long rows": 1}\n' + body, 1
    )
    questions.write_text(source, "utf-8")
    found = verify(*find_master(str(folder)), quick=True)
    assert [fault for question in found.questions for fault in question.faults] == []


def test_a_page_says_which_isolation_it_has(monkeypatch, tmp_path):
    for why, level in (("no bubblewrap", "none"), (None, "jail")):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(guide, "why_no_jail", lambda why=why: why)
        monkeypatch.setattr(os, "environ", dict(os.environ, FORCE_COLOR="1"))
        guide.begin()
        assert os.environ["ISOLATION"] == level
        assert "FORCE_COLOR" not in os.environ
        assert list(Path().iterdir()) == []


# --- a rehearsal


@pytest.fixture(scope="module")
def played(tmp_path_factory) -> Path:
    """A lab, handed out to seven and handed in again."""
    place = tmp_path_factory.mktemp("course")
    master, project = find_master(str(new_lab("averages", place)))
    students = [Student(f"s{number}", f"Student {number}") for number in range(1, 8)]
    HandOut(master, project, students, place / "out").write()
    (place / "told").write_text(repr(rehearse(master, place / "out", place / "in")))
    return place


@pytest.mark.slow
def test_a_rehearsal_plays_every_part(played):
    files = {f"s{n}": played / "in" / f"s{n}" / "averages.ipynb" for n in range(1, 8)}
    assert not files["s6"].exists()
    sources = {name: code_sources(path.read_bytes()) for name, path in files.items() if path.exists()}
    plans = {name: {q: plan(read_cells(cells), q) for q in ("smooth", "Smoother")} for name, cells in sources.items()}
    assert {name: named_student(cells) for name, cells in sources.items()} == {
        **{name: name for name in sources},
        "s5": "s1",
    }
    assert not any(plans["s1"][q].blank or plans["s1"][q].error for q in plans["s1"])
    assert plans["s3"]["Smoother"].blank
    assert "SyntaxError" in plans["s4"]["smooth"].error or "Error" in plans["s4"]["smooth"].error
    assert any("return x" in cell for cell in sources["s2"])
    assert find_answer(text_cells(files["s1"].read_bytes()), "why")[0].startswith("A share near 1")
    assert find_answer(text_cells(files["s2"].read_bytes()), "why") == ("", ())
    assert "s7': 'everything right" in (played / "told").read_text()
    assert (played / "in" / "notes.txt").is_file()


@pytest.mark.slow
def test_a_rehearsal_never_overwrites_and_needs_a_hand_out(played, tmp_path):
    master, _ = find_master(str(played / "averages"))
    with pytest.raises(LabError, match="is not empty; nothing was written"):
        rehearse(master, played / "out", played / "in")
    with pytest.raises(LabError, match=r"holds no hand-out\.csv"):
        rehearse(master, tmp_path, tmp_path / "in")
    refused = CliRunner().invoke(app, ["rehearse", str(played / "averages"), "--handed-out", str(tmp_path)])
    assert refused.exit_code == 1
    assert "attnkit lab hand-out" in refused.output
