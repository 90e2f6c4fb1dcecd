"""Which code is run for a question: by its comment, with what it leans on, without what could hurt it."""

from __future__ import annotations

import pytest

from attnkit.grading.cells import Plan, plan, read_cells

STUB = "# question: f\ndef f(x):\n    '''What it does.'''\n    raise NotImplementedError('write f')\n"


def run(how: Plan, attempt: int = 0) -> dict:
    """Run a plan here, as the worker does: a statement that raises is passed over."""
    namespace: dict = {}
    for statement in how.attempts[attempt]:
        try:
            exec(compile(statement.text, "<test>", "exec"), namespace)
        except Exception:
            continue
    return namespace


def planned(*sources: str, name: str = "f") -> Plan:
    return plan(read_cells(sources), name)


def test_the_last_answer_that_is_no_stub_counts_and_is_told() -> None:
    how = planned("# question: f\ndef f(x): return 1", "#QUESTION : f\ndef f(x): return 2", STUB)
    assert run(how)["f"](0) == 2
    assert "2 answers" in how.notes[0]


def test_an_untouched_or_missing_answer_is_blank() -> None:
    assert planned(STUB).blank
    assert planned(STUB.replace("raise NotImplementedError('write f')", "pass")).blank
    assert planned("x = 1").blank
    assert not planned(STUB.replace("raise", "x = x\n    raise")).blank


def test_an_answer_without_its_comment_is_found_by_its_name_and_told() -> None:
    how = planned(STUB, "def f(x): return 3")
    assert run(how)["f"](0) == 3
    assert "without the comment" in how.notes[0]


def test_a_comment_inside_other_text_chooses_nothing() -> None:
    cells = read_cells(["# my question: f\n", "print('# question: f')", "## question: f"])
    assert not any(cell.questions for cell in cells)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_order_of_cells_does_not_matter_to_functions(order: tuple[int, ...]) -> None:
    sources = ["import math", "def g(x): return math.sqrt(x)", "# question: f\ndef f(x): return g(x)"]
    assert run(planned(*(sources[i] for i in order)))["f"](9) == 3


def test_a_stub_never_takes_the_place_of_an_answer_to_another_question() -> None:
    g = "# question: g\ndef g(x): return 5"
    stub = "# question: g\ndef g(x):\n    raise NotImplementedError"
    assert run(planned(g, "# question: f\ndef f(x): return g(x)", stub))["f"](0) == 5


def test_calls_at_the_top_of_other_cells_are_left_out() -> None:
    how = planned(
        "import os\nos._exit(1)\nwhile True: pass\nfor i in range(10**12): i\nassert False\nos.environ['A'] = 'b'\n"
        "os.path = None\nprint(1); y = 2",
        "if True:\n    print(0)\n    z = 3\ntry:\n    import nope\nexcept ImportError:\n    nope = None\n    print()",
        "# question: f\ndef f(x): return x",
    )
    kept = [statement.text for statement in how.attempts[0] if not statement.own]
    assert kept == [
        "import os",
        "y = 2",
        "if True:\n    z = 3",
        "try:\n    import nope\nexcept ImportError:\n    nope = None",
    ]


def test_attempts_get_smaller_until_only_the_answer_is_left() -> None:
    how = planned("import os\nend = os._exit(3)\ndef g(x): return x", "# question: f\ndef f(x): return x\nf(1)")
    texts = [[statement.text for statement in attempt] for attempt in how.attempts]
    assert texts[0][-1] == "f(1)"
    assert texts[1] == ["import os", "def g(x): return x", "def f(x): return x"]
    assert texts[2] == ["import os", "def f(x): return x"]


MAGICS = """\
%pip install -q torch
!ls -l
?print
print?
files = !ls
now = %time 1
x = (7
% 4)
if x:
    %matplotlib inline
    y = 4
"""


def test_magics_and_shell_lines_are_blanked_and_python_is_not() -> None:
    names = run(planned(MAGICS, "# question: f\n%%time\ndef f(v): return v"))
    assert (names["x"], names["y"]) == (3, 4)
    names = run(planned("%%capture\nimport math", "%%bash\nrm -rf /", "# question: f\ndef f(v): return v"))
    assert "math" in names


def test_a_cell_that_python_cannot_read_costs_only_itself() -> None:
    assert run(planned("def (", "# question: f\ndef f(x): return x"))["f"](1) == 1
    how = planned("# question: f\ndef f(x) return x")
    assert "line 2" in how.error
    assert not how.attempts


@pytest.mark.parametrize(
    "source",
    ["-" * 99_999 + "1", "x" + ".a" * 99_999, "(" * 5000, "+".join("1" * 99_999), "\0", "\ud800", "f" + "()" * 49_999],
    ids=["signs", "attributes", "parentheses", "sum", "nul", "surrogate", "calls"],
)  # fmt: skip
def test_source_made_to_break_a_parser_is_told(source: str) -> None:
    cells = read_cells([source, "# question: f\ndef f(x): return x"])
    assert cells[0].tree is None
    assert cells[0].error
    assert run(plan(cells, "f"))["f"](1) == 1


def test_line_numbers_are_those_of_the_students_cell() -> None:
    how = planned("# question: f\n\n@property\ndef f(x):  # why\n    return x  # because\n\ng = 1; h = 2\n")
    assert [(s.line, s.text) for s in how.attempts[0]] == [
        (3, "@property\ndef f(x):  # why\n    return x  # because"),
        (7, "g = 1"),
        (7, "h = 2"),
    ]


@pytest.mark.parametrize("terms", [90, 300, 800, 20_000])
@pytest.mark.parametrize("shape", ["if 1:\n    x = {}", "def f():\n    raise NotImplementedError({})", "x = {}"])
def test_a_cell_nested_however_deeply_costs_only_itself(terms: int, shape: str) -> None:
    """Trees that Python parses but cannot write out again must not stop the grader either."""
    deep = shape.format("+".join(["1"] * terms))
    how = plan(read_cells([deep, "# question: softmax\ndef softmax(x):\n    return x"]), "softmax")
    assert how.attempts[0][-1].text == "def softmax(x):\n    return x"
    assert not how.blank
    assert not how.error
