"""The notebook that a student opens: in step with its master, alone in an empty folder, without a solution."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from typer.testing import CliRunner

from attnkit.authoring.lab_commands import app
from attnkit.authoring.labs import (
    LabError,
    Master,
    completed_notebook,
    filled_in,
    find_masters,
    leaks,
    question_of,
    reference_answers,
    solution_lines,
    student_notebook,
    student_source,
)
from attnkit.authoring.notebook import dumps, execute, read_myst
from attnkit.authoring.project import Project, load_project
from attnkit.authoring.verify_notebook import Runs
from attnkit.lab.bank import load_lab
from tests.lab.labs import MASTERS

from .conftest import ROOT, completed, read

# That each is in step with its master, byte by byte, and runs untouched, `attnkit lab verify` finds out: see
# tests/lab/test_verified.py. What they show in Colab, test_colab.py.
masters = pytest.mark.parametrize("master", MASTERS.values(), ids=MASTERS)
ATTENTION = MASTERS["attention"]


def outputs(nb, pattern: str) -> str:
    """The text that the cells whose source matches `pattern` show."""
    shown = [
        output.get("text") or output.get("data", {}).get("text/plain", "")
        for cell in nb.cells
        if cell.cell_type == "code" and re.search(pattern, cell.source)
        for output in cell.outputs
    ]
    assert shown, f"no cell shows anything for {pattern!r}"
    return "\n".join(shown)


def test_there_is_a_lab() -> None:
    assert "attention" in MASTERS


@masters
def test_it_is_valid_and_has_stable_ids_and_no_metadata_that_matters(master: Master) -> None:
    nb = read(master.student_path)
    nbformat.validate(nb)
    assert (nb.nbformat, nb.nbformat_minor) == (4, 5)
    assert len({cell.id for cell in nb.cells}) == len(nb.cells)
    assert all(not cell.metadata for cell in nb.cells), "Colab loses cell metadata: nothing may hang on it"
    counts = [cell.execution_count for cell in nb.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


@masters
def test_no_line_of_a_solution_is_in_it(master: Master) -> None:
    lines = solution_lines(read_myst(master.path))
    assert len(lines) >= 2 * len(load_lab(master.path.parent).questions), "the solutions should be found"
    text = master.student_path.read_text("utf-8")
    # In JSON a quotation mark and a backslash are escaped: look for the lines as they would stand there.
    assert [line for line in lines if json.dumps(line, ensure_ascii=False)[1:-1] in text] == []
    assert leaks(read(master.student_path), lines) == []
    assert leaks(completed(master), lines) == lines, "the search should find them where they are"


@masters
def test_every_question_has_one_cell_that_names_it_in_its_source(master: Master) -> None:
    named = [question_of(cell.source) for cell in read(master.student_path).cells if cell.cell_type == "code"]
    assert [name for name in named if name] == list(load_lab(master.path.parent).questions)


@masters
def test_outputs_are_the_same_on_every_machine(master: Master) -> None:
    """No images, addresses, paths, timings or warnings; the setup cell, which shows versions, stores nothing."""
    cells = [cell for cell in read(master.student_path).cells if cell.cell_type == "code"]
    assert "about()" in cells[0].source
    assert cells[0].outputs == []
    for output in (output for cell in cells for output in cell.outputs):
        assert output.output_type in {"stream", "execute_result", "display_data"}
        assert output.get("name", "stdout") == "stdout"
        assert set(output.get("data", {})) <= {"text/plain", "text/html"}
        text = json.dumps(output)
        assert not re.search(r"0x[0-9a-f]{6}|/tmp|/home|<script| ms\b|seconds", text)


@masters
def test_its_stored_outputs_show_the_aim(master: Master) -> None:
    assert "All cases pass" in outputs(read(master.student_path), r"lab\.check")
    points = load_lab(master.path.parent).max_points
    assert f"{points:g} of {points:g} points" in outputs(read(master.student_path), r"lab\.progress")


@pytest.mark.slow
def test_untouched_it_says_so_and_scores_nothing() -> None:
    """Of one lab: that the others run to their end untouched, `attnkit lab verify` finds out."""
    ran = Runs(ATTENTION, load_project(ROOT))
    ran.built = read(ATTENTION.student_path)  # what is handed out, in place of what would be built
    checks = outputs(ran.untouched, r"lab\.check")
    assert checks.count("Not written yet.") == len(load_lab("attention").questions)
    assert "run this cell again" in outputs(ran.untouched, r"lab\.ready")
    assert outputs(ran.untouched, r"lab\.progress").startswith("0 of ")


WRONG = {
    "raises": "    return undefined_name\n",
    "wrong shape": "    return np.zeros((3, 1, 7))\n",
    "returns nothing": "    pass\n",
    "nan": "    return query * np.nan if 'query' in dir() else x * np.nan\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
def test_wrong_answers_do_not_crash_the_cells_that_follow(body: str, tmp_path) -> None:
    master = ATTENTION
    heads = {
        name: source.split('    """')[0] + '    """Wrong."""\n' + body
        for name, source in reference_answers(master).items()
    }
    nb = execute(filled_in(read(master.student_path), heads), tmp_path)
    assert outputs(nb, r"lab\.progress").startswith("0 of 10")
    assert "Not written yet" not in outputs(nb, r"lab\.check")
    if "undefined_name" in body:  # the line of the cell, not a line of ours
        assert "NameError: name 'undefined_name' is not defined" in outputs(nb, r"lab\.check")
        assert "Where: line 4 of softmax: return undefined_name" in outputs(nb, r"lab\.check\(softmax\)")


def test_a_torch_student_sees_the_same_pictures(tmp_path) -> None:
    """Answers in torch: the given cells hand them tensors, and show what they show for NumPy."""
    master = ATTENTION
    answers = {
        "softmax": (
            "# question: softmax\nimport torch\ndef softmax(x):\n"
            "    e = torch.exp(x - x.amax(dim=-1, keepdim=True))\n    return e / e.sum(dim=-1, keepdim=True)\n"
        ),
        "attention": (
            "# question: attention\ndef attention(query, key, value):\n"
            "    return softmax(query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5) @ value\n"
        ),
        "masked_attention": (
            "# question: masked_attention\ndef masked_attention(query, key, value, mask):\n"
            "    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5\n"
            "    weights = softmax(scores.masked_fill(~mask, float('-inf')))\n"
            "    return weights.nan_to_num(0.0) @ value\n"
        ),
    }
    stored = read(master.student_path)
    nb = execute(filled_in(stored, answers), tmp_path)
    for pattern in (r"Heatmap\(", r"lab\.check", r"lab\.progress"):
        assert outputs(nb, pattern) == outputs(stored, pattern)


def published(project: Project) -> Project:
    return Project(project.root, project.version, "https://github.com/owner/name")


def test_the_badge_is_there_when_the_address_is_set_and_only_then() -> None:
    master, project = ATTENTION, load_project(ROOT)
    url = "https://colab.research.google.com/github/owner/name/blob/main/labs/attention/attention.ipynb"
    nb = completed_notebook(master, published(project))
    assert url in nb.cells[0].source
    assert 'pip install -q "attnkit @ git+https://github.com/owner/name"' in dumps(nb).replace('\\"', '"')
    unset = Project(project.root, project.version, "")
    assert "colab.research" not in dumps(completed_notebook(master, unset))


def test_a_solution_becomes_a_stub_at_its_own_indentation() -> None:
    body = "        ### BEGIN SOLUTION\n        a = 1\n        return a\n        ### END SOLUTION"
    source = "# question: f\ndef f(x):\n    if x:\n" + body
    stub = student_source(source)
    assert stub.endswith(
        '        # Your code goes here, in place of the next line.\n        raise NotImplementedError("f")'
    )
    assert "return a" not in stub
    compile(stub, "stub", "exec")
    assert student_source("x = 1") == "x = 1"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION", "names no question"),
        ("# question: f\n### BEGIN SOLUTION\nx = 1", "in pairs"),
        ("# question: f\nx = 1\n### END SOLUTION", "in pairs"),
        ("# question: f\n### END SOLUTION\nx = 1\n### BEGIN SOLUTION", "in pairs"),
    ],
)
def test_markers_that_are_written_wrongly_are_refused(source: str, says: str) -> None:
    with pytest.raises(LabError, match=says):
        student_source(source)


def test_a_leak_into_an_output_stops_the_build(tmp_path: Path) -> None:
    lab = tmp_path / "labs" / "leaky" / "leaky.md"
    lab.parent.mkdir(parents=True)
    head = "---\nkernelspec:\n  name: python3\n  display_name: Python 3\n  language: python\n---\n\n"
    solution = '### BEGIN SOLUTION\nanswer = "is in the output"\n### END SOLUTION\n'
    cell = "```{code-cell} ipython3\n# question: f\n" + solution + "```\n"
    leak = "\n```{code-cell} ipython3\nprint(In[-2])\n```\n"
    lab.write_text(head + cell + leak, "utf-8")
    with pytest.raises(LabError, match="lines of a solution"):
        student_notebook(Master(lab), Project(tmp_path, "0", ""))


def test_leaks_are_found_in_sources_outputs_and_metadata() -> None:
    line = "weights = secret(scores)"
    clean = new_notebook(cells=[new_code_cell("weights = 1")])
    assert leaks(clean, [line]) == []
    for nb in (
        new_notebook(cells=[new_code_cell(f"if True:\n    {line}")]),
        new_notebook(cells=[new_code_cell("x", metadata={"note": line})]),
        new_notebook(metadata={"deep": [{"deeper": line}]}),
    ):
        assert leaks(nb, [line]) == [line]


def test_an_unknown_lab_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(LabError, match=r"was 'atention'.*attention"):
        find_masters(ROOT, "atention")


TINY = """---
kernelspec:
  name: python3
  display_name: Python 3
  language: python
---

# Tiny

```{code-cell} ipython3
# question: one
def one():
    ### BEGIN SOLUTION
    return 1
    ### END SOLUTION
```
"""


def test_the_command_builds_what_is_out_of_step_and_check_only_says_so(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1"\n[tool.attnkit]\nrepository = ""\n', "utf-8")
    lab = tmp_path / "labs" / "tiny" / "tiny.md"
    lab.parent.mkdir(parents=True)
    lab.write_text(TINY, "utf-8")
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str):
        return CliRunner().invoke(app, ["build", *arguments])

    stale = command("--check")
    assert (stale.exit_code, stale.stdout) == (1, "labs/tiny/tiny.ipynb: out of step\n")
    assert not lab.with_suffix(".ipynb").exists()
    assert command("tiny").stdout == "labs/tiny/tiny.ipynb: written\n"
    assert "return 1" not in lab.with_suffix(".ipynb").read_text("utf-8")
    again = command("--check")
    assert (again.exit_code, again.stdout) == (0, "labs/tiny/tiny.ipynb: in step\n")
    unknown = command("huge")
    assert unknown.exit_code == 1
    assert "it should be one of: tiny" in unknown.output
