"""The beam search tree, by keyboard and by touch."""

from __future__ import annotations

import pytest
from explorers import FOCUSED, LIVE, PHONE, STATUS, control, visit

from attnkit.viz.explorers.beam import explore_beam
from tests.viz.test_beam_parity import TABLE

pytestmark = pytest.mark.slow

BOXES = "document.querySelectorAll('svg[role=img] .ak-hit').length"
BEST = "Array.from(document.querySelectorAll('table')).pop().querySelector('tbody th').textContent"


def test_width_and_step_by_keyboard(tmp_path):
    values = visit(
        explore_beam(TABLE),
        tmp_path,
        [
            ["eval", STATUS],
            ["eval", BOXES],
            ["eval", BEST],
            ["focus", control("Step")],
            ["press", "Home"],
            ["eval", BOXES],
            ["press", "ArrowRight"],
            ["eval", BOXES],
            ["focus", "[aria-label='Candidates of step 2'] tbody tr:nth-child(1) button"],
            ["press", "Enter"],
            ["eval", FOCUSED],
            ["eval", "document.querySelectorAll('.ak-edge.ak-on').length"],
            ["focus", control("Beam width")],
            ["press", "ArrowLeft"],
            ["eval", STATUS],
            ["focus", ".ak-check input"],
            ["press", "Space"],
            [
                "eval",
                "Array.from(document.querySelectorAll(\"[aria-label='All candidates'] tbody tr\"), (r) => r.innerText)",
            ],
            ["eval", "document.querySelector('svg[role=img]').checkVisibility()"],
        ],
    )
    parted, whole, best, one, two, focused, edges, agree, rows, seen = values
    assert parted == "Beam: “a bird end”, sum −0.97. Greedy: “the cat end”, sum −1.43."
    assert (whole, one, two) == (8, 2, 6)
    assert best == "a bird end"
    assert focused == "a bird"
    assert edges == 2
    assert agree == "Beam and greedy search agree: “the cat end”."
    assert any(row.split("\t")[0] == "the cat" and "runs on" in row for row in rows)
    assert not seen


def test_on_a_phone_in_the_dark_by_touch(tmp_path):
    values = visit(
        explore_beam(TABLE, width=3, title="Two searches"),
        tmp_path,
        [
            ["tap", ".ak-hit:nth-of-type(1)"],
            ["eval", LIVE],
            ["eval", "document.querySelector('svg[role=img]').getAttribute('aria-label')"],
        ],
        **PHONE,
    )
    said, label = values
    assert said.startswith("the: sum −0.51, score −0.51, runs on")
    assert label.startswith("Tree of 3 steps. Beam: “a bird end”")
