"""Seconds per graded question: a small class, graded as `attnkit grade` does, in one worker."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from functools import partial
from pathlib import Path

from attnkit.bench.report import Row
from attnkit.grading import jail
from attnkit.grading.batch import Batch
from attnkit.grading.zygote import Zygote
from attnkit.lab.bank import load_lab

STUDENTS = 12
REPEATS = 3
GOAL = 0.5  # seconds a question
# Right, in torch. The other two call the softmax, so the mistake in it reaches all three.
_ANSWERS = {
    "softmax": "import torch\n\ndef softmax(x):\n    return torch.softmax(x, dim=-1)",
    "attention": "def attention(query, key, value):\n"
    "    return softmax(query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5) @ value",
    "masked_attention": "def masked_attention(query, key, value, mask):\n"
    "    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5\n"
    "    weights = softmax(scores.masked_fill(~mask, float('-inf'))).nan_to_num(0.0)\n"
    "    return weights @ value",
}
_MISTAKE = "import torch\n\ndef softmax(x):\n    e = torch.exp(x)\n    return e / e.sum(dim=-1, keepdim=True)"


def suite() -> list[Row]:
    """Rows on grading; with a jail where there is one, which the row says."""
    isolation: jail.Isolation = "none" if jail.why_no_jail() else "jail"
    note = f"{STUDENTS} notebooks, 3 questions, one worker, isolation {isolation}; the zygote's start is not in it"
    rows = [
        Row(
            "seconds per graded question",
            _seconds(_ANSWERS, isolation),
            unit="s",
            goal=GOAL,
            against_peer=False,
            note=note,
        ),
        Row(
            "the same, every answer mistaken",
            _seconds({**_ANSWERS, "softmax": _MISTAKE}, isolation),
            unit="s",
            goal=GOAL,
            against_peer=False,
            note="a mistaken answer is run again on the practice cases, for its counter-example",
        ),
    ]
    return [
        *rows,
        Row("zygote start", _starts(isolation), unit="s", against_peer=False, note="once a worker and batch"),
    ]


def _seconds(answers: dict[str, str], isolation: jail.Isolation) -> list[float]:
    """Seconds a question, from the first student graded to the last; a fresh ledger each time."""
    spec = load_lab("attention")
    samples = []
    with tempfile.TemporaryDirectory() as folder:
        _make_class(Path(folder, "in"), answers)
        for repeat in range(REPEATS):
            ends: list[float] = []
            batch = Batch(Path(folder, "in"), spec, Path(folder, f"out{repeat}"), isolation=isolation)
            batch.run(partial(_note_end, ends))
            samples.append((ends[-1] - ends[0]) / (len(ends) - 1) / len(spec.questions))
    return samples


def _note_end(ends: list[float], *_: object) -> None:
    ends.append(time.perf_counter())


def _starts(isolation: jail.Isolation) -> list[float]:
    samples = []
    for _ in range(REPEATS):
        with contextlib.ExitStack() as stack:
            start = time.perf_counter()
            stack.enter_context(Zygote(isolation, jail.Limits())).child()
            samples.append(time.perf_counter() - start)
    return samples


def _make_class(folder: Path, answers: dict[str, str]) -> None:
    folder.mkdir()
    cells = [
        {"cell_type": "code", "source": f"# question: {name}\n{source}", "metadata": {}, "outputs": []}
        for name, source in answers.items()
    ]
    for number in range(STUDENTS):
        notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}
        (folder / f"student{number}_{number}_{number}_attention.ipynb").write_text(json.dumps(notebook), "utf-8")
