"""Labs in the real nbgrader, unmodified: released, graded by our engine, marked, and points carried both ways."""

from __future__ import annotations

import csv
import json
import socket
import sqlite3
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest

from attnkit.authoring.labs import LabError, find_master
from attnkit.authoring.nbgrader_export import export
from attnkit.grading.seeds import course_key, seed
from tests.grading import nbgrader_env
from tests.grading.ledgers import small_class
from tests.grading.nbgrader_class import DESERVED, ESSAYS, MASTER, NAME, hand_in, write_lab
from tests.tools import need

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Course:
    """A course folder, nbgrader's environment, and the file that no submission should have written."""

    folder: Path
    environment: Path
    escaped: Path

    def nbgrader(self, *words: str, ok: bool = True) -> str:
        run = nbgrader_env.run(self.environment, self.folder, "nbgrader", *words)
        assert (run.returncode == 0) == ok, run.stderr[-3000:]
        return run.stderr

    def python(self, program: str, *words: str) -> str:
        run = nbgrader_env.run(self.environment, self.folder, "python", "-c", program, *words)
        assert run.returncode == 0, run.stderr[-3000:]
        return run.stdout

    def select(self, query: str) -> list[tuple]:
        with sqlite3.connect(self.folder / "gradebook.db") as database:
            return database.execute(query).fetchall()

    def autograded(self, student: str) -> nbformat.NotebookNode:
        return nbformat.read(self.folder / "autograded" / student / NAME / f"{NAME}.ipynb", as_version=4)


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`make nbgrader-env` creates it ahead of time; otherwise it is made here, which needs the package index."""
    folder = nbgrader_env.READY
    if not nbgrader_env.has_pins(folder):
        folder = tmp_path_factory.mktemp("nbgrader") / "venv"
        problem = nbgrader_env.make(folder)
        need(not problem, f"nbgrader in an environment of its own: {problem}")
    return folder


@pytest.fixture(scope="module")
def released(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Course:
    """The tiny lab in a new course, released by nbgrader."""
    folder = tmp_path_factory.mktemp("course")
    master, project = find_master(str(write_lab(tmp_path_factory.mktemp("labs"))))
    export(master, project, folder)
    course = Course(folder, environment, tmp_path_factory.mktemp("outside") / "escaped")
    course.nbgrader("generate_assignment", NAME)
    return course


@pytest.fixture(scope="module")
def graded(released: Course, jailed: None) -> Course:
    """Eleven submissions, autograded by nbgrader in one run."""
    hand_in(released.folder, released.escaped)
    released.nbgrader("autograde", NAME)
    return released


_GRADES = """
SELECT sa.student_id, cell.name, g.auto_score, g.manual_score, g.needs_manual_grade
FROM grade g JOIN submitted_notebook sn ON g.notebook_id = sn.id
JOIN submitted_assignment sa ON sn.assignment_id = sa.id JOIN base_cell cell ON g.cell_id = cell.id
"""


# The assignment


def test_nbgrader_releases_the_lab_and_knows_its_points(released: Course) -> None:
    text = (released.folder / "release" / NAME / f"{NAME}.ipynb").read_text("utf-8")
    assert "secret way" not in text
    assert "model answer" not in text
    assert "raise NotImplementedError()" in text
    assert "Why twice?\n\n<!-- question: essay -->\nYOUR ANSWER HERE" in [
        cell.source for cell in nbformat.reads(text, 4).cells
    ]
    worth = dict(released.select("SELECT b.name, g.max_score FROM grade_cells g JOIN base_cell b ON b.id = g.id"))
    assert worth == {"double": 3.0, "essay": 2.0}
    assert (released.folder / "release" / NAME / f"{NAME}_questions.py").is_file()


def test_a_second_export_changes_nothing(released: Course, tmp_path: Path) -> None:
    master, project = find_master(str(write_lab(tmp_path)))
    assert export(master, project, tmp_path / "course")
    assert export(master, project, tmp_path / "course") == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("# question: double", "# question: dubble", "no such question"),
        ("<!-- question: essay -->\n### BEGIN SOLUTION", "### BEGIN SOLUTION", "names no question"),
        ("+++\n", "```{code-cell} ipython3\n# question: double\nx = 1\n```\n\n+++\n", "twice"),
    ],
)
def test_a_master_that_fits_its_questions_badly_is_refused(old: str, new: str, told: str, tmp_path: Path) -> None:
    lab = write_lab(tmp_path)
    (lab / f"{NAME}.md").write_text(MASTER.replace(old, new), "utf-8")
    master, project = find_master(str(lab))
    with pytest.raises(LabError, match=told):
        export(master, project, tmp_path / "course")


# Grading


def test_each_submission_gets_what_it_deserves(graded: Course) -> None:
    found = {who: (auto, needs) for who, name, auto, _, needs in graded.select(_GRADES) if name == "double"}
    assert found == {who: (points, 0) for who, points in DESERVED.items()}


def test_words_wait_for_a_person_and_blank_ones_get_none(graded: Course) -> None:
    waiting = {who for who, name, auto, _, needs in graded.select(_GRADES) if name == "essay" and needs}
    assert waiting == ESSAYS
    assert all(auto == 0 for who, name, auto, _, needs in graded.select(_GRADES) if name == "essay" and not needs)


def test_nothing_of_a_student_ran_outside_the_jail(graded: Course) -> None:
    assert not graded.escaped.exists()
    assert b"root:" not in (graded.folder / "autograded" / "ida" / NAME / f"{NAME}.ipynb").read_bytes()


def test_what_could_not_be_read_is_kept_beside(graded: Course) -> None:
    folder = graded.folder / "submitted" / "hal" / NAME
    assert (folder / f"{NAME}.ipynb.unreadable").read_text() == "{not a notebook"
    assert any("could not be read" in cell.source for cell in graded.autograded("hal").cells)


def test_a_grade_cell_tells_the_feedback_and_the_isolation(graded: Course) -> None:
    (cell,) = [c for c in graded.autograded("cem").cells if c.metadata.get("nbgrader", {}).get("grade_id") == "double"]
    told, score = cell.outputs
    assert "It looks as if x is squared. Twice, not squared." in told.text
    assert "isolation: jail" in told.text
    assert score.data["text/plain"] == "0.0"


def test_the_points_are_those_of_the_engine_with_the_courses_key(graded: Course) -> None:
    """The key lies in the course folder; with it the seeds, and so the grades, can be drawn again."""
    path = graded.folder / "course.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(seed(course_key(path), NAME, "double", "ada", 1)) == 64


def test_nbgraders_feedback_and_export_take_it_from_there(graded: Course) -> None:
    graded.nbgrader("generate_feedback", NAME)
    page = (graded.folder / "feedback" / "bea" / NAME / f"{NAME}.html").read_text("utf-8")
    assert "It fails on large numbers" in page
    graded.nbgrader("export")
    with (graded.folder / "grades.csv").open(newline="") as file:
        scores = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
    assert scores == DESERVED


def test_a_grade_that_no_question_gives_is_an_error_and_no_gift(graded: Course) -> None:
    program = (
        "import nbformat\nfrom nbformat.v4 import *\nfrom attnkit.grading.adapters.nbgrader import give_scores\n"
        "from attnkit.lab.bank import load_lab\nfrom attnkit.grading.errors import GradingError\n"
        "meta = dict(grade_id='other', grade=True, solution=False, points=5)\n"
        "nb = new_notebook(cells=[new_code_cell('1', metadata={'nbgrader': meta})])\n"
        "try:\n    give_scores(nb, load_lab('attention'), {}, 'jail')\nexcept GradingError as error:\n    print(error)"
    )
    assert "grades 'other', which is no question of the lab attention" in graded.python(program)


def test_assignments_that_are_no_labs_are_nbgraders_own(environment: Path, tmp_path: Path) -> None:
    """A course may hold both: what `labs` does not name is executed as ever."""
    course = Course(tmp_path, environment, tmp_path / "escaped")
    config = (
        "from attnkit.grading.adapters.nbgrader import configure\nconfigure(get_config(), labs={'x': 'attention'})\n"
    )
    (tmp_path / "nbgrader_config.py").write_text(config, "utf-8")
    meta = {"schema_version": 3, "locked": True, "task": False, "grade": True, "solution": False}
    cell = nbformat.v4.new_code_cell("1.5 + 0.5", metadata={"nbgrader": {**meta, "grade_id": "sum", "points": 2}})
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata=kernel)
    for folder in ("source", "submitted/ada"):
        (tmp_path / folder / "old").mkdir(parents=True)
        nbformat.write(notebook, tmp_path / folder / "old" / "old.ipynb")
    course.nbgrader("generate_assignment", "old")
    assert "no lab of attnkit's" in course.nbgrader("autograde", "old")
    assert course.select(_GRADES) == [("ada", "sum", 2.0, None, 0)]


# Formgrader


class Formgrader:
    """The real one: nbgrader's server extension, as a browser talks to it."""

    def __init__(self, course: Course) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"http://127.0.0.1:{free.getsockname()[1]}/formgrader/api/"
        port = self.address.split(":")[2].split("/")[0]
        words = [
            "--no-browser",
            f"--port={port}",
            "--ServerApp.port_retries=0",
            "--IdentityProvider.token=x",
            "--allow-root",
        ]
        environment = nbgrader_env.environment_of(course.environment, course.folder)
        self.process = subprocess.Popen(
            [str(course.environment / "bin" / "jupyter-server"), *words],
            cwd=course.folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> Formgrader:
        deadline = time.monotonic() + 60
        while True:
            try:
                self.ask("status")
                return self
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    self.__exit__()
                    raise
                time.sleep(0.2)

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def ask(self, what: str, data: dict | None = None) -> Any:
        body = None if data is None else json.dumps(data).encode()
        head = {"Authorization": "token x"}
        request = urllib.request.Request(self.address + what, body, head, method="PUT" if body else "GET")
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.loads(reply.read())


def test_formgrader_lists_the_lab_and_its_marks_are_read_back(graded: Course) -> None:
    with Formgrader(graded) as formgrader:
        (listed,) = formgrader.ask("assignments")
        assert (listed["name"], listed["max_code_score"], listed["max_written_score"]) == (NAME, 3.0, 2.0)
        assert listed["num_submissions"] == len(DESERVED)
        (ada,) = [one for one in formgrader.ask(f"submissions/{NAME}") if one["student"] == "ada"]
        assert (ada["code_score"], ada["needs_manual_grade"]) == (3.0, True)
        (book,) = formgrader.ask(f"submitted_notebooks/{NAME}/{NAME}")[:1]
        assert book["max_score"] == 5.0
        number = graded.select(_ID)[0][0]
        (essay,) = [one for one in formgrader.ask(f"grades?submission_id={number}") if one["name"] == "essay"]
        formgrader.ask(f"grade/{essay['id']}", {"manual_score": 1.5, "extra_credit": 0.25})
        (comment,) = [one for one in formgrader.ask(f"comments?submission_id={number}") if one["name"] == "essay"]
        formgrader.ask(f"comment/{comment['id']}", {"manual_comment": "Go on."})
    told = graded.python(_READ)
    assert told.strip() == "HandMark(student='ada', question='essay', points=1.75, comment='Go on.', out_of=2.0)"


_ID = """
SELECT sn.id FROM submitted_notebook sn JOIN submitted_assignment sa ON sn.assignment_id = sa.id
WHERE sa.student_id = 'ada'
"""

# Points and marks, both ways

_WRITE = (
    "import sys\nfrom pathlib import Path\nfrom attnkit.grading.adapters.gradebook import points_into_gradebook\n"
    "print(points_into_gradebook(Path(sys.argv[1]), Path('gradebook.db')))"
)
_READ = (
    "from pathlib import Path\nfrom attnkit.grading.adapters.gradebook import marks_from_gradebook\n"
    "for one in marks_from_gradebook(Path('gradebook.db'), 'tiny'): print(one)"
)
_MARK = (
    "from nbgrader.api import Gradebook\n"
    "with Gradebook('sqlite:///gradebook.db') as book:\n"
    "    grade = book.find_grade('essay', 'tiny', 'tiny', '1')\n"
    "    grade.manual_score, grade.extra_credit, grade.needs_manual_grade = 1.5, 0.25, False\n"
    "    book.db.commit()"
)


def test_a_graded_class_goes_into_a_gradebook_and_marks_come_back(environment: Path, tmp_path: Path) -> None:
    course = Course(tmp_path, environment, tmp_path / "escaped")
    out = tmp_path / "grades"
    with small_class(out) as ledger:
        ledger.override("2", "tiny", "softmax", 2.0, "a slip", "kim")
    assert "students=2, kept=()" in course.python(_WRITE, str(out))
    assert sorted(course.select(_GRADES)) == [
        ("1", "essay", None, None, 1),
        ("1", "softmax", 3.0, None, 0),
        ("2", "essay", None, None, 1),
        ("2", "softmax", 1.0, 2.0, 0),
    ]
    course.python(_MARK)
    told = course.python(_READ)
    assert "HandMark(student='1', question='essay', points=1.75, comment='', out_of=2.0)" in told
    assert "kept=(('1', 'essay'),)" in course.python(_WRITE, str(out)), "what a person marked stays"
    assert ("1", "essay", None, 1.5, 0) in course.select(_GRADES)


def test_a_gradebook_of_other_questions_is_refused(graded: Course, tmp_path: Path) -> None:
    with small_class(tmp_path):
        pass
    program = _WRITE.replace("print(", "try:\n    print(") + "\nexcept Exception as error:\n    print(error)"
    assert "'tiny' of the gradebook grades double, essay; it should grade essay, softmax" in graded.python(
        program, str(tmp_path)
    )
