"""An instructor's own lab: made from the template, built outside a clone, handed out with what may travel."""

from __future__ import annotations

import ast
import csv
import json
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest
from typer.testing import CliRunner

from attnkit.authoring import project as projects
from attnkit.authoring.handout import folders_of
from attnkit.authoring.lab_commands import app
from attnkit.authoring.lab_new import new_lab
from attnkit.authoring.labs import LabError, completed_notebook, find_master, leaks, solution_lines
from attnkit.authoring.notebook import dumps, execute, read_myst
from attnkit.authoring.personal import MasterError, personal
from attnkit.authoring.project import Project, installed_from, project_of
from attnkit.authoring.travelling import public_questions, travels
from attnkit.grading.identity import Student
from attnkit.lab.bank import load_lab
from attnkit.lab.variants import named_student

pytestmark = pytest.mark.slow  # jails, or notebooks that run

ROSTER = "id,name\ns1,Ann Lee\ns 2,Bo Chan\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The template's lab, built; tests that change it copy it first."""
    parent = tmp_path_factory.mktemp("own")
    run = CliRunner().invoke(app, ["new", "rotary", "--folder", str(parent)])
    assert run.exit_code == 0, run.output
    return parent / "rotary"


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """A copy of the template's lab."""
    return shutil.copytree(made, tmp_path / "rotary")


def read(path: Path):
    return nbformat.read(path, as_version=4)


def run(*arguments: object):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def shown(nb, start: str) -> str:
    """The text outputs of the cells whose source starts with `start`."""
    texts = [
        output.get("text") or output.get("data", {}).get("text/plain", "")
        for cell in nb.cells
        if cell.cell_type == "code" and cell.source.startswith(start)
        for output in cell.outputs
    ]
    assert texts, start
    return "\n".join(texts)


def test_it_holds_one_of_each_kind_and_says_what_is_what(made):
    assert sorted(p.name for p in made.iterdir()) == [
        *("README.md", "questions.py", "rotary.ipynb", "rotary.md", "rotary_questions.py")
    ]
    questions = load_lab(made).questions
    assert any(isinstance(q.reference, type) for q in questions.values())
    assert any(q.draw for q in questions.values())
    assert any(q.manual for q in questions.values())
    assert any(q.forbidden for q in questions.values())
    assert any(q.invariants for q in questions.values())
    readme = (made / "README.md").read_text("utf-8")
    assert "__NAME__" not in readme + (made / "rotary.md").read_text("utf-8")
    assert len(readme.splitlines()) <= 22


def test_a_second_time_nothing_is_overwritten(own):
    before = {path: path.read_bytes() for path in own.iterdir()}
    again = run("new", "rotary", "--folder", own.parent)
    assert again.exit_code == 1
    assert "not empty; nothing was written" in again.output
    assert {path: path.read_bytes() for path in own.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "says"),
    [("attention", "a lab of attnkit's own"), ("My Lab", "lower-case letters"), ("../x", "was '../x'")],
)
def test_names_that_cannot_be_are_refused_and_nothing_is_written(name, says, tmp_path):
    with pytest.raises(MasterError, match=says):
        new_lab(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_its_notebook_checks_itself_in_a_folder_of_its_own(made, tmp_path):
    """The student has the notebook and the file that goes with it, and no clone."""
    for name in ("rotary.ipynb", "rotary_questions.py"):
        shutil.copy(made / name, tmp_path)
    untouched = execute(read(tmp_path / "rotary.ipynb"), tmp_path)
    assert shown(untouched, "lab.check").count("Not written yet.") == 2
    assert shown(untouched, "lab.progress").startswith("0 of 8 points")
    master, project = find_master(str(made))
    done = execute(completed_notebook(master, project), tmp_path)
    assert shown(done, "lab.check").count("All cases pass.") == 2
    assert shown(done, "lab.progress").startswith("8 of 8 points on the practice cases; 2 points more from a person")


@pytest.mark.slow
def test_without_its_questions_the_notebook_says_which_file_is_missing(made, tmp_path):
    shutil.copy(made / "rotary.ipynb", tmp_path)
    nb = execute(read(tmp_path / "rotary.ipynb"), tmp_path, allow_errors=True)
    assert any("rotary_questions.py should lie beside" in str(cell.get("outputs")) for cell in nb.cells)


@pytest.mark.slow
def test_build_works_by_path_and_finds_a_change(own):
    assert "unchanged" in run("build", own).output
    assert run("build", own, "--check").exit_code == 0
    master = own / "rotary.md"
    master.write_text(master.read_text("utf-8").replace("# Lab: smoothing", "# Lab: averages"), "utf-8")
    stale = run("build", own, "--check")
    assert stale.exit_code == 1
    assert "out of step" in stale.output
    assert "written" in run("build", own).output
    assert "# Lab: averages" in (own / "rotary.ipynb").read_text("utf-8")


@pytest.mark.slow
def test_without_checks_no_cell_asks_for_the_lab_and_the_task_stays(own):
    assert run("build", own, "--public", "none").exit_code == 0
    nb = read(own / "rotary.ipynb")
    code = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "code")
    assert "lab." not in code
    assert "Lab(" not in code
    assert "# question: smooth" in code
    share = load_lab(own).for_student("practice").questions["smooth"].variant["share"]
    assert f"share = {share}" in code
    assert f"each is {share} times the one before" in "\n".join(c.source for c in nb.cells if c.cell_type == "markdown")
    execute(nb, own.parent)  # runs to its end without a questions file


@pytest.mark.slow
def test_handed_out_each_student_has_their_own_id_and_numbers(own, tmp_path):
    roster, out = tmp_path / "roster.csv", tmp_path / "out"
    roster.write_text(ROSTER, "utf-8")
    done = run("hand-out", own, "--roster", roster, "--out", out)
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((out / "hand-out.csv").open(encoding="utf-8")))
    assert [(row["id"], row["file"]) for row in rows] == [("s1", "s1/rotary.ipynb"), ("s 2", "s_2/rotary.ipynb")]
    spec = load_lab(own)
    for row in rows:
        nb = read(out / row["file"])
        cells = [cell.source for cell in nb.cells if cell.cell_type == "code"]
        share = spec.for_student(row["id"]).questions["smooth"].variant["share"]
        assert json.loads(row["variant"]) == {"smooth": {"share": share}}
        assert named_student(cells) == row["id"]
        assert f"share = {share}" in "\n".join(cells)
        assert f"each is {share} times the one before" in shown(nb, "lab.task")
        assert "practice variant" not in dumps(nb)
        assert (out / row["file"]).with_name("rotary_questions.py").is_file()
        assert leaks(nb, solution_lines(read_myst(own / "rotary.md"))) == []
    assert rows[0]["variant"] != rows[1]["variant"], "these two ids draw different shares"
    before = (out / rows[0]["file"]).read_bytes()
    assert run("hand-out", own, "--roster", roster, "--out", out).exit_code == 0, "an earlier hand-out may be renewed"
    assert (out / rows[0]["file"]).read_bytes() == before


def test_a_hand_out_never_goes_into_a_folder_with_other_files(own, tmp_path):
    (tmp_path / "roster.csv").write_text(ROSTER, "utf-8")
    refused = run("hand-out", own, "--roster", tmp_path / "roster.csv", "--out", tmp_path)
    assert refused.exit_code == 1
    assert "holds other files" in refused.output
    missing = run("hand-out", own, "--roster", tmp_path / "none.csv", "--out", tmp_path / "out")
    assert missing.exit_code == 1
    assert "--roster" in missing.output


@pytest.mark.parametrize(
    ("ids", "what"), [(["a/b", "a_b"], "folder"), (["A 1", "a1"], "variant"), (["..", "x"], "folder")]
)
def test_ids_that_would_share_a_folder_or_a_variant_are_refused(ids, what):
    with pytest.raises(LabError, match=f"gives the same {what} as another"):
        folders_of([Student(one, one) for one in ids])


# --- what travels


SECRET = '''

def _secret_helper(x):
    return x * 31337  # the helper of a private question


@question(points=5, answer="exam")
class Exam:
    """Nobody has seen this one."""

    private = True

    def cases(self, rng):
        yield Case((_draw(rng, 3),), note="a row")

    def reference(self, x):
        return _secret_helper(x)
'''


def with_private(own: Path) -> Path:
    """The lab with one more question, a private one, and its cell."""
    with (own / "questions.py").open("a", encoding="utf-8") as file:
        file.write(SECRET)
    master = own / "rotary.md"
    cell = (
        "```{code-cell} ipython3\n# question: exam\ndef exam(x):\n    ### BEGIN SOLUTION\n"
        "    return x * 31337\n    ### END SOLUTION\n```\n\n## Hand in"
    )
    master.write_text(master.read_text("utf-8").replace("## Hand in", cell), "utf-8")
    return own


@pytest.mark.slow
def test_private_questions_are_in_no_file_that_a_student_gets(own, tmp_path):
    with_private(own)
    assert run("build", own).exit_code == 0
    for name in ("rotary.ipynb", "rotary_questions.py"):
        text = (own / name).read_text("utf-8")
        assert "31337" not in text
        assert "Nobody has seen" not in text
        assert "_secret_helper" not in text
    assert "# question: exam" in (own / "rotary.ipynb").read_text("utf-8")
    travelled = tmp_path / "rotary_questions.py"
    shutil.copy(own / "rotary_questions.py", travelled)
    loaded, whole = load_lab(travelled), load_lab(own)
    assert list(loaded.questions) == ["smooth", "Smoother", "why"]
    assert list(whole.questions) == ["smooth", "Smoother", "why", "exam"]
    mine, theirs = (lab.for_student("s1").questions["smooth"] for lab in (whole, loaded))
    x = np.arange(5.0)
    np.testing.assert_array_equal(mine.reference(x), theirs.reference(x))
    assert [m.name for m in mine.mistakes] == [m.name for m in theirs.mistakes]


def test_what_travels_keeps_the_rubric_and_comments_between_classes_at_home(own):
    source = (own / "questions.py").read_text("utf-8")
    (own / "questions.py").write_text(
        source.replace("@question(points=2", "# the exam is like last year\n@question(points=2")
    )
    text = public_questions(own)
    assert "rubric" not in text
    assert "less noise" not in text
    assert "last year" not in text
    assert "manual = True" in text
    ast.parse(text)


def test_a_question_that_cannot_be_told_apart_is_refused(own):
    made_otherwise = (
        '\n\nclass _Hidden:\n    """Hidden."""\n\n    private = True\n    cases = reference = lambda *_: []\n\n\n'
    )
    with (own / "questions.py").open("a", encoding="utf-8") as file:
        file.write(made_otherwise + 'hidden = question(points=1, answer="hidden")(_Hidden)\n')
    with pytest.raises(MasterError, match="the question hidden is no class with a decorator"):
        public_questions(own)


def test_labs_of_ours_travel_in_the_wheel(root):
    assert not travels(root / "labs" / "attention")
    assert find_master("attention")[0].path == root / "labs" / "attention" / "attention.md"


# --- numbers in the master


def test_a_variant_cell_must_fit_its_question(own):
    nb = read_myst(own / "rotary.md")
    cell = next(cell for cell in nb.cells if "# variant:" in cell.source)
    for source, says in (
        ("# variant: smooth\nshare = 0.5\nother = 1", "assigns other; its variant draws share"),
        ("# variant: Smoother\nshare = 0.5", "the questions with a variant are: smooth"),
        ("# variant: smooth\nshare = (", "cannot be read"),
    ):
        cell.source = source
        with pytest.raises(MasterError, match=says):
            personal(nb, own, "s1")


@pytest.mark.parametrize(
    ("source", "filled"),
    [
        ('STUDENT = ""  # é: yours', 'STUDENT = "Zoë"  # é: yours'),
        ('é = 1; lab = Lab("rotary")', 'é = 1; lab = Lab("rotary", student="Zoë")'),
        ('lab = Lab("rotary", student="")', 'lab = Lab("rotary", student="Zoë")'),
        ('!pip list\nlab = Lab(\n    "rotary",\n)', '!pip list\nlab = Lab(\n    "rotary", student="Zoë",\n)'),
    ],
)
def test_the_id_goes_where_the_master_has_a_place_for_it(source, filled, own):
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    assert personal(nb, own, "Zoë").cells[0].source == filled
    assert named_student([filled]) == "Zoë"


def test_a_master_without_a_place_for_the_id_is_refused(own):
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 1")])
    assert personal(nb, own, "").cells[0].source == "x = 1"
    with pytest.raises(MasterError, match="no place for a student's id"):
        personal(nb, own, "s1")


# --- where attnkit comes from


def test_a_folder_outside_a_clone_is_a_project_of_its_own(own, root, tmp_path):
    outside = project_of(own)
    assert (outside.root, outside.repository, outside.is_clone) == (own, "", False)
    assert project_of(root / "labs" / "attention").is_clone
    inside = tmp_path / "clone" / "private" / "rotary"
    shutil.copytree(own, inside)
    (tmp_path / "clone" / "pyproject.toml").write_text(
        '[project]\nversion = "1"\n[tool.attnkit]\nrepository = "https://github.com/a/b"\n'
    )
    assert not project_of(inside).is_clone, "only what lies in labs/ is published with the book"
    assert find_master(str(own / "rotary.md"))[0] == find_master(str(own))[0]


@pytest.mark.parametrize(
    ("noted", "target"),
    [
        (None, "attnkit"),
        ({"url": "https://github.com/a/b", "vcs_info": {"vcs": "git"}}, "attnkit @ git+https://github.com/a/b"),
        (
            {"url": "https://github.com/a/b", "vcs_info": {"vcs": "git", "requested_revision": "v2"}},
            "attnkit @ git+https://github.com/a/b@v2",
        ),
        ({"url": "https://example.org/attnkit.whl", "archive_info": {}}, "attnkit @ https://example.org/attnkit.whl"),
        ({"url": "file:///nowhere/attnkit", "dir_info": {"editable": True}}, None),
    ],
)
def test_notebooks_install_attnkit_from_where_it_was_installed_here(noted, target, monkeypatch):
    class Distribution:
        def read_text(self, name):
            assert name == "direct_url.json"
            return None if noted is None else json.dumps(noted)

    monkeypatch.setattr(projects.importlib.metadata, "distribution", lambda name: Distribution())
    assert installed_from() == target


def test_the_setup_cell_installs_from_there(own):
    master, project = find_master(str(own))
    nb = completed_notebook(master, Project(project.root, "1", "", "attnkit @ git+https://github.com/a/b", False))
    assert '%pip install -q "attnkit @ git+https://github.com/a/b"' in nb.cells[1].source
    assert "colab" not in dumps(nb)
    nb = completed_notebook(master, Project(project.root, "1", "", "", False))
    assert "Install it as your course says" in nb.cells[1].source


@pytest.mark.parametrize(
    ("lab", "says"), [("no/such/folder", "should be a folder <name> that holds"), ("atention", "one of: attention")]
)
def test_a_lab_that_is_not_there_is_told_in_words(lab, says, tmp_path, monkeypatch):
    result = run("build", lab)
    assert result.exit_code == 1
    assert says in result.output
