"""A translator learns to copy, to reverse and to translate numbers, from any of three seeds, and for the right reason.

Judged on items that it has not met, by what it writes on its own. Each training is a process of its own, in which no
annotation is enforced: that would take most of the time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from attnkit.training import recipes
from attnkit.training.recipes import RECIPES

SEEDS = (0, 1, 2)


def learned(task: str, *options: str) -> dict[str, Any]:
    """What `python -m attnkit.training.recipes` printed."""
    command = [sys.executable, "-m", "attnkit.training.recipes", task, *options, "--maps=1000"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


def mirrored(maps: list[list[list[float]]]) -> tuple[float, float]:
    """Over the tokens of all maps: how often the largest weight is at the mirrored place, and the mean weight there."""
    hits, mass = [], []
    for each in map(Tensor, maps):
        length = len(each) - 1  # without the rows and columns of EOS
        places = length - 1 - torch.arange(length)
        hits.append(each[:length].argmax(-1) == places)
        mass.append(each[torch.arange(length), places])
    return torch.cat(hits).float().mean().item(), torch.cat(mass).mean().item()


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("task", RECIPES)
def test_it_gets_held_out_items_right_and_reverses_by_looking_at_the_mirrored_place(task: str, seed: int) -> None:
    found = learned(task, f"--seed={seed}")
    assert found["held_out"] == len(found["maps"]) == 1000
    assert found["exact_match"] >= 0.99
    if task != "numbers":  # there a target has another length than its source
        hits, mass = mirrored(found["maps"])
        assert (hits > 0.9) == (task == "reverse")
        assert (mass > 0.7) == (task == "reverse")


@pytest.mark.slow
@pytest.mark.parametrize("task", RECIPES)
def test_untrained_it_gets_nothing_right_and_looks_nowhere_in_particular(task: str) -> None:
    found = learned(task, "--steps=0")
    assert found["exact_match"] < 0.05
    if task == "reverse":
        hits, mass = mirrored(found["maps"])
        assert hits < 0.3
        assert mass < 0.3


@pytest.mark.slow
def test_without_positions_it_cannot_reverse() -> None:
    """The same training, blind to order: what it gets right is short or of one symbol."""
    found = learned("reverse", "--no-positions")
    assert found["steps"] == RECIPES["reverse"].steps
    assert found["exact_match"] < 0.05
    assert mirrored(found["maps"])[1] < 0.3


@pytest.mark.parametrize("task", RECIPES)
def test_no_item_that_it_is_judged_by_was_learned_from(task: str) -> None:
    made = RECIPES[task].task(0)
    assert not {str(source) for source, _ in made.train} & {str(source) for source, _ in made.test}
    highest = max(max(source) for source, _ in made.train)
    assert highest == made.source_vocab - 1


def test_an_answer_counts_only_when_all_of_it_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    model = recipes.build(RECIPES["copy"], recipes.Task([], [], 15, 15))
    items = [([5, 6], [6, 5]), ([7], [7]), ([8], [8]), ([9], [9])]
    written = [[6, 5, recipes.EOS], [7, 7, recipes.EOS], [8], [5, recipes.EOS]]  # right, too long, no end, wrong
    monkeypatch.setattr(recipes, "answers", lambda model, asked: written)
    assert recipes.exact_match(model, items) == 1 / 4


def test_a_map_is_mirrored_when_and_only_when_it_is() -> None:
    """The measure itself: a perfect anti-diagonal, a diagonal, and an even spread."""
    perfect = torch.eye(5)[[3, 2, 1, 0, 4]]
    assert mirrored([perfect.tolist()]) == (1.0, 1.0)
    assert mirrored([torch.eye(5).tolist()]) == (0.0, 0.0)
    assert mirrored([torch.full((5, 5), 0.2).tolist()])[1] == pytest.approx(0.2)


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(ValueError, match="name is 'sort'; it must be one of copy, reverse, numbers"):
        recipes.run("sort")
