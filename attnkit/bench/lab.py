"""How long a student waits for a check."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from attnkit.bench.report import Row
from attnkit.lab import Lab

GOAL = 200.0  # ms: below this an answer feels immediate


def suite(rounds: int = 11) -> list[Row]:
    """A check of the costliest question, wrong and right, with its view in HTML; the first one is counted too."""
    answers = {"wrong": _wrong, "right": _right}
    return [
        Row(f"lab.check, {name} answer", _waits(answer, rounds), goal=GOAL, against_peer=False)
        for name, answer in answers.items()
    ]


def _waits(answer: Callable[..., np.ndarray], rounds: int) -> list[float]:
    lab, samples = Lab("attention"), []
    for _ in range(rounds):
        start = time.perf_counter()
        lab.check("masked_attention", answer)._repr_html_()
        samples.append((time.perf_counter() - start) * 1e3)
    return samples


def _wrong(query: np.ndarray, key: np.ndarray, value: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.zeros_like(query @ np.swapaxes(key, -1, -2) @ value) + 0.123


def _right(query: np.ndarray, key: np.ndarray, value: np.ndarray, mask: np.ndarray) -> np.ndarray:
    sees = mask.any(-1, keepdims=True)
    scores = np.where(mask | ~sees, query @ np.swapaxes(key, -1, -2) / np.sqrt(query.shape[-1]), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True, initial=-np.inf))
    return np.where(sees, weights / weights.sum(-1, keepdims=True) @ value, 0.0)
