"""`lab.submit()`: checks again, looks at the notebook as the grader will, writes what the grader accepts."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import nbformat
import pytest

from attnkit.authoring.labs import filled_in, find_masters, reference_answers
from attnkit.authoring.notebook import execute
from attnkit.grading import jail
from attnkit.grading.engine import grade_question, read_submission
from attnkit.grading.manual import collected
from attnkit.grading.zygote import Zygote
from attnkit.lab import Lab, handing_in, kernel
from attnkit.lab.bank import load_lab
from attnkit.lab.reading.notebook import MAX_SOURCE, code_sources

from .notebook_room import ANSWERS, ATTENTION, MASKED, SOFTMAX, STUB, Room, book, open_room

room = pytest.fixture(open_room)
FILE = Path("attention-hand-in.ipynb")
WHOLE = (SOFTMAX, ATTENTION, MASKED)
DONE = """10 of 10 points on the practice cases

attention-hand-in.ipynb holds all of your answers; it lies beside this notebook.
To hand in, upload this one file where your course collects its labs.
The grader takes your answers from that file and calls them on fresh inputs; saved
outputs count for nothing."""


def said() -> str:
    return repr(Lab("attention").submit())


def trouble() -> list[str]:
    """The sentences on what is wrong, each on one line."""
    blocks = said().split("\n\n")
    listed = [block for block in blocks if block.startswith("Before you hand in:")]
    assert len(listed) <= 1
    items = listed[0].split("\n  - ")[1:] if listed else []
    return [" ".join(one.split()) for one in items]


def sources() -> list[str]:
    return code_sources(FILE.read_bytes())


@pytest.fixture(scope="module")
def zygote(jailed: None):
    with Zygote("jail", jail.Limits(seconds=5.0, load_seconds=5.0)) as zygote:
        yield zygote


def points(zygote: Zygote) -> dict[str, float]:
    """What the grader gives for the file that was written."""
    cells = read_submission(FILE.read_bytes())
    questions = load_lab("attention").questions.values()
    return {one.name: grade_question(zygote, one, cells, "7" * 64).points for one in questions}


FULL = {"softmax": 3, "attention": 3, "masked_attention": 4}


# --- what is written --------------------------------------------------------------------------------------------------


def test_what_was_run_is_checked_and_written_where_no_file_is_found(room: Room, zygote: Zygote) -> None:
    room.run(*WHOLE)
    assert said() == DONE
    assert sources() == list(WHOLE)
    assert points(zygote) == FULL


def test_the_notebook_itself_is_written_when_it_is_what_was_run(room: Room, zygote: Zygote) -> None:
    room.run("import numpy as np", *WHOLE)
    saved = room.save("import numpy as np", *WHOLE, "# never run", texts=("# Lab",))
    assert said() == DONE, "the same words wherever it was found"
    assert FILE.read_bytes() == saved.read_bytes()
    assert points(zygote) == FULL


def test_a_question_that_was_never_checked_is_checked(room: Room) -> None:
    room.run(*WHOLE)
    lab = Lab("attention")
    assert repr(lab.progress()).startswith("0 of 10")
    lab.submit()
    assert repr(lab.progress()).startswith("10 of 10")


def test_an_answer_that_was_changed_after_its_check_counts_as_it_is(room: Room) -> None:
    room.run(*WHOLE)
    lab = Lab("attention")
    lab.check(room.user_ns["softmax"])
    room.run("# question: softmax\ndef softmax(x):\n    return x\n")
    text = repr(lab.submit())
    assert text.startswith("4 of 10 points")
    assert "softmax           0 of 3 points, not finished" in text


def test_of_an_answer_that_was_run_again_and_again_the_last_version_is_written(room: Room, zygote: Zygote) -> None:
    wrong = SOFTMAX.replace("-1", "0")
    room.run(STUB.format("softmax"), wrong, ATTENTION, MASKED, "print('between')", SOFTMAX, "lab.progress()", SOFTMAX)
    assert trouble() == []
    assert sources() == [ATTENTION, MASKED, "print('between')", "lab.progress()", SOFTMAX]
    assert points(zygote) == FULL


def test_a_helper_in_a_cell_of_its_own_is_in_it(room: Room, zygote: Zygote) -> None:
    helper = "def stable(x):\n    return np.exp(x - x.max(axis=-1, keepdims=True))\n"
    leaning = "# question: softmax\nimport numpy as np\n\ndef softmax(x):\n    e = stable(x)\n"
    leaning += "    return e / e.sum(axis=-1, keepdims=True)\n"
    room.run(helper, leaning, ATTENTION, MASKED)
    assert trouble() == []
    assert points(zygote) == FULL
    room.save(leaning, ATTENTION, MASKED)
    assert trouble() == [
        "What you ran for softmax is not what the saved notebook has: save it first, then run this cell again. "
        "The file holds what you ran."
    ]
    assert points(zygote) == FULL


def test_a_saved_notebook_that_is_behind_is_named_and_what_was_run_is_written(room: Room, zygote: Zygote) -> None:
    room.run(*WHOLE)
    room.save(SOFTMAX.replace("-1", "0"), ATTENTION, texts=("# The lab's own words",))
    assert trouble() == [
        "What you ran for softmax and masked_attention is not what the saved notebook has: save it first, then run "
        "this cell again. The file holds what you ran."
    ]
    assert sources() == list(WHOLE)
    assert json.loads(FILE.read_bytes())["cells"][0]["source"] == "# The lab's own words"
    assert points(zygote) == FULL
    room.save(*(source + "  \n" for source in WHOLE))
    assert trouble() == [], "spaces at the ends of lines are nothing"


def test_the_untouched_notebook_in_the_folder_is_another_than_the_one_that_runs(room: Room) -> None:
    room.save(*(STUB.format(name) for name in ANSWERS))
    room.run(*WHOLE)
    assert said() == DONE
    assert sources() == list(WHOLE)


def test_untouched_there_is_nothing_to_hand_in(room: Room) -> None:
    room.run(*(STUB.format(name) for name in ANSWERS))
    assert said().endswith("Nothing is written yet, so there is nothing to hand in.")
    assert not FILE.exists()
    room.restart()
    assert said().endswith("Nothing is written yet, so there is nothing to hand in.")


def test_the_same_cells_give_the_same_bytes(room: Room) -> None:
    room.run(*WHOLE)
    said()
    first = FILE.read_bytes()
    room.restart()
    room.run(*WHOLE)
    said()
    assert FILE.read_bytes() == first


def test_jupyters_own_cells_are_kept_as_they_were_typed(room: Room, zygote: Zygote) -> None:
    room.run("%matplotlib inline\n!pip list", "%%time\n" + SOFTMAX, ATTENTION, MASKED)
    room.user_ns.update(_defined(SOFTMAX))
    assert trouble() == []
    assert sources()[1].startswith("%%time\n# question: softmax")
    assert points(zygote) == FULL


def _defined(source: str) -> dict:
    names: dict = {}
    exec(source, names)
    return names


def test_a_session_without_end_is_cut_to_what_a_grader_reads(room: Room, zygote: Zygote) -> None:
    room.run(*(f"x = {number}" for number in range(4000)), *WHOLE)
    assert trouble() == []
    assert points(zygote) == FULL
    room.restart()
    room.run(*(f"x = '{number}' * {'1' * 1000}" if number % 2 else "x = 1" for number in range(20)))
    room.run(*(f"text = '''{str(number) * 20_000}'''" for number in range(60)), *WHOLE)
    assert trouble() == []
    assert sum(map(len, sources())) < MAX_SOURCE
    assert points(zygote) == FULL


def test_outputs_that_make_a_file_too_large_are_left_out(room: Room, monkeypatch, zygote: Zygote) -> None:
    made = json.loads(book(*WHOLE, texts=("# Lab",)))
    made["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x" * 10**6}]
    Path("attention.ipynb").write_text(json.dumps(made))
    room.run(*WHOLE)
    said()
    assert FILE.stat().st_size > 10**6
    monkeypatch.setattr(handing_in, "MAX_FILE", 10**5)
    assert said() == DONE
    assert FILE.stat().st_size < 10**5
    assert points(zygote) == FULL


# --- what is said -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "sentences"),
    [
        ((STUB.format("softmax"), ATTENTION, MASKED), ["softmax is not written yet: run its cell when it is."]),
        ((ATTENTION, MASKED), ["softmax is not written yet: run its cell when it is."]),
        (
            ("# question: softmax\ndef softmax(x)\n    return x", ATTENTION, MASKED),
            ["softmax cannot be read by Python (SyntaxError: expected ':' (line 2)): mend its cell and run it again."],
        ),
        (
            ("# question: softmax\ndef soft_max(x):\n    return x", ATTENTION, MASKED),
            ["softmax is not defined in the cell that is marked `# question: softmax`: define it there."],
        ),
        (
            (SOFTMAX.replace("# question: softmax\n", ""), ATTENTION, MASKED),
            [
                "softmax: taken from a cell without the comment `# question: softmax`. "
                "Put the line `# question: softmax` at its top."
            ],
        ),
    ],
    ids=["a stub", "missing", "syntax", "another name", "no marker"],
)
def test_what_is_wrong_with_an_answer_is_a_sentence_with_what_to_do(room: Room, cells, sentences) -> None:
    room.run(*cells)
    assert trouble() == sentences
    assert FILE.exists(), "part of the points is better than none"


def test_two_cells_for_one_question_and_one_that_was_not_run(room: Room) -> None:
    room.run(*WHOLE)
    room.save(SOFTMAX.replace("-1", "0"), *WHOLE)
    assert trouble() == ["softmax: the notebook holds 2 answers to this question; the last one counts."]
    room.restart()
    room.run(ATTENTION, MASKED)
    room.save(*WHOLE)
    assert trouble() == ["softmax is in the notebook and was not run: run its cell, then this cell again."]


def test_an_answer_that_leans_on_a_script_is_told_so(room: Room) -> None:
    room.run("%run helpers.py", SOFTMAX.replace("x.max", "steepest(x).max"), ATTENTION, MASKED)
    assert trouble()[0].startswith("softmax: `%run helpers.py` (cell 1) is not run when your answer is graded")


def test_a_name_that_holds_no_function_is_not_checked_and_stops_nothing(room: Room) -> None:
    room.run("# question: softmax\nsoftmax = 3\n", ATTENTION, MASKED)
    text = said()
    assert "softmax           0 of 3 points, not checked yet" in text
    assert "softmax is in the notebook and was not run" in " ".join(text.split())


def test_an_answer_that_raises_when_it_is_looked_at_stops_nothing(room: Room) -> None:
    odd = (
        "# question: softmax\nclass Odd:\n    def __getattr__(self, name):\n        raise RuntimeError(name)\n"
        "    def __call__(self, x):\n        return x\nsoftmax = Odd()\n"
    )
    room.run(odd, ATTENTION, MASKED)
    assert any(one.startswith("softmax could not be checked: RuntimeError") for one in trouble())
    assert FILE.exists()


QUESTIONS = '''"""Words."""
from attnkit.lab.question import Case, question
import numpy as np

@question(points=1, answer="twice")
class Twice:
    """2x"""

    def cases(self, rng):
        yield Case((rng.normal(size=2).astype(np.float32),))

    def reference(self, x):
        return 2 * x

@question(points=2, answer="why")
class Why:
    """Why?"""

    manual = True
    rubric = "Read it."
'''
TWICE = "# question: twice\ndef twice(x):\n    return x + x\n"


def test_answers_in_words_come_from_the_notebook_and_cannot_be_seen_without_it(room: Room, tmp_path: Path) -> None:
    folder = tmp_path / "words"
    folder.mkdir()
    (folder / "questions.py").write_text(QUESTIONS)
    lab, written = Lab(folder), Path("words-hand-in.ipynb")
    room.run(TWICE)
    text = " ".join(repr(lab.submit()).split())
    assert "why is answered in words, and text cells are not seen from here: hand in the saved notebook itself." in text
    assert "A person reads and marks what you wrote for why." in text
    room.save(TWICE, texts=("<!-- question: why -->\n*Your answer goes here.*",), path="words.ipynb")
    assert "why is answered in words, and its text cell is empty." in repr(lab.submit())
    room.save(TWICE, texts=("<!-- question: why -->\nBecause.",), path="words.ipynb")
    assert "Before you hand in" not in repr(lab.submit())
    assert collected(load_lab(folder).questions["why"], written.read_bytes()).outcome["text"] == "Because."
    room.run(TWICE.replace("x + x", "2 * x"))
    assert "save it first" in " ".join(repr(lab.submit()).split())
    assert collected(load_lab(folder).questions["why"], written.read_bytes()).outcome["text"] == "Because."
    assert code_sources(written.read_bytes()) == [TWICE.replace("x + x", "2 * x")]


def test_a_folder_that_cannot_be_written_to_is_a_sentence(room: Room, monkeypatch) -> None:
    room.run(*WHOLE)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(handing_in.os, "replace", refuse)
        (sentence,) = trouble()
    why = "(Permission denied): save the notebook and hand in that file."
    assert sentence == f"attention-hand-in.ipynb could not be written here {why}"
    assert list(Path().glob("*hand-in*")) == []
    FILE.mkdir()
    assert "could not be written here" in trouble()[0]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b'{"nbformat": 3}', b'{"nbformat": 4, "cells": 3}', b"\xff" * 100,
        b'{"nbformat": 4, "cells": ' + b"[" * 9999,
    ],
)  # fmt: skip
def test_a_file_that_is_no_notebook_is_passed_over(room: Room, data: bytes) -> None:
    Path("attention.ipynb").write_bytes(data)
    room.run(*WHOLE)
    assert said() == DONE
    assert sources() == list(WHOLE)


def test_whatever_goes_wrong_is_a_sentence(room: Room, monkeypatch) -> None:
    room.run(*WHOLE)

    def fail(*_):
        raise RecursionError

    monkeypatch.setattr(handing_in, "plan", fail)
    assert trouble() == ["The notebook could not be looked at (RecursionError): hand in its saved file."]
    monkeypatch.undo()


def test_the_page_links_the_file_and_runs_nothing(room: Room) -> None:
    room.run(*WHOLE)
    html = Lab("attention").submit()._repr_html_()
    assert '<a href="attention-hand-in.ipynb" download>attention-hand-in.ipynb</a> holds all' in html
    assert "<script" not in html


def test_outside_a_notebook_it_says_what_to_do_and_writes_nothing(room: Room, monkeypatch) -> None:
    monkeypatch.setattr(kernel, "shell", lambda: None)
    assert "Upload that one file, attention.ipynb" in said()
    assert list(Path().iterdir()) == []


# --- where the notebook is --------------------------------------------------------------------------------------------


def test_vs_code_and_jupyter_say_where_it_is(room: Room, monkeypatch, tmp_path: Path) -> None:
    room.run(*WHOLE)
    other = tmp_path / "elsewhere"
    other.mkdir()
    own = room.save(*WHOLE, texts=("mine",), path=str(other / "my copy.ipynb"))
    room.save(*WHOLE, texts=("not mine",))
    room.user_ns["__vsc_ipynb_file__"] = str(own)
    said()
    assert FILE.read_bytes() == own.read_bytes()
    del room.user_ns["__vsc_ipynb_file__"]
    monkeypatch.setenv("JPY_SESSION_NAME", str(own))
    FILE.unlink()
    said()
    assert FILE.read_bytes() == own.read_bytes()
    for gone in (str(other / "renamed.ipynb"), "8a3c-a-session", str(other), ""):
        monkeypatch.setenv("JPY_SESSION_NAME", gone)
        said()
        assert FILE.read_bytes() == Path("attention.ipynb").read_bytes()
    # One that is known to be the notebook is behind even when nobody has written in it.
    monkeypatch.setenv("JPY_SESSION_NAME", str(room.save(*(STUB.format(name) for name in ANSWERS), path=str(own))))
    assert trouble()[0].startswith("What you ran for softmax, attention and masked_attention is not what the saved")


@pytest.fixture
def colab(monkeypatch) -> types.SimpleNamespace:
    """Colab's modules, played: `book` is what the browser shows, `downloads` what it was asked to download."""
    played = types.SimpleNamespace(book=None, downloads=[], refuses=False)

    def blocking_request(kind, request="", timeout_sec=5):
        assert kind == "get_ipynb"
        if played.book is None:
            raise TimeoutError
        return {"ipynb": json.loads(played.book)}

    def download(path):
        if played.refuses:
            raise RuntimeError("blocked")
        played.downloads.append(path)

    package = types.ModuleType("google.colab")
    package._message = types.SimpleNamespace(blocking_request=blocking_request)
    package.files = types.SimpleNamespace(download=download)
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", package)
    return played


def test_in_colab_the_browsers_own_notebook_is_taken_and_downloaded(room: Room, colab, zygote: Zygote) -> None:
    room.run(*WHOLE)
    colab.book = book(*WHOLE, texts=("the browser's",))
    assert "holds all of your answers; your browser downloads it." in said()
    assert colab.downloads == [str(FILE)]
    assert json.loads(FILE.read_bytes()) == json.loads(colab.book)
    assert points(zygote) == FULL


def test_in_colab_a_cell_that_was_changed_after_it_was_run_is_named(room: Room, colab) -> None:
    room.run(*WHOLE)
    colab.book = book(SOFTMAX.replace("-1", "0"), ATTENTION, MASKED)
    assert trouble() == [
        "What you ran for softmax is not what the notebook has now: run the changed cells, then this cell again. "
        "The file holds what you ran."
    ]
    assert sources() == list(WHOLE)


def test_in_colab_a_browser_that_says_or_takes_nothing_costs_nothing(room: Room, colab, zygote: Zygote) -> None:
    room.run(*WHOLE)
    colab.refuses = True
    assert "you find it among Colab's files, on the left" in " ".join(said().split())
    assert points(zygote) == FULL
    del sys.modules["google.colab"].files
    assert "you find it among Colab's files, on the left" in " ".join(said().split())
    sys.modules["google.colab"] = types.ModuleType("google.colab")
    assert "you find it among Colab's files, on the left" in " ".join(said().split())
    assert sources() == list(WHOLE)


# --- in a kernel of its own -------------------------------------------------------------------------------------------


def _lab_notebook():
    """The attention lab with its own answers, and those of its outputs that this file is about."""
    master = find_masters(Path(__file__).parents[2], "attention")[0]
    return filled_in(nbformat.read(master.student_path, as_version=4), reference_answers(master))


def _shown(nb) -> list[str]:
    kept = ("lab.progress()", "lab.submit()")
    return [cell.outputs[0].data["text/plain"] for cell in nb.cells if cell.source.strip() in kept]


@pytest.mark.slow
def test_a_second_run_in_the_same_folder_shows_and_writes_the_same(tmp_path: Path, monkeypatch, zygote: Zygote) -> None:
    monkeypatch.chdir(tmp_path)
    stored = _shown(_lab_notebook())
    assert stored[-1] == DONE
    assert _shown(execute(_lab_notebook(), tmp_path)) == stored
    first = FILE.read_bytes()
    assert _shown(execute(_lab_notebook(), tmp_path)) == stored
    assert FILE.read_bytes() == first
    assert points(zygote) == FULL
    # The notebook saved beside it, as Jupyter and nbval have it: other bytes, the same words.
    nbformat.write(_lab_notebook(), tmp_path / "attention.ipynb")
    assert _shown(execute(_lab_notebook(), tmp_path)) == stored
    assert FILE.read_bytes() == (tmp_path / "attention.ipynb").read_bytes()
    assert points(zygote) == FULL


@pytest.mark.slow
def test_a_restarted_kernel_tells_of_the_earlier_run(tmp_path: Path) -> None:
    execute(_lab_notebook(), tmp_path)
    nb = _lab_notebook()
    nb.cells = [cell for cell in nb.cells if "Lab(" in cell.source or cell.source.strip() == "lab.progress()"]
    assert _shown(execute(nb, tmp_path))[0].splitlines() == [
        "10 of 10 points on the practice cases",
        "  softmax           3 of 3 points, done in an earlier run",
        "  attention         3 of 3 points, done in an earlier run",
        "  masked_attention  4 of 4 points, done in an earlier run",
    ]


PLAYED = """
import json, sys, types
colab = types.ModuleType("google.colab")
colab._message = types.SimpleNamespace(blocking_request=lambda *a, **k: {"ipynb": json.load(open("shown.ipynb"))})
colab.files = types.SimpleNamespace(download=lambda path: open("asked", "w").write(path))
sys.modules.update({"google": types.ModuleType("google"), "google.colab": colab})
"""


@pytest.mark.slow
def test_in_a_colab_that_is_played_it_takes_the_browsers_notebook(tmp_path: Path, monkeypatch, zygote: Zygote) -> None:
    monkeypatch.chdir(tmp_path)
    shown = _lab_notebook()
    nbformat.write(shown, "shown.ipynb")
    shown.cells.insert(0, nbformat.v4.new_code_cell(PLAYED))
    text = _shown(execute(shown, tmp_path))[-1]
    assert text == DONE.replace("it lies beside this notebook", "your browser downloads it")
    assert Path("asked").read_text() == str(FILE)
    assert json.loads(FILE.read_bytes()) == json.loads(Path("shown.ipynb").read_bytes())
    assert points(zygote) == FULL
