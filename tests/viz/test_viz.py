"""Figures say in words what they draw, share a page without clashing, and leave matplotlib as it was."""

from __future__ import annotations

import re
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from matplotlib.figure import Figure as MplFigure

from attnkit.viz import Figure, glue, heatmap, lines, table
from attnkit.viz.figure import INK, SERIES

WEIGHTS = np.array([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]])
ALT = "A line that rises from zero to one and stays there."


def parse(figure) -> BeautifulSoup:
    return BeautifulSoup(figure._repr_html_(), "html.parser")


def test_a_heat_map_has_its_numbers_in_a_table_with_headers():
    page = parse(heatmap(WEIGHTS, ["q1", "q2"], ["a", "b", "c"]))
    rows = [[c.get_text() for c in row.find_all(["th", "td"])] for row in page.select("tbody tr")]
    assert rows == [["q1", "0.70", "0.20", "0.10"], ["q2", "0.25", "0.25", "0.50"]]
    assert [th["scope"] for th in page.select("thead th")] == ["col"] * 4
    assert [th["scope"] for th in page.select("tbody th")] == ["row"] * 2
    assert page.select_one("details summary").get_text() == "Data behind this figure"


def test_a_heat_map_tells_where_each_query_looks():
    label = parse(heatmap(WEIGHTS, ["q1", "q2"], ["a", "b", "c"], title="T")).svg["aria-label"]
    assert "q1 most at a (0.70)" in label
    assert "q2 most at c (0.50)" in label
    assert "all alike" in parse(heatmap(np.full((1, 3), 1 / 3))).svg["aria-label"]


def test_plain_text_holds_the_same_numbers():
    text = repr(heatmap(WEIGHTS, ["q1", "q2"], ["a", "b", "c"]))
    assert text.startswith("Figure: Heat map")
    assert "q1  0.70  0.20  0.10" in text


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_tensors_with_gradients_are_taken(kind):
    weights = torch.tensor(WEIGHTS, dtype=kind, requires_grad=True)
    assert "0.70" in repr(heatmap(weights))


@pytest.mark.parametrize(
    ("weights", "names", "message"),
    [
        (np.zeros((2, 2, 2)), {}, r"weights: shape was \(2, 2, 2\)"),
        (np.zeros((0, 3)), {}, "weights: shape"),
        (np.zeros((2, 3)), {"queries": ["a"]}, "queries: 1 names for 2 rows"),
        (np.zeros((2, 3)), {"keys": ["a"]}, "keys: 1 names for 3 columns"),
    ],
)
def test_wrong_input_is_named(weights, names, message):
    with pytest.raises(ValueError, match=message):
        heatmap(weights, **names)


def test_figures_on_one_page_share_no_ids():
    first, second = (lines([1, 2], {"y": y}, alt=ALT, xlabel="x", ylabel="y") for y in ([0, 1], [1, 0]))
    ids = [set(re.findall(r'\bid="([^"]+)"', f._repr_html_())) for f in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    html = first._repr_html_()
    used = set(re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', html))
    assert used
    assert used <= ids[0]


def test_the_same_figure_gives_the_same_bytes():
    draw = [heatmap(WEIGHTS)._repr_html_() for _ in range(2)]
    assert draw[0] == draw[1]


def test_ink_follows_the_page_and_series_can_be_told_apart():
    html = lines([1, 2, 3], {"a": [1, 2, 3], "b": [3, 2, 1]}, alt=ALT, xlabel="x", ylabel="y")._repr_html_()
    assert INK not in html
    assert "currentColor" in html
    assert SERIES[0] in html
    assert SERIES[1] in html


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("ground", ["#ffffff", "#121212"])
@pytest.mark.parametrize("colour", SERIES)
def test_series_colours_have_enough_contrast_on_both_grounds(colour, ground):
    light, dark = sorted((luminance(colour), luminance(ground)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 3  # WCAG 2.2, 1.4.11: graphical objects


def test_alt_text_must_say_something():
    with pytest.raises(ValueError, match="alt: was 'plot'"):
        Figure(MplFigure(), "plot")


def test_alt_text_is_escaped():
    page = parse(lines([1, 2], {"y": [1, 2]}, alt='It is "greater" <than> & all of the rest.', xlabel="x", ylabel="y"))
    assert page.svg["aria-label"] == 'It is "greater" <than> & all of the rest.'


def test_drawing_leaves_the_users_settings_alone():
    before = dict(mpl.rcParams)
    heatmap(WEIGHTS)._repr_html_()
    assert dict(mpl.rcParams) == before


def test_a_series_of_another_length_is_named():
    with pytest.raises(ValueError, match=r"series\['b'\]: shape was \(3,\)"):
        lines([1, 2], {"a": [1, 2], "b": [1, 2, 3]}, alt=ALT, xlabel="x", ylabel="y")


def test_a_table_refuses_rows_that_do_not_fit_and_escapes_cells():
    with pytest.raises(ValueError, match="each needs 2 cells"):
        table(["a", "b"], [[1, 2, 3]])
    assert "&lt;b&gt;" in table(["a"], [["<b>"]])._repr_html_()


def test_numbers_in_line_tables_are_short_and_keep_their_zeros():
    text = repr(lines([1, 2], {"y": [1.0, 1234.5]}, alt=ALT, xlabel="x", ylabel="y"))
    assert "1.00" in text
    assert "1234" in text
    assert "e+" not in text


def test_glue_is_silent_outside_the_book_and_exact_inside(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *a, **k: shown.append((a, k)))
    monkeypatch.delenv("ATTNKIT_BOOK", raising=False)
    glue("x", "2.00")
    assert shown == []
    monkeypatch.setenv("ATTNKIT_BOOK", "1")
    glue("x", "2.00")
    ((data,), options) = shown[0]
    assert list(data.values()) == ["'2.00'"]
    assert options["metadata"]["scrapbook"]["name"] == "x"


@pytest.mark.parametrize(
    ("text", "printed"), [(-0.5, "−0.5"), ("-1 ± 2", "−1 ± 2"), ("1e-12", "1e-12"), ("a-1", "a-1")]
)
def test_glued_numbers_have_a_true_minus_sign(monkeypatch, text, printed):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **k: shown.extend(data.values()))
    monkeypatch.setenv("ATTNKIT_BOOK", "1")
    glue("x", text)
    assert shown == [repr(printed)]


def test_viz_needs_nothing_that_colab_lacks():
    code = (
        "import sys\n"
        "for name in ('myst_nb', 'nbformat', 'jaxtyping', 'jupytext', 'sphinx', 'yaml'): sys.modules[name] = None\n"
        "import attnkit.viz as v\n"
        "v.glue('a', 1)\n"
        "print(len(v.heatmap([[1.0]])._repr_html_()) > 100)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "True", run.stderr


def test_words_in_place_of_pictures_on_request(monkeypatch):
    monkeypatch.setenv("ATTNKIT_VIZ", "text")
    assert heatmap(WEIGHTS)._repr_html_() is None
    assert table(["a"], [["1"]])._repr_html_() is None


def test_words_stand_left_and_numbers_right():
    shown = table(["what", "share", "why"], [["a", "12.5 %", "since"], ["b", "-3", "for"], ["c", "∞", "so"]])
    page = BeautifulSoup(shown._repr_html_(), "html.parser")
    assert [cell.get("class") for cell in page.select("tbody tr")[0].select("td")] == [None, ["ak-words"]]
    assert [cell.get("class") for cell in page.select("thead th")] == [["ak-words"], None, ["ak-words"]]
