"""What an explorer hands out: HTML that is safe, still and the same each time, words, a page, a widget."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup

from attnkit.positions import alibi_slopes
from attnkit.viz import Explorer, Table, explore_matrix, explore_positions, table
from attnkit.viz.explorer import kinds, pack, script, scripts, version

ALT = "A table of three numbers that a reader may look at."


def small(**options) -> Explorer:
    g = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, 4, generator=g)
    return explore_matrix(q, k, v, **options)


def data_of(html: str) -> dict:
    return json.loads(BeautifulSoup(html, "html.parser").select_one("script[type='application/json']").string)


def test_the_html_holds_data_a_fallback_and_the_scripts():
    html = small(queries=["a", "b", "c"])._repr_html_()
    page = BeautifulSoup(html, "html.parser")
    host = page.select_one("div.ak-explorer")
    assert (host["data-ak-kind"], host["data-ak-version"]) == ("matrix", version())
    assert data_of(html)["spec"]["queries"] == ["a", "b", "c"]
    assert host.select_one(".ak-fallback svg")["aria-label"].startswith("Heat map")
    assert len(host.select(".ak-fallback table tbody tr")) == 3
    assert len(page.find_all("script")) == 2
    assert "@VERSION@" not in html


def test_no_text_can_close_the_script():
    html = small(queries=["</script><b>", "<!--", "\u2028"], title="</script>")._repr_html_()
    page = BeautifulSoup(html, "html.parser")
    assert page.find("b") is None
    assert data_of(html)["title"] == "</script>"
    assert data_of(html)["spec"]["queries"] == ["</script><b>", "<!--", "\u2028"]
    data = re.search(r'application/json">(.*?)</script>', html, re.S)[1]
    assert "<" not in data
    assert "\u2028" not in data


def test_the_same_explorer_gives_the_same_bytes_and_has_no_ids():
    assert small()._repr_html_() == small()._repr_html_()
    ids = re.findall(r'\bid="([^"]+)"', small().html(inline=False))
    assert all(name.startswith("f") for name in ids), "only those inside the figure, made from its content"


def test_in_the_book_the_scripts_stay_out(monkeypatch):
    monkeypatch.setenv("ATTNKIT_BOOK", "1")
    html = small()._repr_html_()
    assert "attnkitExplorer" not in html
    assert "data-ak-version" not in html, "a page is hydrated by whatever scripts it loads"


def test_words_on_request_and_in_a_notebook(monkeypatch):
    text = repr(small(title="T"))
    assert text.startswith("Explorer “T” (matrix): Attention weights of 3 queries over 3 keys")
    assert "query \\ key" in text
    monkeypatch.setenv("ATTNKIT_VIZ", "text")
    assert small()._repr_html_() is None


def test_numbers_that_are_shown_are_the_right_ones():
    shown = repr(explore_matrix([[2.0, 0]], [[1.0, 0], [0, 0]], [[1.0], [2.0]], scale=1.0))
    weights = torch.tensor([2.0, 0.0]).softmax(-1)
    assert f"{weights[0]:.2f}  {weights[1]:.2f}" in shown
    (slope,) = alibi_slopes(1).tolist()
    rows = explore_positions("alibi", length=4, heads=1).fallback.data.rows
    assert [int(offset) for offset, _ in rows] == [-2, -1, 0, 1]
    assert [float(bias) for _, bias in rows] == pytest.approx([-2 * slope, -slope, 0, -slope], abs=1e-4)


def test_a_large_map_is_printed_in_blocks():
    g = torch.Generator().manual_seed(1)
    q, k, v = torch.randn(3, 64, 8, generator=g)
    explorer = explore_matrix(q, k, v)
    rows = BeautifulSoup(explorer.html(inline=False), "html.parser").select(".ak-fallback tbody tr")
    assert len(rows) == 16
    weights = (q @ k.T / 8**0.5).softmax(-1).numpy()
    assert rows[2].select("td")[3].get_text() == f"{weights[8:12, 12:16].mean():.4f}"
    assert rows[2].select_one("th").get_text() == "8 to 11"


def test_a_saved_page_needs_no_other_file(tmp_path):
    text = small(title="A & B").save(tmp_path / "x.html").read_text("utf-8")
    page = BeautifulSoup(text, "html.parser")
    assert page.title.string == "A & B"
    assert page.html["lang"] == "en"
    assert not page.select("[src], link")
    assert "http" not in re.sub(r"http://www\.w3\.org/\S+", "", text)


WORDS = ["import(", "fetch(", "XMLHttpRequest", "export ", "eval(", "innerHTML", "Function("]


@pytest.mark.parametrize("name", ["explorer.js", "explorer_ui.js", *kinds()])
def test_scripts_ask_for_nothing_and_parse_as_classic_scripts(name, tmp_path):
    text = script(name)
    # Frames are drawn by Python, so they arrive as HTML; no other kind may write any.
    allowed = {"innerHTML"} if name == "frames" else set()
    assert {word for word in WORDS if word in text} <= allowed
    assert "</script" not in text
    assert not re.search(r"\?\.[a-zA-Z[(]|\?\?", text), "ES2019 has neither ?. nor ??"
    path = tmp_path / "x.cjs"
    path.write_text(text, "utf-8")
    run = subprocess.run(["node", "--check", str(path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_two_loads_are_harmless_and_two_versions_keep_apart(tmp_path):
    one = scripts("matrix")
    other = one.replace(version(), "other")
    path = tmp_path / "x.cjs"
    path.write_text(
        f"{one}\nconst first = attnkitExplorer;\n{one}\n"
        f"if (attnkitExplorer !== first) throw 'twice';\n{other}\n"
        "if (attnkitExplorer === first) throw 'the same';\n"
        f"if (attnkitExplorers['{version()}'] !== first || !attnkitExplorers.other.kinds.matrix) throw 'lost';\n",
        "utf-8",
    )
    run = subprocess.run(["node", str(path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: explore_matrix(x[0, 0], x, x), r"query: shape was \(4,\)"),
        (lambda x: explore_matrix(x, x[:1], x), r"key: shape was \(1, 3, 4\); axis 0 should be 2"),
        (lambda x: explore_matrix(x, x[..., :2], x), r"key: shape was \(2, 3, 2\); axis 2 should be 4"),
        (lambda x: explore_matrix(x, x, x[:, :1]), r"value: shape was \(2, 1, 4\); axis 1 should be 3"),
        (lambda x: explore_matrix(x * np.inf, x, x), "query: holds infinities"),
        (lambda x: explore_matrix(x, x, x, queries=["a"]), "queries: 1 names were given; there should be 3"),
        (lambda x: explore_matrix(x, x, x, mask="lower"), "mask: was 'lower'; it should be one of none, causal"),
        (lambda x: explore_matrix(x, x, x, mask=np.ones((3, 4), bool)), r"mask: was bool of shape \(3, 4\)"),
        (lambda x: explore_matrix(x, x, x, mask=np.ones((3, 3))), "mask: was float64"),
        (lambda x: explore_positions("ropes"), "kind: was 'ropes'"),
        (lambda x: explore_positions(d=7), "d: was 7; it should be even"),
        (lambda x: explore_positions(length=1), "length: was 1; it should be from 2"),
        (lambda x: explore_positions("rope", d=4, query=x[0, 0]), "query and key: one was given"),
        (lambda x: explore_positions("t5", table=x[0]), r"table: shape was \(3, 4\); it should be \(32, 8\)"),
        (lambda x: explore_positions("t5", buckets=6), "buckets: was 6; it should be a multiple of 4"),
        (lambda x: Explorer("none", {}, alt=ALT, fallback=table(["a"], [])), "kind: was 'none'"),
        (lambda x: Explorer("matrix", {}, alt="short", fallback=table(["a"], [])), "alt: was 'short'"),
        (lambda x: pack(x, "int8"), "dtype: was 'int8'"),
        (lambda x: script("none"), "kind: was 'none'"),
    ],
)
def test_wrong_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make(np.zeros((2, 3, 4)) + 1e-3)


def test_tensors_that_learn_and_half_precision_are_taken():
    x = torch.randn(3, 4, dtype=torch.bfloat16, requires_grad=True)
    assert explore_matrix(x, x, x).spec["query"]["shape"] == [1, 3, 4]


def test_numbers_that_json_cannot_say_are_refused():
    with pytest.raises(ValueError, match="JSON"):
        Explorer("matrix", {"x": float("nan")}, alt=ALT, fallback=Table(["a"], [])).html()


def test_nothing_heavy_is_loaded_for_a_figure():
    code = "import sys, attnkit.viz; print([m for m in ('ipywidgets', 'anywidget', 'IPython') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr
