"""One submission at a time: fallbacks, seeds, and feedback that tells no secret."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import numpy as np
import pytest

from attnkit.grading import seeds
from attnkit.grading.engine import Graded, grade_question, read_submission
from attnkit.grading.errors import GradingError
from attnkit.grading.feedback import feedback_page
from attnkit.grading.identity import Student
from attnkit.grading.ledger import Record
from attnkit.grading.standing import Asked, Class, Mark, Standing
from attnkit.grading.zygote import Zygote
from attnkit.lab.bank import load_lab
from tests.grading.conftest import notebook_bytes
from tests.redteam.answers import MISTAKES, RIGHT_NUMPY, RIGHT_TORCH

LAB = load_lab("attention")
SEEDS = [seeds.seed(bytes([n]) * 32, "attention", "q", "s", 1) for n in range(3)]


def graded(zygote: Zygote, source: str, question: str = "softmax", seed: str = SEEDS[0], *more: str) -> Graded:
    cells = read_submission(notebook_bytes(*more, f"# question: {question}\n{source}"))
    return grade_question(zygote, LAB.questions[question], cells, seed)


def test_numpy_and_torch_answers_are_both_taken(zygote: Zygote) -> None:
    assert graded(zygote, RIGHT_TORCH["softmax"]).framework == "torch"
    only_numpy = RIGHT_NUMPY["softmax"].replace(
        "def softmax(x):\n", "def softmax(x):\n    assert type(x) is np.ndarray\n"
    )
    result = graded(zygote, only_numpy)
    assert (result.points, result.framework, result.status) == (3, "numpy", "full")


def test_a_named_mistake_is_told_with_its_hint(zygote: Zygote) -> None:
    result = graded(zygote, MISTAKES["no maximum subtracted"][1])
    told = dict(result.told)
    assert result.points == 2
    assert "the row's maximum is not subtracted" in told["mistake"]
    assert "softmax" in told["read"]


# Each puts what it was given into everything that could come back to a student.
TALKATIVE = {
    "raises its input": "def softmax(x):\n    raise ValueError(repr(x))",
    "prints its input": "def softmax(x):\n    print(repr(x))\n    return x",
    "returns its input": "def softmax(x):\n    return x",
    "keeps every input": (
        "import os\nseen = []\ndef softmax(x):\n    seen.append(repr(x))\n    open('/tmp/seen', 'a').write(repr(x))\n"
        "    if os.path.exists('/dev/shm/seen'):\n        raise ValueError(open('/dev/shm/seen').read())\n"
        "    open('/dev/shm/seen', 'w').write(repr(seen))\n    return x[::-1]"
    ),
}


@pytest.mark.parametrize("name", TALKATIVE)
def test_feedback_does_not_depend_on_the_secret_inputs(zygote: Zygote, name: str) -> None:
    """With other secret inputs the student reads the same words: so the words hold nothing of the inputs."""
    results = [graded(zygote, TALKATIVE[name], seed=seed) for seed in SEEDS]
    assert len({result.told for result in results}) == 1
    assert len({str(result.outcome) for result in results}) > 1, "the inputs themselves do differ"
    assert any(kind == "example" for kind, _ in results[0].told)


def test_an_answer_that_only_fails_on_secret_inputs_is_told_so(zygote: Zygote) -> None:
    rng = np.random.default_rng(0)
    known = [repr(case.args[0].tolist()) for case in LAB.questions["softmax"].cases(rng)]
    source = (
        f"known = {known!r}\n{RIGHT_TORCH['softmax'].replace('softmax', 'right')}\ndef softmax(x):\n"
        "    return right(x) if repr(x.tolist()) in known else x"
    )
    result = graded(zygote, source)
    assert result.points == 0
    assert any("passes the practice cases" in text for _, text in result.told)


def test_helpers_that_hurt_cost_nothing(zygote: Zygote) -> None:
    right = RIGHT_TORCH["softmax"]
    for helper in ("import os\nx = os._exit(1)", "y = [0 for _ in iter(int, 1)]", "z = undefined", "def ("):
        assert graded(zygote, right, "softmax", SEEDS[0], helper).points == 3, helper


def test_another_answer_may_be_used_and_a_broken_one_hurts_only_who_uses_it(zygote: Zygote) -> None:
    softmax = "# question: softmax\n" + RIGHT_NUMPY["softmax"]
    assert graded(zygote, RIGHT_NUMPY["attention"], "attention", SEEDS[0], softmax).points == 3
    deadly = "# question: softmax\nimport os\nos._exit(0)\ndef softmax(x):\n    os._exit(0)"
    assert graded(zygote, RIGHT_TORCH["attention"], "attention", SEEDS[0], deadly).points == 3


def test_where_it_raises_is_the_students_own_line(zygote: Zygote) -> None:
    result = graded(zygote, "def softmax(x):\n    y = x\n    return y.no_such_thing\n")
    assert any("line 4 of softmax: return y.no_such_thing" in text for _, text in result.told)


def test_what_is_returned_is_named_kindly(zygote: Zygote) -> None:
    for source, word in (("return None", "None"), ("return [1]", "list"), ("print(x)", "None")):
        assert any(word in text for _, text in graded(zygote, f"def softmax(x):\n    {source}").told)


def test_what_is_printed_is_shown_and_a_right_answers_too_when_it_quotes_no_input(zygote: Zygote) -> None:
    noisy = "import sys\nprint('on the way', end='')\nsys.stderr.write('\\x1b[31merror\\x1b[0m\\n')\n"
    right = RIGHT_TORCH["softmax"].replace("(x):\n", "(x):\n    print('secret', x)\n", 1)
    result = graded(zygote, noisy + right)
    assert result.points == 3
    assert dict(result.told)["printed"] == "on the wayerror"
    result = graded(zygote, noisy + "def softmax(x):\n    print('in a call', end='')\n    return x")
    assert dict(result.told)["printed"].startswith("on the wayerror\nin a call")
    result = graded(zygote, "def softmax(x):\n    print('many ' * 1000)\n    return x")
    assert dict(result.told)["printed"].endswith("(the rest of what it printed is cut)")
    result = graded(zygote, "import os\nos.write(2, b'last words')\ndef softmax(x):\n    os._exit(1)")
    assert dict(result.told)["printed"] == "last words"


def test_an_answer_that_writes_into_its_input_keeps_its_points_and_is_told(zygote: Zygote) -> None:
    right = RIGHT_TORCH["softmax"].replace("softmax", "right")
    source = f"{right}\ndef softmax(x):\n    y = right(x)\n    x += 1\n    return y"
    result = graded(zygote, source)
    assert result.points == 3
    assert any("changes its input (x)" in text for _, text in result.told)


def page(*answers: Graded, name: str = "Jane Doe", isolation: str = "jail") -> str:
    record = Record("k", "attention", "1", 1, "a.ipynb", "0", isolation, "graded", "", answers)
    marks = tuple(Mark(one.question, one.points, one.max_points, one.status, one) for one in answers)
    asked = tuple(Asked(one.name, one.points, one.doc) for one in LAB.questions.values())
    standing = Standing(Student("1", name), "graded", record, marks, (record,))
    return feedback_page(standing, Class("attention", LAB.title, asked, (standing,), (), isolation))


def test_the_page_runs_no_script_and_asks_for_nothing(zygote: Zygote) -> None:
    nasty = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
    result = graded(zygote, f"def softmax(x):\n    print({nasty!r})\n    raise ValueError({nasty!r})")
    html = page(result, name=nasty)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert not re.search(
        r"<(script|img|link|iframe|object|a |form)|onerror=alert\(1\)>(?!&)|javascript:", html.replace("&gt;", "&gt")
    )
    assert "default-src 'none'" in html
    assert re.findall(r"https?:|//", re.sub(r"<style>.*?</style>", "", html, flags=re.S)) == []


def test_the_page_names_its_isolation() -> None:
    blank = Graded("softmax", 0.0, 3.0, "blank", "", "", told=(("note", "Not written yet."),))
    assert "isolation: jail" in page(blank)
    assert "isolation: none" in page(blank, isolation="none")


def test_seeds_differ_by_every_part_and_repeat() -> None:
    parts = [("l", "q", "s", 1), ("m", "q", "s", 1), ("l", "r", "s", 1), ("l", "q", "t", 1), ("l", "q", "s", 2)]
    found = [seeds.seed(b"k" * 32, *part) for part in parts] + [seeds.seed(b"x" * 32, *parts[0])]
    assert len(set(found)) == len(found)
    # "ab" + "c" must not be "a" + "bc"
    assert seeds.seed(b"k" * 32, "ab", "c", "s", 1) != seeds.seed(b"k" * 32, "a", "bc", "s", 1)
    first, again = (seeds.generator(found[0]).random(3) for _ in range(2))
    assert np.array_equal(first, again)


def test_the_course_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "course.key"
    key = seeds.course_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert seeds.course_key(path) == key
    assert len(key) == 32
    assert seeds.course_key(tmp_path / "other.key") != key
    assert [p.name for p in path.parent.iterdir()] == ["course.key"]
    path.write_text("short")
    with pytest.raises(GradingError, match="64 hexadecimal"):
        seeds.course_key(path)
