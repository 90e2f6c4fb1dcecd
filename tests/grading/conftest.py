"""What the grader's tests share: one zygote in a jail, notebooks made of a few cells."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from attnkit.grading import jail
from attnkit.grading.cells import Cell
from attnkit.grading.engine import Graded
from attnkit.grading.zygote import Zygote
from attnkit.lab.question import Question


def notebook_bytes(*sources: str) -> bytes:
    """A notebook file of code cells."""
    cells = [{"cell_type": "code", "source": source, "metadata": {}, "outputs": []} for source in sources]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}).encode()


@pytest.fixture(scope="module")
def zygote(jailed: None) -> Iterator[Zygote]:
    """A zygote in a jail with short limits."""
    with Zygote("jail", jail.Limits(seconds=3.0, load_seconds=5.0)) as zygote:
        yield zygote


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Puts a stand-in for the engine in place; the list gets (question, seed) each time that it grades."""
    from attnkit.grading import job
    from tests.grading.tiny import pretended

    graded: list[tuple[str, str]] = []

    def grade(zygote: Zygote, question: Question, cells: list[Cell], seed: str) -> Graded:
        graded.append((question.name, seed))
        return pretended(zygote, question, cells, seed)

    monkeypatch.setattr(job, "grade_question", grade)
    return graded
