"""Numbers of one's own: the same student always has the same, a notebook says whose it shows, mistakes are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attnkit.lab import Lab
from attnkit.lab.bank import LabNotFound, load_lab
from attnkit.lab.question import Case, QuestionError, question
from attnkit.lab.variants import folded, named_student, same_student, variant_rng

QUESTIONS = '''"""Powers."""

import numpy as np

from attnkit.lab.question import Case, Mistake, question


@question(points=2, answer="power")
class Power:
    """Raise every number to the power {exponent}.

    The exponent is yours alone: {exponent}.
    """

    def variant(self, rng):
        return {"exponent": int(rng.integers(2, 9))}

    def cases(self, rng):
        yield Case((rng.integers(1, 5, size=3).astype("f4"),))

    def reference(self, x):
        return x**self.exponent

    @property
    def mistakes(self):
        return (Mistake("you multiplied", lambda x: x * self.exponent, "Multiply x by itself."),)


@question(points=1, answer="twice")
class Twice:
    """Twice the number, with {braces} that stay."""

    def cases(self, rng):
        yield Case((rng.integers(1, 5, size=3).astype("f4"),))

    def reference(self, x):
        return 2 * x


@question(points=3, answer="why")
class Why:
    """Why is that?"""

    manual = True
    rubric = "A reason."


@question(points=4, answer="hidden")
class Hidden:
    """Three times the number."""

    private = True

    def cases(self, rng):
        yield Case((rng.integers(1, 5, size=3).astype("f4"),))

    def reference(self, x):
        return 3 * x
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A lab with a variant, a question without, one for a person and a private one."""
    place = tmp_path / "powers"
    place.mkdir()
    (place / "questions.py").write_text(QUESTIONS, "utf-8")
    return place


def test_the_same_student_always_has_the_same_numbers_and_others_have_others(folder):
    spec = load_lab(folder)
    drawn = {name: spec.for_student(name).questions["power"].variant["exponent"] for name in map(str, range(40))}
    assert drawn == {
        name: spec.for_student(name).questions["power"].variant["exponent"] for name in map(str, range(40))
    }
    assert set(drawn.values()) == set(range(2, 9)), "forty students should see every exponent"
    assert spec.for_student(" S 12").questions["power"].variant == spec.for_student("s12").questions["power"].variant
    assert spec.questions["power"].variant == {}
    assert spec.has_variants
    assert not load_lab("attention").has_variants


def test_numbers_are_the_same_in_every_process_and_release():
    """Fixed for good: a change here would give every student of a running course other numbers."""
    drawn = variant_rng("powers", "power", "s123").integers(0, 10**6, size=4)
    assert drawn.tolist() == [657503, 18645, 63878, 128694]


def test_lab_question_and_student_each_change_the_draw():
    args = [("a", "b", "c"), ("a", "b", "d"), ("a", "x", "c"), ("y", "b", "c"), ("ab", "", "c")]
    draws = [variant_rng(*one).integers(0, 2**60) for one in args]
    assert len(set(draws)) == len(args)
    with pytest.raises(ValueError, match="it should be a student's id"):
        variant_rng("a", "b", "  ")


def test_spellings_of_an_id_are_one_student():
    assert folded(" Zoé  12 ") == folded("ZOE\u0301 12") == "zoé12"
    assert same_student("S-1", "s-1")
    assert not same_student("S-1", "s1")


def test_the_question_carries_its_students_numbers_everywhere(folder):
    mine = load_lab(folder).for_student("s123").questions["power"]
    exponent = mine.variant["exponent"]
    assert mine.doc == f"Raise every number to the power {exponent}."
    assert mine.task.endswith(f"yours alone: {exponent}.")
    np.testing.assert_array_equal(mine.reference(np.array([2.0])), [2.0**exponent])
    np.testing.assert_array_equal(mine.mistakes[0].wrong(np.array([2.0])), [2.0 * exponent])
    assert load_lab(folder).questions["power"].doc == "Raise every number to the power [exponent]."
    assert load_lab(folder).questions["twice"].doc == "Twice the number, with {braces} that stay."


def test_a_lab_checks_the_students_own_variant(folder):
    exponent = load_lab(folder).for_student("s123").questions["power"].variant["exponent"]
    lab = Lab(folder, student="S 123")
    assert lab.check("power", lambda x: x**exponent).passed
    wrong = lab.check("power", lambda x: x * exponent)
    assert "It looks as if you multiplied" in repr(wrong)
    assert not lab.check("power", lambda x: x ** (exponent + 1)).passed
    assert "practice" not in repr(lab)
    assert "student S 123" in repr(lab)
    assert f"to the power {exponent}" in repr(lab)


@pytest.mark.parametrize("given", [{}, {"student": None}, {"student": "  "}])
def test_without_a_name_it_is_the_practice_variant_and_says_so(folder, given):
    lab = Lab(folder, **given)
    assert "practice variant" in repr(lab)
    assert 'Lab("powers", student="your id")' in repr(lab.task("power"))
    text = repr(lab.check("power", lambda x: x))
    assert "numbers of the practice variant, not with yours" in text
    assert "practice variant" not in repr(lab.check("twice", lambda x: 2 * x))


def test_task_shows_the_text_as_words_and_as_html(folder):
    task = Lab(folder, student="s123").task("power")
    assert repr(task).startswith("power, 2 points\n\nRaise every number")
    assert 'role="status"' in task._repr_html_()
    assert "practice" not in repr(Lab(folder, student="s1").task("twice"))
    with pytest.raises(ValueError, match=r"was 'powr'; this lab has the questions power, twice, why, hidden"):
        Lab(folder).task("powr")


def test_what_a_person_or_only_the_grader_checks_is_said(folder):
    lab = Lab(folder, student="s1")
    lab.check("twice", lambda x: 2 * x)
    text = repr(lab.progress())
    assert text.startswith("1 of 3 points on the practice cases; 3 points more from a person; 4 points more when it is")
    assert "why     3 points, marked by a person" in text
    assert "hidden  4 points, checked only when it is graded" in text
    assert "A person reads and marks what you wrote for why." in repr(lab.submit())
    with pytest.raises(ValueError, match="hidden has no check in the notebook: it is checked only when"):
        lab.check("hidden", lambda x: 3 * x)
    with pytest.raises(ValueError, match="why has no check in the notebook: a person marks it"):
        lab.check("why", lambda: None)


def test_an_id_of_digits_may_be_a_number(folder):
    assert repr(Lab(folder, student=123)) == repr(Lab(folder, student="123"))
    assert named_student(["Lab('powers', student=123)"]) == "123"
    assert named_student(["STUDENT = True"]) is None


def test_a_file_beside_the_notebook_is_found_by_the_labs_name(folder, tmp_path, monkeypatch):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    with pytest.raises(LabNotFound, match=r"powers_questions\.py should lie beside the notebook"):
        load_lab("powers")
    (work / "powers_questions.py").write_text(QUESTIONS, "utf-8")
    beside, own = load_lab("powers").for_student("s1"), load_lab(folder).for_student("s1")
    assert beside.name == own.name == "powers"
    assert beside.questions["power"].variant == own.questions["power"].variant


@pytest.mark.parametrize(
    ("drawn", "says"),
    [
        ({"n": np.int64(3)}, r"the variant's n was np.int64\(3\), of type int64; it should be a plain int"),
        ({"n": float("nan")}, "the variant's n was nan"),
        ({"n": (1, 2)}, "of type tuple"),
        ({"n": {1: 2}}, "the variant's n was"),
        ({"not a name": 1}, "it should return a dict of values by name"),
        ([("n", 1)], "it should return a dict of values by name"),
        ({"n": 1, "parts": {"ordinary": 9}}, "draws parts, which is the same for every student"),
        ({"m": 1}, r"the docstring has \{n\}, which its variant does not draw; it draws m"),
        ({}, "it draws nothing"),
    ],
)
def test_a_variant_that_is_written_wrongly_is_told_in_words(drawn, says):
    class Asked:
        """Use {n}."""

        def variant(self, rng):
            return drawn

        def cases(self, rng):
            yield Case((1.0,))

        def reference(self, x):
            return x

    with pytest.raises(QuestionError, match=says):
        question(points=1, answer="f")(Asked).drawn(np.random.default_rng(0))


@pytest.mark.parametrize("doc", ["Use {} here.", "Use {n and more.", "Use {n:zz}."])
def test_braces_that_cannot_be_filled_in_are_told(doc):
    def variant(self, rng):
        return {"n": 1}

    body = {"__doc__": doc, "variant": variant, "cases": lambda self, rng: [], "reference": lambda self, x: x}
    with pytest.raises(QuestionError, match="braces cannot be filled in"):
        question(points=1, answer="f")(type("Asked", (), body)).drawn(np.random.default_rng(0))


def test_a_property_that_fails_is_told_and_not_taken_for_nothing():
    class Asked:
        """Use {n}."""

        def variant(self, rng):
            return {"n": 1}

        def cases(self, rng):
            yield Case((1.0,))

        def reference(self, x):
            return x

        @property
        def mistakes(self):
            return (self.misspelt,)

    made = question(points=1, answer="f")(Asked)
    with pytest.raises(QuestionError, match=r"mistakes could not be read.*misspelt"):
        made.drawn(np.random.default_rng(0))


@pytest.mark.parametrize(
    ("cells", "named"),
    [
        (['lab = Lab("powers", student="s1")'], "s1"),
        (['STUDENT = "s2"', 'lab = Lab("powers", student=STUDENT)'], "s2"),
        (["import attnkit.lab\n!pip install x\n%time\nlab = attnkit.lab.Lab('p', student='s3')"], "s3"),
        (['STUDENT: str = " s4 "'], "s4"),
        (['Lab("p", student="first")\nLab("p", student="last")'], "last"),
        (['Lab("p", student="one")', 'STUDENT = "two"'], "two"),
        (["if True:\n    STUDENT = 's5'"], "s5"),
        (['STUDENT = ""', 'lab = Lab("powers", student="")'], None),
        (['lab = Lab("powers")'], None),
        (["STUDENT = input()", "Lab('p', student=STUDENT + '1')", "student = 's'", "Other(student='x')"], None),
        (["# STUDENT = 's6'", "text = \"STUDENT = 's7'\""], None),
        (["STUDENT = 's8' (("], None),
        (["STUDENT = " + "(" * 5000], None),
        ([], None),
    ],
)
def test_whose_notebook_it_is_is_read_from_its_source(cells, named):
    assert named_student(cells) == named


def test_reading_a_name_runs_nothing(tmp_path):
    mark = tmp_path / "ran"
    assert named_student([f"STUDENT = open({str(mark)!r}, 'w').name", "STUDENT = 's1'"]) == "s1"
    assert not mark.exists()
