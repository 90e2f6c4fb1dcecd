"""The attention lab and a way to judge a function on drawn cases."""

from __future__ import annotations

import numpy as np
import pytest

from attnkit.lab.bank import load_lab
from attnkit.lab.calling import InProcess
from attnkit.lab.judge import judge

SPEC = load_lab("attention")


@pytest.fixture(scope="session")
def lab_spec():
    return SPEC


def judged(question, function, seed=0, frameworks=("torch", "numpy")):
    """The outcome of `function` on the cases that `seed` draws."""
    return judge(question, InProcess(function, question), question.cases(np.random.default_rng(seed)), frameworks)
