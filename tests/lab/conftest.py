"""A way to judge a function on drawn cases, and a jail in which notebooks are graded."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from attnkit.grading import jail
from attnkit.grading.engine import Graded, grade_question, read_submission
from attnkit.grading.seeds import seed as seed_of
from attnkit.grading.zygote import Zygote
from attnkit.lab.calling import InProcess
from attnkit.lab.judge import judge
from attnkit.lab.metering import InsideMeter
from attnkit.lab.outcome import Outcome
from attnkit.lab.question import Question
from attnkit.lab.resources import judge_resources

SECRET = seed_of(bytes(32), "lab", "question", "student", 1)


def judged(question: Question, answer, seed: int = 0, measured: bool = False) -> Outcome:
    """The outcome of `answer` on the cases that `seed` draws, with its resources if they are to be `measured`."""
    cases = question.cases(np.random.default_rng(seed))
    outcome = judge(question, InProcess(answer, question), cases, question.frameworks)
    return judge_resources(question, outcome, InsideMeter(answer, question, seed)) if measured else outcome


def takes_long(question: Question) -> bool:
    """Whether answers train, or do something else that takes seconds."""
    return question.seconds > 10 or any(case.judged_by for case in question.cases(np.random.default_rng(0)))


@pytest.fixture(scope="module")
def zygote(jailed: None) -> Iterator[Zygote]:
    """A jail with the limits that a course has unless it says otherwise."""
    with Zygote("jail", jail.Limits()) as zygote:
        yield zygote


def graded(zygote: Zygote, question: Question, *sources: str) -> Graded:
    """What the grader makes of a notebook of these code cells."""
    cells = [{"cell_type": "code", "source": source, "metadata": {}, "outputs": []} for source in sources]
    data = json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}).encode()
    return grade_question(zygote, question, read_submission(data), SECRET)
