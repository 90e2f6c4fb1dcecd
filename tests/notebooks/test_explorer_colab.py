"""Explorers with Colab's notebook stack: IPython 7.34 shows them, ipywidgets 7.7.1 joins them to the kernel."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

PROGRAM = """
import json, sys
import IPython, ipywidgets, torch
from IPython.core.formatters import DisplayFormatter
from attnkit.viz import explore_matrix, explore_positions
q, k, v = torch.randn(3, 2, 4, 8, generator=torch.Generator().manual_seed(0))
explorer = explore_matrix(q, k, v, mask="causal", title="T")
shown, _ = DisplayFormatter().format(explorer)

heard = []
widget = explorer.live(heard.append)
content = {"data": {"method": "update", "state": {"state": {"head": 1}}, "buffer_paths": []}}
widget._handle_msg({"content": content, "buffers": []})
by_anywidget = ["anywidget" in str(type(widget).__mro__), heard, widget.get_state()["kind"]]

from attnkit.viz import live
live._widget_class.cache_clear()
sys.modules["anywidget"] = None
heard, drawn = [], []
for one in (explorer, explore_positions("t5", length=16)):
    widget = one.live(heard.append)
    drawn.append(widget.children[-1].value)
    slider = [part for part in widget.children if type(part).__name__ == "FloatLogSlider"][0]
    slider.value = 16.0
    drawn.append(widget.children[-1].value)
by_controls = [len(heard), [text[:7] for text in drawn], len(set(drawn))]
print(json.dumps([IPython.__version__, ipywidgets.__version__, shown, by_anywidget, by_controls]))
"""


@pytest.fixture(scope="module")
def there(colab_python: Path) -> list[Any]:
    """What the program prints in the environment like Colab's."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ATTNKIT")}
    done = subprocess.run([str(colab_python), "-c", PROGRAM], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_it_is_the_stack_of_colab(there: list[Any]) -> None:
    assert there[:2] == ["7.34.0", "7.7.1"]


def test_an_output_is_html_with_its_scripts_and_words(there: list[Any]) -> None:
    shown = there[2]
    assert set(shown) == {"text/html", "text/plain"}
    assert shown["text/plain"].startswith("Explorer “T” (matrix)")
    assert "attnkitExplorer" in shown["text/html"], "Colab isolates outputs, so each brings its scripts"
    assert "ak-fallback" in shown["text/html"]


def test_anywidget_works_there(there: list[Any]) -> None:
    assert there[3] == [True, [{"head": 1}], "matrix"]


def test_plain_controls_work_there(there: list[Any]) -> None:
    heard, drawn, different = there[4]
    assert heard == 2
    assert drawn == ["<figure"] * 4
    assert different == 3, "temperature changes the matrix, and the base does not change buckets"


def test_play_has_controls_with_the_ipywidgets_of_colab(colab_python: Path):
    code = """
import IPython, ipywidgets
IPython.get_ipython = lambda: type("Shell", (), {"kernel": object()})()
from attnkit.viz import play, table
box = play(lambda n, w: table(["n", "w"], [[n, w]]), n=[1, 2.5], w=["a", "b"])
slider, choice, shown = box.children
slider.value = 2.5
choice.value = "b"
print(ipywidgets.__version__, type(slider).__name__, type(choice).__name__)
print(">b</td>" in shown.value, "2.5" in shown.value, hasattr(box, "_ipython_display_"))
"""
    run = subprocess.run([str(colab_python), "-c", code], capture_output=True, text=True)
    assert run.stdout.splitlines() == ["7.7.1 SelectionSlider Dropdown", "True True True"], run.stderr[-2000:]
