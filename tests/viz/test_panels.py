"""Several heat maps, bars, bands: what they draw is also in their tables, and too much is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup

from attnkit.viz import bars, heatmaps, lines

ALT = "Two groups of bars of which the second is higher."
HEADS = np.array([[[0.9, 0.1], [0.5, 0.5]], [[0.2, 0.8], [0.3, 0.7]], [[0.5, 0.5], [0.5, 0.5]]])


def parse(figure) -> BeautifulSoup:
    return BeautifulSoup(figure._repr_html_(), "html.parser")


def paths(page: BeautifulSoup) -> int:
    return len(page.svg.find_all("g", id=re.compile("patch_")))


def test_each_panel_has_a_table_under_its_title():
    page = parse(heatmaps(torch.tensor(HEADS), ["q", "r"], ["a", "b"], titles=["one", "two", "three"]))
    assert [c.get_text() for c in page.select("table caption")] == ["one", "two", "three"]
    second = [[c.get_text() for c in row.find_all(["th", "td"])] for row in page.select("table")[1].select("tbody tr")]
    assert second == [["q", "0.20", "0.80"], ["r", "0.30", "0.70"]]
    assert "one: most from q to a (0.90)" in page.svg["aria-label"]


def test_panels_share_one_scale_of_colours():
    alone = parse(heatmaps(HEADS[1:2], titles=["two"], limits=(0.0, 0.9)))
    among = parse(heatmaps(HEADS, titles=["one", "two", "three"], columns=3))
    colour = re.compile(r"fill: (#[0-9a-f]{6})")
    drawn = set(colour.findall(str(alone.find("g", id=re.compile("QuadMesh_1$")))))
    assert drawn
    assert drawn <= set(colour.findall(str(among.find("g", id=re.compile("QuadMesh_2$")))))


@pytest.mark.parametrize(
    ("weights", "titles", "message"),
    [
        (np.zeros((2, 2)), ["a", "b"], r"weights: shape was \(2, 2\); it should be \(panels, queries, keys\)"),
        (np.zeros((0, 2, 2)), [], "weights: shape"),
        (HEADS, ["a"], "titles: 1 titles for 3 panels"),
    ],
)
def test_wrong_panels_are_named(weights, titles, message):
    with pytest.raises(ValueError, match=message):
        heatmaps(weights, titles=titles)


def test_bars_show_values_and_spread_in_their_table():
    text = repr(bars(["x", "y"], {"a": [1, 2], "b": [3, 4]}, alt=ALT, ylabel="n", spread={"b": [0.5, 0.25]}))
    assert re.search(r"x\s+1\.00\s+3\.00 ± 0\.5\n", text)
    assert re.search(r"y\s+2\.00\s+4\.00 ± 0\.25$", text)


def test_a_bar_is_drawn_for_each_value_and_an_error_bar_for_each_spread():
    plain = parse(bars(["x", "y"], {"a": [1, 2]}, alt=ALT, ylabel="n"))
    two = parse(bars(["x", "y"], {"a": [1, 2], "b": [3, 4]}, alt=ALT, ylabel="n"))
    assert paths(two) > paths(plain)
    spread = parse(bars(["x", "y"], {"a": [1, 2]}, alt=ALT, ylabel="n", spread={"a": [0.1, 0.1]}))
    assert not plain.find("g", id=re.compile("LineCollection"))
    assert spread.find("g", id=re.compile("LineCollection"))


def test_bars_of_another_length_are_named():
    with pytest.raises(ValueError, match=r"series\['a'\]: shape was \(3,\)"):
        bars(["x", "y"], {"a": [1, 2, 3]}, alt=ALT, ylabel="n")


def test_a_band_is_drawn_around_its_line_and_a_level_is_labelled():
    plain = parse(lines([1, 2], {"a": [1, 2]}, alt=ALT, xlabel="x", ylabel="y"))
    banded = parse(lines([1, 2], {"a": [1, 2]}, alt=ALT, xlabel="x", ylabel="y", spread={"a": [1, 1]}))
    band = re.compile("(Poly|FillBetweenPoly)Collection")
    assert not plain.find("g", id=band)
    assert banded.find("g", id=band)
    levelled = parse(lines([1, 2], {"a": [1, 2]}, alt=ALT, xlabel="x", ylabel="y", levels={"chance": 1.5}))
    count = {page: len(page.find_all("g", id=re.compile("line2d_"))) for page in (plain, levelled)}
    assert count[levelled] == count[plain] + 1


@pytest.mark.parametrize("spread", [{"b": [1, 1]}, {"a": [1]}, {"a": [-1, 1]}])
def test_a_wrong_spread_is_named(spread):
    with pytest.raises(ValueError, match="spread"):
        lines([1, 2], {"a": [1, 2]}, alt=ALT, xlabel="x", ylabel="y", spread=spread)


def test_every_line_is_drawn_and_too_many_are_refused():
    """Ten lines, more than there are colours: no two look alike."""
    page = parse(lines([1, 2], {str(i): [i, i] for i in range(10)}, alt=ALT, xlabel="x", ylabel="y"))
    drawn = {path["style"] for path in page.svg.select("g[id*='line2d_'] > path") if "stroke-width: 2" in path["style"]}
    assert len(drawn) == 10
    with pytest.raises(ValueError, match="series: 11 lines"):
        lines([1, 2], {str(i): [i, i] for i in range(11)}, alt=ALT, xlabel="x", ylabel="y")
