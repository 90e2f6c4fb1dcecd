"""Explorers joined to a kernel: both sides set the state, Python hears of changes, and ipywidgets alone will do."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from kinds import run_kind

from attnkit.positions import alibi_slopes
from attnkit.viz import Explorer, explore_matrix, explore_positions, table
from attnkit.viz.explorer import version

anywidget = pytest.importorskip("anywidget")


def small() -> Explorer:
    g = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 8, generator=g)
    return explore_matrix(q, k, v, title="T")


def from_page(widget, **state) -> None:
    """What arrives when the page has set `state`: the message of the Jupyter widget protocol."""
    content = {"data": {"method": "update", "state": {"state": state}, "buffer_paths": []}}
    widget._handle_msg({"content": content, "buffers": []})


def test_the_page_sets_the_state_and_python_hears():
    heard = []
    widget = small().live(heard.append)
    from_page(widget, head=1, temperature=2.0)
    from_page(widget, head=0, temperature=2.0)
    assert heard == [{"head": 1, "temperature": 2.0}, {"head": 0, "temperature": 2.0}]
    assert widget.state == heard[-1]


def test_python_sets_the_state_and_the_page_is_told(monkeypatch):
    widget, sent = small().live(), []
    monkeypatch.setattr(type(widget.comm), "send", lambda self, data=None, **rest: sent.append(data), raising=False)
    widget.state = {"head": 1}
    assert sent[-1]["state"]["state"] == {"head": 1}


def test_what_the_widget_sends_is_all_that_the_scripts_need():
    state = small().live().get_state()
    assert state["kind"] == "matrix"
    assert state["title"] == "T"
    assert state["spec"] == json.loads(json.dumps(small().spec))
    assert f'export default {{ render: globalThis.attnkitExplorers["{version()}"].render }}' in str(state["_esm"])


def test_the_front_end_is_a_module_with_a_render_function(tmp_path):
    path = tmp_path / "front.mjs"
    path.write_text(str(small().live().get_state()["_esm"]), "utf-8")
    code = f"const m = await import({str(path)!r}); console.log(typeof m.default.render)"
    run = subprocess.run(["node", "--input-type=module", "-e", code], capture_output=True, text=True)
    assert run.stdout.strip() == "function", run.stderr


@pytest.fixture
def no_anywidget(monkeypatch):
    """As where only ipywidgets is installed."""
    from attnkit.viz import live

    live._widget_class.cache_clear()
    monkeypatch.setitem(sys.modules, "anywidget", None)
    yield
    live._widget_class.cache_clear()


def parts(widget):
    return {part.description: part for part in widget.children if getattr(part, "description", "")}


def test_without_anywidget_controls_draw_the_figure_again(no_anywidget):
    heard = []
    widget = small().live(heard.append)
    before = widget.children[-1].value
    parts(widget)["temperature"].value = 16.0
    after = widget.children[-1].value
    assert before.startswith("<figure")
    assert after != before
    assert heard[-1]["temperature"] == 16.0
    widget.state = {**widget.state, "head": 1}
    assert parts(widget)["head"].value == 1
    assert widget.children[-1].value not in (before, after)


def test_without_anywidget_and_without_controls_it_says_what_to_install(no_anywidget):
    explorer = Explorer("matrix", {}, alt="A table with nothing in it at all.", fallback=table(["a"], []))
    with pytest.raises(ImportError, match=r'pip install "attnkit\[live\]"'):
        explorer.live()


STATES = [
    {},
    {"head": 1, "temperature": 0.5},
    {"mask": "causal", "softcap": 2.0, "temperature": 4.0},
    {"mask": "window", "window": 1, "scale": "one"},
    {"scale": "d", "softcap": 1.0},
]


def test_python_and_browser_draw_the_same_for_every_state(no_anywidget):
    """The figure that ipywidgets shows holds the weights that the script computes."""
    explorer = small()
    for state, found in zip(STATES, run_kind("matrix", explorer.spec, [{"state": s} for s in STATES]), strict=True):
        whole = {**{c.name: c.value for c in explorer.controls}, **state}
        shown = explorer.redraw(whole).data.rows
        weights = np.array(found["weights"]).reshape(4, 4)
        assert [row[1:] for row in shown] == [[f"{x:.2f}" for x in row] for row in weights]


@pytest.mark.parametrize("kind", ["rope", "t5"])
def test_positions_too(no_anywidget, kind):
    widget = explore_positions(kind, length=16, heads=4).live()
    for name, value in (("offset, key − query", 3), ("query at", 2), ("encoding", "alibi"), ("head", 2)):
        parts(widget)[name].value = value
    slope = alibi_slopes(4)[2].item()
    assert f"{-3 * slope:.2f} at 3" in widget.children[-1].value
