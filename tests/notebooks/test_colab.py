"""Labs and chapters in an environment like Colab's: IPython 7.34, ipykernel 6.17, ipywidgets 7.7.1, numpy 2.1."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from attnkit.authoring.labs import Master, filled_in, reference_answers
from attnkit.authoring.notebook import execution_environment, merge_streams, setup_source
from attnkit.authoring.project import Project
from attnkit.authoring.strict import blind_spots
from attnkit.authoring.verify_notebook import left_behind
from tests.lab.labs import MASTERS, class_each

from .conftest import COLAB, TWINS, completed, read

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def in_colab(colab_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable]:
    """Runs a notebook in an empty folder, on a kernel of the environment, where `google.colab` can be imported."""
    folder = tmp_path_factory.mktemp("colab")
    spec = folder / "share" / "kernels" / "colab" / "kernel.json"
    stub = folder / "site" / "google" / "colab" / "__init__.py"
    for place in (spec.parent, stub.parent):
        place.mkdir(parents=True)
    argv = [str(colab_python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": "Colab", "language": "python"}), "utf-8")
    stub.write_text("", "utf-8")

    def run(nb, master: Master | None = None):
        empty = tmp_path_factory.mktemp("content")
        start = new_code_cell("import google.colab  # Colab's own kernel has done so before the first cell")
        nb.cells.insert(0, start)
        client = NotebookClient(nb, timeout=300, kernel_name="colab", resources={"metadata": {"path": str(empty)}})
        with execution_environment():
            client.execute()
        del nb.cells[0]
        left = [path.name for path in empty.iterdir()] if master is None else left_behind(empty, master)
        assert left == [], "a notebook leaves nothing behind"
        return merge_streams(nb)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder / "share"))
        patch.setenv("PYTHONPATH", str(stub.parents[2]))
        patch.delenv("TRITON_INTERPRET", raising=False)
        yield run


def printed(nb) -> list[str]:
    return [output.text for cell in nb.cells for output in cell.outputs if output.output_type == "stream"]


def test_the_environment_is_what_it_claims_to_be(in_colab) -> None:
    names = {"ipython": "IPython"}
    lines = [f"import {names.get(name, name)} as m; print(m.__version__)" for name in COLAB]
    nb = in_colab(new_notebook(cells=[new_code_cell(line) for line in lines]))
    assert [text.strip() for text in printed(nb)] == list(COLAB.values())


class EveryLab:
    """The notebook of one lab; a subclass for each stands below."""

    lab: str

    def test_completed_it_shows_there_what_it_shows_here(self, in_colab: Callable) -> None:
        stored = completed(MASTERS[self.lab])
        nb = in_colab(completed(MASTERS[self.lab]), MASTERS[self.lab])
        for before, after in zip(stored.cells, nb.cells, strict=True):
            if before.cell_type != "code" or "NBVAL_IGNORE_OUTPUT" in before.source:
                continue
            if "lab.submit" in before.source:  # it says where the file lies in Colab
                assert "Colab" in after.outputs[0].data["text/plain"]
                continue
            assert shown(after) == shown(before), before.source

    def test_half_done_it_runs_to_its_end(self, in_colab: Callable) -> None:
        """Only the last question answered: given cells must not rely on earlier answers, and must say so."""
        master = MASTERS[self.lab]
        answers = reference_answers(master)
        last = list(answers)[-1]
        nb = in_colab(filled_in(read(master.student_path), {last: answers[last]}), master)
        text = "\n".join(told for cell in nb.cells if cell.cell_type == "code" for _, told in shown(cell))
        assert text.count("Not written yet.") >= len(answers) - 1
        assert "run this cell again" in text


globals().update(class_each(EveryLab, MASTERS))


def shown(cell) -> list[tuple[str, str]]:
    """What a reader of the cell sees, text and HTML alike."""
    seen = []
    for output in cell.outputs:
        seen += [("text", output.text)] if output.output_type == "stream" else sorted(output.data.items())
    return seen


@pytest.mark.parametrize("twin", [path for path in TWINS if path.stem == "softmax"], ids=lambda path: path.stem)
def test_a_chapter_runs_there(twin: Path, in_colab) -> None:
    stored, nb = read(twin), in_colab(read(twin))
    for before, after in zip(stored.cells, nb.cells, strict=True):
        if before.cell_type == "code" and "NBVAL_IGNORE_OUTPUT" not in before.source:
            texts = [o.data.get("text/plain") for o in before.outputs if "data" in o]
            assert [o.data.get("text/plain") for o in after.outputs if "data" in o] == texts, before.source


PRETEND = """
import importlib.util
real, asked = importlib.util.find_spec, []
importlib.util.find_spec = lambda name, *rest: None if name == "attnkit" else real(name, *rest)
get_ipython().register_magic_function(lambda line: asked.append(line), "line", "pip")
"""


def test_the_setup_cell_installs_attnkit_where_it_is_missing_and_pins_nothing(in_colab, root: Path) -> None:
    """A missing attnkit and an installer that only writes down what it was asked for."""
    project = Project(root, "0", "https://github.com/owner/name")
    cells = [new_code_cell(source) for source in (PRETEND, setup_source(project), "print(*asked, sep='\\n')")]
    nb = new_notebook(cells=cells)
    assert blind_spots(nb) == []
    text = "".join(printed(in_colab(nb)))
    assert '-q "attnkit @ git+https://github.com/owner/name"' in text
    assert "==" not in text
    assert "numpy 2.1.3" in text, "it says which versions are there"


def test_without_an_address_the_setup_cell_says_what_to_do(in_colab, root: Path) -> None:
    source = setup_source(Project(root, "0", ""))
    check = f"try:\n    exec({source!r})\nexcept ModuleNotFoundError as error:\n    print(error)"
    text = "".join(printed(in_colab(new_notebook(cells=[new_code_cell(PRETEND), new_code_cell(check)]))))
    assert "attnkit is not installed" in text
    assert "repository" in text
