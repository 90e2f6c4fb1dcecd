"""Answers to each lab's questions, in a module of the lab's name, written without a look at the questions' own code.

RIGHT      question -> three right answers or more, in different styles
ORACLES    question -> what the reference must agree with in double precision, given tensors
FORBIDDEN  question -> the source of an answer that calls what the question forbids
WRONG      (question, a wrong answer as a student writes it, words that the feedback must hold), three or more of each
Where each student has numbers of their own, answers use them by name, as in the notebook: the tests set the module's
global of that name.
"""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType


def answers_to(lab: str) -> ModuleType | None:
    """The module with the answers to the lab; None where there is none yet."""
    name = f"{__name__}.{lab.replace('-', '_')}"
    return importlib.import_module(name) if importlib.util.find_spec(name) else None
