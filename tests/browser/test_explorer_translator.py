"""The Transformer in the page, by keyboard and by touch: what is read back is what PyTorch computes."""

from __future__ import annotations

import pytest
import torch
from explorers import FAULT, FOCUSED, LIVE, PHONE, STATUS, control, visit

from attnkit.nn import recording
from attnkit.viz.explorers.translator import BOS, EOS, explore_translator, number_translator

pytestmark = pytest.mark.slow

GRIDS = "Array.from(document.querySelectorAll('.ak-grid'), (g) => Array.from(g.querySelectorAll('tbody td')))"
CELLS = f"{GRIDS}.map((cells) => cells.map((c) => c.textContent))"
PRESSED = "document.querySelector('.ak-row[role=group] [aria-pressed=true]').textContent"


def cross_maps(number: int) -> torch.Tensor:
    """(heads, words, digits) of the last layer."""
    found = number_translator()
    source = torch.tensor([[*found._digits(number), EOS]])
    target = torch.tensor([[BOS, *found.tokens(number)]])
    with recording(found.model) as maps, torch.inference_mode():
        found.model(source, target)
    return maps["transformer.decoder.layers.0.cross_attention"][0][0]


def test_a_number_is_typed_and_stepped_through_by_keyboard(tmp_path):
    number = control("A number, 0 to 999999")
    values = visit(
        explore_translator(),
        tmp_path,
        [
            ["eval", STATUS],
            ["fill", number, "21742"],
            ["eval", STATUS],
            ["focus", control("Step")],
            ["press", "ArrowRight"],
            ["press", "ArrowRight"],
            ["eval", PRESSED],
            ["focus", ".ak-heat"],
            ["press", "ArrowRight"],
            ["eval", LIVE],
            ["focus", ".ak-check input"],
            ["press", "Space"],
            ["eval", CELLS],
            ["eval", "document.querySelector('.ak-heads').checkVisibility()"],
            ["fill", number, "007"],
            ["eval", FAULT],
            ["eval", STATUS],
        ],
    )
    first, typed, pressed, said, cells, seen, fault, kept = values
    assert first == "trois cent soixante et onze"
    assert typed == kept == number_translator().translate(21_742)
    assert pressed == "un"
    weights = cross_maps(21_742)
    assert said == f"Head 1, un looks at 1: weight {weights[0, 2, 1]:.2f}"
    assert [[float(c) for c in head] for head in cells] == [
        [round(x, 3) for x in head.flatten().tolist()] for head in weights
    ]
    assert not seen
    assert "leading zeros" in fault


def test_another_token_is_written_by_keyboard_and_the_focus_stays(tmp_path):
    candidate = "tbody tr:nth-child(2) .ak-button"
    values = visit(
        explore_translator(number=92),
        tmp_path,
        [
            ["eval", "document.querySelector('table:has(.ak-bar) tbody tr:nth-child(2) th').textContent"],
            ["focus", f"table:has(.ak-bar) {candidate}"],
            ["press", "Enter"],
            ["eval", "document.querySelector('.ak-forced').textContent"],
            ["eval", FOCUSED],
            ["eval", STATUS],
            ["click", ".ak-button:text-is('Back to its own words')"],
            ["eval", STATUS],
        ],
    )
    wished, forced, focused, changed, back = values
    assert forced == wished.strip("␣")
    assert focused == "written"
    assert changed.startswith(forced)
    assert back == "quatre-vingt-douze"


def test_on_a_phone_in_the_dark_by_touch(tmp_path):
    values = visit(
        explore_translator(number=80),
        tmp_path,
        [
            ["tap", ".ak-row[role=group] button:nth-child(3)"],
            ["eval", PRESSED],
            ["tap", "canvas", 0.9, 0.9],
            ["eval", LIVE],
            ["select", control("Attention"), "among the words"],
            ["eval", "document.querySelector('.ak-heat').getAttribute('aria-label')"],
        ],
        **PHONE,
    )
    pressed, said, label = values
    assert pressed == "vingts"
    assert said.startswith("Head 1, end looks at end: weight ")
    assert label == "Head 1, attention among the words"
