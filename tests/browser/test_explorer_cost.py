"""The calculator, by keyboard and by touch: what is read back is what `attnkit.nn.cost` says."""

from __future__ import annotations

import pytest
from explorers import FAULT, PHONE, STATUS, control, visit

from attnkit.models import GPTConfig
from attnkit.nn.cost import quadratic_from
from attnkit.viz.explorers.cost import explore_cost, presets

pytestmark = pytest.mark.slow

MARKED = "Array.from(document.querySelectorAll('.ak-costs .ak-here'), (r) => r.innerText.replace(/\\s+/g, ' '))"


def test_a_model_is_chosen_and_changed_by_keyboard(tmp_path):
    values = visit(
        explore_cost(),
        tmp_path,
        [
            ["eval", STATUS],
            ["select", control("Start from"), "Llama 2 7B (2023)"],
            ["eval", MARKED],
            ["select", control("Keys and values"), "all share one (MQA)"],
            ["eval", MARKED],
            ["select", control("Start from"), "GPT-2 (2019)"],
            ["eval", STATUS],
            ["focus", control("Length in tokens")],
            ["press", "ArrowRight"],
            ["eval", "document.querySelector('.ak-value').textContent"],
            ["fill", control("heads"), "7"],
            ["eval", FAULT],
            ["fill", control("heads"), "24"],
            ["eval", FAULT],
            ["focus", ".ak-check input"],
            ["press", "Space"],
            ["eval", "document.querySelectorAll('.ak-grid tbody tr').length"],
        ],
    )
    first, llama, shared, gpt, length, wrong, right, rows = values
    at = quadratic_from(presets()["Llama 3 8B (2024)"])
    said = "the scores take more than the rest of the layers from"
    assert first.startswith(f"8.03 billion parameters; cache 512 MiB. Reading a prompt, {said} {at:,} tokens on")
    assert llama[0].startswith("all 6.74 billion 12.6 GiB")
    assert llama[2] == "each its own (MHA) 2 GiB"
    assert shared[2] == "all share one (MQA) 64 MiB"
    assert "124 million" in gpt
    assert "table of positions ends at 1,024" in gpt
    assert length == "4,467"
    assert "should divide the width: 768 / 7" in wrong
    assert right == ""
    assert rows > 10


def test_on_a_phone_in_the_dark(tmp_path):
    values = visit(
        explore_cost(GPTConfig(), length=512, title="What it costs"),
        tmp_path,
        [["tap", "summary"], ["eval", "document.querySelector('.ak-fold').open"], ["eval", STATUS]],
        **PHONE,
    )
    assert values[0]
    assert values[1].startswith("124 million parameters; cache 18 MiB.")
