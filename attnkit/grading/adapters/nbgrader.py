"""Our engine inside an unmodified nbgrader: `nbgrader autograde` then runs nothing of a student in a kernel.

nbgrader executes a notebook with its tests in it, so a student's code runs in the process that judges it, and can
give itself any score (`notes` of the design; Kratzke 2019). Here its `Execute` step is replaced by `TrustedScores`: the
answers are graded by attnkit's engine, in a jail, and each grade cell is given one output, the score, which is all that
nbgrader's next step (`SaveAutoGrades`) reads. `CleanSubmission` comes first and puts cells and metadata in order.

In nbgrader_config.py, which `attnkit lab nbgrader` writes:

    from attnkit.grading.adapters.nbgrader import configure
    c = get_config()
    configure(c, labs={"attention": "attention"})  # assignment: lab, or the folder that holds its questions.py

nbgrader's environment needs attnkit (`pip install attnkit[grade] nbgrader`) and bubblewrap. Written against
nbgrader 0.9: nbgrader/converters/autograde.py, preprocessors/saveautogrades.py, utils.determine_grade.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.preprocessors import Preprocessor
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from traitlets import Bool, Dict, Float, Unicode

from attnkit.grading import seeds
from attnkit.grading.adapters.levels import choose
from attnkit.grading.adapters.nbgrader_cells import Wanted, cleaned
from attnkit.grading.adapters.single import as_plain_text, grade_one
from attnkit.grading.engine import Graded
from attnkit.grading.errors import GradingError
from attnkit.grading.intake import MAX_NOTEBOOK
from attnkit.grading.jail import Isolation, Limits
from attnkit.grading.zygote import Zygote
from attnkit.lab.bank import LabSpec, load_lab
from attnkit.lab.reading.notebook import NotANotebook, code_sources

KEY, SET_ASIDE = "course.key", ".unreadable"
_zygotes: dict[tuple[int, str, Limits], Zygote] = {}


class _OfLab(Preprocessor):
    """A step of nbgrader's that does its work for assignments which are labs of ours, and nothing for others."""

    enabled = Bool(True).tag(config=True)
    labs = Dict({}, help="Assignments that are labs: the lab's name, or the folder of its questions.py.").tag(
        config=True
    )

    def lab(self, resources: Mapping[str, Any]) -> str | None:
        """The lab that the assignment at hand is, if it is one."""
        return self.labs.get(resources["nbgrader"]["assignment"])


class CleanSubmission(_OfLab):
    """Puts a submission's cells in order before nbgrader looks at them; the file handed in stays as it is."""

    def preprocess(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        """`nb` with each cell of the assignment once."""
        if self.lab(resources) is None:
            return nb, resources
        told = resources["nbgrader"]
        return cleaned(nb, wanted_cells(told["db_url"], told["assignment"], told["notebook"])), resources


class TrustedScores(_OfLab):
    """Takes the place of nbgrader's Execute: scores come from the engine, and no cell is run in a kernel."""

    key = Unicode(KEY, help="The course key's file; made on first use, below the course's folder.").tag(config=True)
    isolation = Unicode(
        "jail", help="jail, uid, auto (the stronger that works), or none: answers then run unprotected."
    ).tag(config=True)
    seconds = Float(10.0, help="Time that one answer may take, in seconds; a question may ask for more.").tag(
        config=True
    )

    def preprocess(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        """`nb` with the score in each grade cell."""
        name, told = self.lab(resources), resources["nbgrader"]
        if name is None:
            return self._executed(nb, resources)
        course = Path.cwd()  # nbgrader works in the course's folder
        spec, isolation = load_lab(name), choose(self.isolation, [course])
        zygote = _zygote(isolation, Limits(self.seconds, self.seconds), course)
        data = nbformat.writes(nb).encode()
        record = grade_one(zygote, spec, data, told["student"], 1, seeds.course_key(course / self.key))
        give_scores(nb, spec, {one.question: one for one in record.answers}, isolation)
        self.log.info("attnkit: %s: %g points, isolation %s", told["student"], record.points, isolation)
        return nb, resources

    def _executed(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        from nbgrader.preprocessors import Execute

        self.log.warning("%s is no lab of attnkit's: nbgrader executes it", resources["nbgrader"]["assignment"])
        return Execute(parent=self.parent).preprocess(nb, resources)


def configure(c: Any, labs: Mapping[str, str], **settings: Any) -> None:
    """Set up nbgrader's config `c` so that assignments in `labs` are graded by attnkit; others stay as they are.

    `settings` are those of `TrustedScores`: `key`, `isolation`, `seconds`.
    """
    from nbgrader.converters import Autograde
    from nbgrader.preprocessors import Execute

    defaults = Autograde.class_traits()
    steps = defaults["autograde_preprocessors"].default()
    if Execute not in steps:
        raise GradingError("nbgrader: its autograde steps hold no Execute; attnkit knows nbgrader 0.9.")
    c.Autograde.sanitize_preprocessors = [CleanSubmission, *defaults["sanitize_preprocessors"].default()]
    c.Autograde.autograde_preprocessors = [TrustedScores if step is Execute else step for step in steps]
    c.Autograde.pre_convert_hook = make_readable
    c.CleanSubmission.labs = c.TrustedScores.labs = dict(labs)
    for name, value in settings.items():
        setattr(c.TrustedScores, name, value)


def give_scores(nb: NotebookNode, spec: LabSpec, graded: Mapping[str, Graded], isolation: str) -> None:
    """Set the outputs of each grade cell of `nb` to the feedback and the score.

    A cell's points may differ from the question's (they can be edited in nbgrader): then the score is its share.
    Raises `GradingError` for a grade cell that no question answers: nbgrader would give it full marks.
    """
    for cell in nb.cells:
        if cell.cell_type != "code":
            continue
        cell.outputs, cell.execution_count = [], None
        told = cell.metadata.get("nbgrader", {})
        if not told.get("grade") or told.get("solution"):
            continue
        name = told["grade_id"]
        if name not in graded:
            raise GradingError(f"the assignment grades {name!r}, which is no question of the lab {spec.name}")
        one = graded[name]
        score = max(0.0, min(1.0, one.points / one.max_points)) * float(told["points"])
        text = f"{as_plain_text(one)}\n\nGraded by attnkit, isolation: {isolation}.\n"
        cell.outputs = [
            new_output("stream", name="stdout", text=text),
            new_output("execute_result", data={"text/plain": repr(score)}, execution_count=None),
        ]


def wanted_cells(db_url: str, assignment: str, notebook: str) -> list[Wanted]:
    """The cells of an assignment that nbgrader knows, in their order, from its gradebook."""
    from nbgrader.api import Gradebook

    with Gradebook(db_url) as gradebook:
        book = gradebook.find_notebook(notebook, assignment)
        worth = {cell.name: cell.max_score for cell in book.grade_cells}
        answers = {cell.name for cell in book.solution_cells}
        return [
            Wanted(c.name, c.cell_type, c.source, c.checksum, c.name in answers, worth.get(c.name))
            for c in book.source_cells
        ]


def make_readable(assignment: str, student: str, notebooks: list[str]) -> None:
    """nbgrader's pre-convert hook: what would end its work on a student is put aside, and a note in its place.

    `notebooks` are the paths of one student's files. A file that is no notebook stays beside, as NAME.ipynb.unreadable;
    links are removed, since nbgrader would copy what they point to.
    """
    for path in map(Path, notebooks):
        for link in [one for one in path.parent.rglob("*") if one.is_symlink()]:
            link.unlink()
        if why := _why_unreadable(path):
            if path.exists():
                path.rename(path.with_name(path.name + SET_ASIDE))
            note = f"What was handed in could not be read: {why}. It is kept as {path.name}{SET_ASIDE}."
            # a code cell, so that there is one to read: the assignment's own cells are put back around it
            blank = new_notebook(cells=[new_markdown_cell(note), new_code_cell("# nothing to read")])
            nbformat.write(blank, path)


def _why_unreadable(path: Path) -> str:
    if not path.is_file():
        return "not a regular file"
    if path.stat().st_size > MAX_NOTEBOOK:
        return f"larger than {MAX_NOTEBOOK >> 20} MiB"
    try:
        data = path.read_bytes()
        code_sources(data)
        nbformat.reads(data.decode("utf-8-sig"), as_version=4)
    except NotANotebook as error:
        return str(error)
    except Exception as error:  # whatever nbformat makes of a hostile file, nbgrader would meet it too
        return f"{type(error).__name__} in nbformat"
    return ""


def _zygote(isolation: Isolation, limits: Limits, course: Path) -> Zygote:
    """One zygote for all submissions. bubblewrap dies with the thread that started it, so one a thread."""
    key = threading.get_ident(), isolation, limits
    if key not in _zygotes:
        _zygotes[key] = Zygote(isolation, limits, private=(course,))
        atexit.register(_zygotes[key].stop)
    return _zygotes[key]
