"""Frames on a page: switched by real controls, without a kernel."""

from __future__ import annotations

import pytest
from explorers import LIVE, PHONE, control, visit

from attnkit.viz import lines, play

pytestmark = pytest.mark.slow

IDS = "Array.from(document.querySelectorAll('[id]'), (e) => e.id)"
USED = "Array.from(document.querySelectorAll('.ak-picture use'), (u) => u.getAttribute('xlink:href').slice(1))"
LABEL = "document.querySelector('.ak-picture svg').getAttribute('aria-label')"


def draw(power, side):
    x = [0.0, 0.5, 1.0]
    y = [v**power if side == "up" else -(v**power) for v in x]
    return lines(
        x, {"y": y}, alt=f"A curve of power {power} that goes {side} over three places.", xlabel="x", ylabel="y"
    )


def test_frames_are_switched_by_keyboard(tmp_path):
    values = visit(
        play(draw, power=[1, 2, 3], side=["up", "down"]),
        tmp_path,
        [
            ["eval", LABEL],
            ["eval", "(document.querySelector('.ak-picture details').open = true)"],
            ["focus", control("power")],
            ["press", "ArrowRight"],
            ["eval", LABEL],
            ["eval", LIVE],
            ["select", control("side"), "down"],
            ["eval", LABEL],
            ["eval", "document.querySelector('.ak-picture td').closest('tbody').innerText"],
            ["eval", "document.querySelector('.ak-picture details').open"],
            ["eval", IDS],
            ["eval", USED],
        ],
    )
    first, second, said, third, table, still_open, ids, used = values[0], *values[2:]
    assert first.startswith("A curve of power 1 that goes up")
    assert second.startswith("A curve of power 2 that goes up")
    assert said == "power 2, side up"
    assert third.startswith("A curve of power 2 that goes down")
    assert "-0.25" in table.replace("−", "-")
    assert still_open
    assert len(ids) == len(set(ids))
    assert used
    assert set(used) <= set(ids)


def test_on_a_phone_in_the_dark(tmp_path):
    values = visit(play(draw, power=[1, 2], side=["up"]), tmp_path, [["eval", LABEL]], **PHONE)
    assert values[0].startswith("A curve of power 1")
