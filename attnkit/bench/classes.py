"""A class that nobody attends: seeded notebooks for the attention lab, in torch, right and wrong as students are."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path

QUESTIONS = ("softmax", "attention", "masked_attention")
_SCORES = "scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5"
# The first of each is right; the others are seen every year. `attention` and `masked_attention` stand on `softmax`.
ANSWERS: Mapping[str, tuple[str, ...]] = {
    "softmax": (
        "def softmax(x):\n    return torch.softmax(x, dim=-1)",
        "def softmax(x):\n    e = (x - x.logsumexp(-1, keepdim=True)).exp()\n    return e",
        "def softmax(x):\n    e = torch.exp(x)\n    return e / e.sum(dim=-1, keepdim=True)",
        "def softmax(x):\n    return torch.softmax(x, dim=0)",
    ),
    "attention": (
        f"def attention(query, key, value):\n    {_SCORES}\n    return softmax(scores) @ value",
        f"def attention(query, key, value):\n    {_SCORES}\n    return torch.softmax(scores, -1) @ value",
        "def attention(query, key, value):\n    return softmax(query @ key.transpose(-1, -2)) @ value",
        f"def attention(query, key, value):\n    {_SCORES}\n    return torch.softmax(scores, -2) @ value",
    ),
    "masked_attention": (
        f"def masked_attention(query, key, value, mask):\n    {_SCORES}\n"
        "    scores = scores.masked_fill(~mask, float('-inf'))\n"
        "    return torch.softmax(scores, -1).nan_to_num(0.0) @ value",
        f"def masked_attention(query, key, value, mask):\n    {_SCORES}\n    seen = mask.any(-1, keepdim=True)\n"
        "    weights = torch.softmax(torch.where(mask | ~seen, scores, float('-inf')), -1)\n"
        "    return torch.where(seen, weights @ value, 0.0)",
        f"def masked_attention(query, key, value, mask):\n    {_SCORES}\n"
        "    return softmax(scores.masked_fill(~mask, float('-inf'))) @ value",
        f"def masked_attention(query, key, value, mask):\n    {_SCORES}\n"
        "    return softmax(scores.masked_fill(mask, -1e9)) @ value",
    ),
}
_WEIGHTS = (4, 3, 2, 1)  # how often each is given: seven of ten answers are right
_STUB = "def {}(*arrays):\n    raise NotImplementedError()"
_BLANK = 0.05


def submissions(students: int, seed: int = 0) -> list[dict[str, str]]:
    """`students` sets of answers, by question: the same for the same seed. One of twenty answers is left blank."""
    rng = random.Random(seed)
    return [{name: _answer(rng, name) for name in QUESTIONS} for _ in range(students)]


def _answer(rng: random.Random, name: str) -> str:
    if rng.random() < _BLANK:
        return _STUB.format(name)
    return rng.choices(ANSWERS[name], _WEIGHTS)[0]


def write_class(folder: Path, students: int, seed: int = 0) -> None:
    """Write the class as Canvas would hand it out: one notebook a student, in the new `folder`."""
    folder.mkdir(parents=True)
    for number, answers in enumerate(submissions(students, seed), 1):
        sources = ["import torch", *(f"# question: {name}\n{source}" for name, source in answers.items())]
        cells = [{"cell_type": "code", "source": source, "metadata": {}, "outputs": []} for source in sources]
        notebook = {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": cells}
        (folder / f"student{number}_{number}_{number}_attention.ipynb").write_text(json.dumps(notebook), "utf-8")
