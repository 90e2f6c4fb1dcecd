"""`attnkit lab verify` finds each thing that can be wrong with a lab, and lets right ones pass.

Here on a template's lab; what it says of our own is in tests/lab/test_verified.py.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from attnkit.authoring import verify_questions as of_questions
from attnkit.authoring.lab_commands import app
from attnkit.authoring.lab_new import new_lab
from attnkit.authoring.labs import build, find_master
from attnkit.authoring.verify import Asked, Verification, mutant_faults, privacy_faults, variant_faults, verify
from attnkit.authoring.verify_mutants import RATE, Killed, kill_rates
from attnkit.authoring.verify_notebook import Runs, notebook_faults, strict_faults
from attnkit.authoring.verify_shown import show, show_all
from attnkit.authoring.verify_solutions import marker_faults, solution_faults
from attnkit.lab.bank import load_lab
from attnkit.lab.question import Case, Invariant, Mistake, question
from attnkit.lab.variants import PRACTICE

pytestmark = pytest.mark.slow  # jails, or notebooks that run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The template's lab, built; tests that change it copy it first."""
    folder = new_lab("own", tmp_path_factory.mktemp("labs"))
    build(*find_master(str(folder)))
    return folder


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """A copy of the template's lab."""
    return shutil.copytree(made, tmp_path / "own")


def change(folder: Path, name: str, *changes: tuple[str, str]) -> None:
    """Replace some texts of a file by others."""
    path = folder / name
    text = path.read_text("utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, "utf-8")


def of_questions_file(folder: Path) -> str:
    """What is found without the notebook, as one text."""
    try:
        return faults(verify(*find_master(str(folder)), quick=True))
    except ValueError as error:  # the lab cannot even be read: the command says so and stops
        return str(error)


def of_master(folder: Path) -> list[str]:
    """What is found of the master alone, by the parts of `verify` that look at it."""
    master, project = find_master(str(folder))
    spec = load_lab(folder).for_student(PRACTICE)
    found = marker_faults(master, spec)
    if not found:
        told = zip(spec.questions, solution_faults(master, project, spec), strict=True)
        found = [f"{name}: {fault}" for name, some in told for fault in some]
    runs = Runs(master, project)
    return found or [*notebook_faults(runs, spec), *strict_faults(runs)]


def faults(found: Verification) -> str:
    """Everything that is wrong, as one text."""
    return "\n".join([*found.faults, *(f"{q.name}: {fault}" for q in found.questions for fault in q.faults)])


@pytest.mark.slow
def test_the_template_is_right_as_it_stands_and_nothing_is_written(made):
    before = {path: path.read_bytes() for path in made.rglob("*") if path.suffix != ".pyc"}
    found = verify(*find_master(str(made)))
    assert {path: path.read_bytes() for path in made.rglob("*") if path.suffix != ".pyc"} == before
    assert faults(found) == ""
    assert found.passed
    rows = {q.name: (q.kind, q.cases, q.mistakes, q.caught) for q in found.questions}
    assert rows == {"smooth": ("function, variant", 7, 8, 8), "Smoother": ("class", 3, 4, 4), "why": ("words", 0, 0, 0)}
    assert [w for q in found.questions for w in q.warnings] == ["names 4 mistakes; 8 or more catch most wrong answers"]
    tried = {q.name: q.mutants for q in found.questions}
    assert tried["why"] is None
    assert all(tried[name].rate >= 0.95 and tried[name].killed > 20 for name in ("smooth", "Smoother")), tried
    assert found.solved_in > 0


@pytest.mark.slow
def test_the_command_prints_a_table_or_json_and_exits_by_the_verdict(own, monkeypatch):
    right = CliRunner().invoke(app, ["verify", str(own), "--quick"])
    assert right.exit_code == 0
    assert "The lab own can be handed out." in right.output
    assert "Warning: Smoother: names 4 mistakes" in right.output
    (own / "own.ipynb").unlink()
    monkeypatch.setattr("attnkit.authoring.verify.kill_rates", lambda master, jobs: {})
    wrong = CliRunner().invoke(app, ["verify", str(own)])
    assert wrong.exit_code == 1
    assert "Fault: own.ipynb does not exist; run: attnkit lab build" in wrong.output
    assert "is not ready to be handed out" in wrong.output
    path = own / "questions.py"
    path.write_text(path.read_text("utf-8").replace('note="a single number"', 'note="a row of two numbers"'), "utf-8")
    told = CliRunner().invoke(app, ["verify", str(own), "--quick", "--json"])
    (found,) = json.loads(told.output)
    assert (told.exit_code, found["lab"], found["passed"], found["points"]) == (1, "own", False, 10.0)
    assert found["questions"][0]["faults"] == ["two cases have the note 'a row of two numbers'"]
    assert CliRunner().invoke(app, ["verify"]).exit_code == 2
    assert CliRunner().invoke(app, ["verify", str(own), "--all"]).exit_code == 2


def test_a_table_tells_what_was_caught_and_what_was_not(capsys):
    smooth = Asked("smooth", 5.0, "function", cases=7, mistakes=8, caught=8)
    smooth.mutants = Killed(killed=199, equivalent=7, alive=["line 4: a + b  ->  a - b"], of=300)
    other = Asked("Smoother", 3.0, "class", cases=3, mistakes=4, caught=4, warnings=["names 4 mistakes"])
    found = Verification("own", 10.0, [smooth, other, Asked("why", 2.0, "words")])
    show(found)
    told = capsys.readouterr().out
    assert re.search(r"^ smooth +5 +7 +8 of 8 +199 of 200 +99 % +7 +right +$", told, re.M), told
    assert re.search(r"^ Smoother +3 +3 +4 of 4 +- +- +- +warnings +$", told, re.M), told
    assert re.search(r"^ why +2 +- +- +- +- +- +right +$", told, re.M), told
    assert re.search(r"^ all +10 +10 +12 of 12 +199 of 200 +99 % +7 +warnings +$", told, re.M), "99.5 % is not 100 %"
    assert "smooth takes long: 207 of its 300 mutants were tried" in told
    assert "Mutant: smooth: line 4: a + b  ->  a - b  gets full marks" in told
    show_all([found, found], 3.0)
    assert re.search(r"^ all +20 +20 +24 of 24 +398 of 400 +99 % +14 +right +$", capsys.readouterr().out, re.M)


@pytest.mark.slow
def test_a_question_that_lets_mutants_pass_is_told(own):
    """Numbers are small, so within 100 of it everything of the right shape is right; and only ours must be better."""
    change(
        own,
        "questions.py",
        ("SINGLE_PRECISION = Tolerance(rtol=1e-4, atol=1e-5)", "SINGLE_PRECISION = Tolerance(0.0, 100.0)"),
    )
    tried = kill_rates(find_master(str(own))[0])["smooth"]
    assert tried.alive
    assert tried.rate < RATE
    (told,) = mutant_faults(tried)
    assert told.startswith(f"{tried.killed} of {tried.counted} mutants of its solution lose points; 95% should")
    assert mutant_faults(Killed(killed=95, alive=["one"] * 5)) == []


@pytest.mark.slow
def test_what_a_reader_should_not_meet_is_told(own):
    change(own, "own.md", ("lab.progress()", "lab.progress()\nimport warnings\nwarnings.warn('old')"))
    assert "wrote to standard error" in of_master(own)[-1]


SOLUTION = "averages[..., t] = share * averages[..., t - 1] + (1 - share) * averages[..., t]"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("own.md", SOLUTION, "pass", "smooth: the master's own answer does not get full marks"),
        ("own.md", "# question: smooth\n", "", "0 code cells hold the line `# question: smooth`; it should be one"),
        (
            "own.md",
            "```{code-cell} ipython3\nlab.progress()",
            "```{code-cell} ipython3\nimport time; time.time()",
            "twice",
        ),
        (
            "own.md",
            "```{code-cell} ipython3\nlab.progress()",
            "```{code-cell} ipython3\nsmooth(np.zeros(2))",
            "untouched, the student",
        ),
        (
            "own.md",
            "```{code-cell} ipython3\nlab.progress()",
            "```{code-cell} ipython3\n1 / 0",
            "does not run to its end",
        ),
        ("own.md", "lab.progress()", f"print({SOLUTION!r})", "lines of a solution"),
        (
            "own.md",
            "<!-- question: why -->",
            "<!-- question: how -->",
            "0 markdown cells hold the line `<!-- question: why",
        ),
        (
            "questions.py",
            '"""The running averages of a row: each is {share}',
            '"""Each is {rate}',
            r"docstring has {rate}",
        ),
        ("questions.py", "0.4, 0.6", "0.4, 0.5, 0.6", '"the two shares are exchanged": gets full marks'),
        (
            "questions.py",
            "return _smooth(x, self.share)\n",
            "return _smooth(x, self.share) + 1\n",
            "does not get full marks",
        ),
        ("questions.py", 'rubric = """', 'other = """', "why: a person marks it, and nothing says how"),
        ("questions.py", '"pandas.Series.ewm"', '"pandas series"', "'pandas series' is no dotted name"),
        ("questions.py", "Return all of them.", "Weigh it by 1 - share.", "two mistakes have the same hint"),
        ("questions.py", 'note="a row of four numbers"', 'note="a row of two numbers"', "two cases have the note"),
    ],
)
def test_each_kind_of_fault_is_found(own, name, old, new, says):
    change(own, name, (old, new))
    assert says in (of_questions_file(own) if name == "questions.py" else "\n".join(of_master(own)))


@pytest.mark.slow
def test_a_notebook_that_is_out_of_step_is_found(own):
    change(own, "own.md", ("# Lab: smoothing", "# Lab: averages"))
    assert of_master(own) == ["own.ipynb is out of step with own.md; run: attnkit lab build"]


@pytest.mark.slow
def test_a_notebook_built_without_checks_is_in_step(own):
    build(*find_master(str(own)), checks=False)
    assert of_master(own) == []


def test_a_private_question_of_a_lab_that_ships_with_attnkit_is_a_fault(root, tmp_path):
    lab = shutil.copytree(root / "labs" / "attention", tmp_path / "attention")
    change(lab, "questions.py", ("forbidden = _NO_SOFTMAX", "forbidden = _NO_SOFTMAX\n    private = True"))
    found = privacy_faults(find_master(str(lab))[0], load_lab(lab), ours=True)
    assert "softmax is private, but the questions of this lab ship with attnkit" in found[0]


def test_one_marker_a_question(own):
    text = (own / "own.md").read_text("utf-8")
    twice = "```{code-cell} ipython3\n# question: smooth\nx = 1\n```\n\n## Hand in"
    (own / "own.md").write_text(
        text.replace("## Hand in", twice).replace("# question: Smoother", "# question: other"), "utf-8"
    )
    found = marker_faults(find_master(str(own))[0], load_lab(own))
    assert found == [
        "2 code cells hold the line `# question: smooth`; it should be one",
        "0 code cells hold the line `# question: Smoother`; it should be one",
        "a code cell holds `# question: other`; other is not asked in questions.py",
    ]


def test_a_variant_that_never_varies_or_cannot_be_kept_is_found(own):
    path = own / "questions.py"
    text = path.read_text("utf-8")
    path.write_text(text.replace("float(rng.choice([0.2, 0.3, 0.4, 0.6, 0.7, 0.8]))", "0.3"), "utf-8")
    assert variant_faults(load_lab(own), "smooth") == ["20 students all draw the same variant: {'share': 0.3}"]
    path.write_text(text.replace("float(rng.choice", "np.float32(rng.choice"), "utf-8")
    assert "it should be a plain int" in variant_faults(load_lab(own), "smooth")[0]


# --- questions by themselves


def asked(**extra):
    """A question that doubles its input, with some of its fields replaced."""

    def cases(self, rng):
        yield Case((rng.integers(1, 9, size=3).astype(np.float32),), note="three numbers")

    body = {"__doc__": "Double it.", "cases": cases, "reference": lambda self, x: 2 * x, **extra}
    return question(points=1, answer="double")(type("Double", (), body))


def drawing(*arrays, part="ordinary"):
    """A method `cases` that gives the same arrays each time."""
    return lambda self, rng: [Case((array,), part=part, note=f"case {i}") for i, array in enumerate(arrays)]


FLOAT = np.arange(3, dtype=np.float32)


def test_cases_that_do_not_serve_are_told():
    assert of_questions.case_faults(asked()) == []
    assert "every seed draws the same cases" in of_questions.case_faults(asked(cases=drawing(FLOAT)))[0]
    wild = asked(cases=lambda self, rng: [Case((np.random.default_rng().random(3).astype("f4"),))])
    assert "the same seed draws different cases" in of_questions.case_faults(wild)[0]
    assert "a case holds float64" in of_questions.case_faults(asked(cases=drawing(FLOAT.astype(float))))[-1]
    stray = of_questions.case_faults(asked(cases=drawing(FLOAT, part="bonus")))
    assert stray[-2:] == [
        "no case belongs to the part 'ordinary'",
        "a case has the part 'bonus', which is worth nothing",
    ]


def test_mistakes_that_do_not_serve_are_told():
    right = Mistake("you doubled", lambda x: x + x, "That is right.")
    assert "gets full marks" in of_questions.mistake_faults(asked(mistakes=(right,)))[0]
    twins = (Mistake("you tripled", lambda x: 3 * x, "Two."), Mistake("thrice", lambda x: x + x + x, "Not three."))
    assert 'is taken for "you tripled"' in of_questions.mistake_faults(asked(mistakes=twins))[0]
    assert of_questions.alike_faults(asked(mistakes=twins)) == [
        'the mistakes "you tripled" and "thrice" give the same answers to every case'
    ]
    chance = Mistake("chance", lambda x: x * np.random.default_rng().random(), "No.")
    assert "not recognised" in of_questions.mistake_faults(asked(mistakes=(chance,)))[0]
    assert of_questions.mistake_faults(asked(mistakes=twins[:1])) == []


def test_a_reference_that_breaks_its_own_rules_is_told():
    rule = Invariant("it is small", lambda got, x: bool((got < 3).all()), "Small.")
    assert (
        'breaks the invariant "it is small" on three numbers'
        in of_questions.reference_faults(asked(invariants=(rule,)))[0]
    )
    noisy = asked(reference=lambda self, x: x * np.random.default_rng().random())
    assert "the reference gets 0 of 1 points with torch" in of_questions.reference_faults(noisy)[0]


def test_places_to_read_are_looked_up():
    pages = {"softmax": "(softmax-axis)=\n## Axis\n"}
    for read, says in (
        ("softmax#softmax-axis", []),
        ("softmax", []),
        ("softmax#gone", ["read 'softmax#gone': the page has no line (gone)="]),
        ("nowhere#x", ["read 'nowhere#x': the book has no page nowhere"]),
    ):
        assert of_questions.read_faults(asked(read=read), pages) == says
    wrong = Mistake("m", lambda x: x, "h", "softmax#gone")
    assert of_questions.read_faults(asked(mistakes=(wrong,)), pages)
