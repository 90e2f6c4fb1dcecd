"""Running a few lines inside a worker, to see what they reach."""

from __future__ import annotations

import numpy as np

from attnkit.grading.asking import Worker
from attnkit.grading.cells import Plan, Statement
from attnkit.grading.zygote import Zygote
from attnkit.lab.outcome import Failure, Reply
from attnkit.lab.question import Case, question


@question(points=1, answer="f")
class F:
    """What the lines below are the body of."""

    def cases(self, rng: np.random.Generator) -> tuple[Case, ...]:
        """One, of zeros."""
        return (Case((np.zeros(2),)),)

    def reference(self, x: np.ndarray) -> np.ndarray:
        """Any answer will do."""
        return x


class Alone(Worker):
    """A worker as it is when it is measured."""

    alone = True


def run(zygote: Zygote, body: str, alone: bool = False, before: str = "") -> Reply:
    """What `f(x)` replies, in a fresh child, when `body` is its body; `before` is run when the cell is loaded.

    The child is left as it is, until the next one.
    """
    source = f"import os, glob\n{before}\ndef f(x):\n" + "".join(f"    {line}\n" for line in body.split("\n"))
    worker = (Alone if alone else Worker)(zygote, Plan(attempts=((Statement(1, 1, source, True),),)), F)
    return worker(F.cases(np.random.default_rng(0))[0], "numpy")


def said(zygote: Zygote, expression: str, alone: bool = False) -> str:
    """The text of an expression evaluated inside."""
    reply = run(zygote, f"raise RuntimeError(repr({expression}))", alone)
    assert isinstance(reply, Failure)
    assert reply.kind == "raised", reply
    return reply.message.removeprefix("RuntimeError: ")
