"""How many mutants of a lab's own solutions lose points: a question that lets a wrong answer pass is found by that.

A mutant is *killed* when it does not get full marks. One that gets them may be no wrong answer at all: when it also
gives the reference's values on ten other draws in double precision, it is *equivalent* and does not count. Where a
case is judged by a threshold, "gives the reference's values" can only mean that it is reached there, too; where the
answer is a test, that the verdicts are the same. What is left is *alive*, and shown to the author. Where each student
has numbers of their own, all that is asked for several of them.

Mutants may loop for ever or fill the memory, so each runs in a process of its own, forked from one that has loaded
the lab and runs nothing of the answer itself: `python -m attnkit.authoring.verify_mutants LAB.md JOBS` prints JSON.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from attnkit.authoring.labs import LabError, Master
from attnkit.authoring.project import project_of
from attnkit.authoring.verify_changed import Solution, Unusable, differing_students, solutions
from attnkit.authoring.verify_forks import each_apart, set_deadline
from attnkit.authoring.verify_solutions import run_quietly
from attnkit.authoring.verify_values import Asked, ask, difference, differs
from attnkit.lab.calling import InProcess
from attnkit.lab.judge import judge
from attnkit.lab.metering import InsideMeter
from attnkit.lab.question import Question, Tolerance
from attnkit.lab.resources import judge_resources

SEED, OTHER_SEEDS = 1, range(100, 110)
RATE = 0.95  # of ours, at least
# All mutants are run where that takes less than so many seconds of processor time; else the largest of these samples
# that does, or the last.
_WORK, _SAMPLES = 12.0, (60, 24, 8)
_SLOW_SEEDS = range(100, 102)  # in place of the ten, where an answer takes longer than `_SLOW` for one draw
_SLOW = 1.0
_LEAST_SECONDS, _PATIENCE = 1.0, 8.0  # a mutant's deadline: so many times what the solution takes
_ORIGINAL_SECONDS = 500.0  # what the solution may take itself, for all draws
# The double-precision tolerances that "the same values" may mean: the first that the solution itself meets.
_TIGHT = (Tolerance(1e-9, 1e-12), Tolerance(1e-7, 1e-9), Tolerance(1e-5, 1e-6))


@dataclass
class Killed:
    """What became of the mutants of one solution; `of` is how many there are when only some were run.

    `alive` holds those that got full marks and are not equivalent, in words. `problem` says why none were run.
    """

    killed: int = 0
    equivalent: int = 0
    alive: list[str] = field(default_factory=list)
    of: int = 0
    seconds: float = 0.0
    problem: str = ""

    @property
    def counted(self) -> int:
        """Those that should have lost points."""
        return self.killed + len(self.alive)

    @property
    def run(self) -> int:
        """All that were tried."""
        return self.counted + self.equivalent

    @property
    def rate(self) -> float:
        """The share of killed ones; 1 when none count."""
        return self.killed / self.counted if self.counted else 1.0


def kill_rates(master: Master, jobs: int = 1) -> dict[str, Killed]:
    """The mutants of each question's solution, run in fresh processes, `jobs` at a time.

    Raises `LabError` when the process that runs them ends unexpectedly.
    """
    command = [sys.executable, "-m", "attnkit.authoring.verify_mutants", str(master.path), str(jobs)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise LabError(f"the mutants of {master.name} could not be run: {said}")
    told = json.loads(done.stdout)
    return {name: Killed(**one) for name, one in told.items()}


# --- in the process that forks ---------------------------------------------------------------------------------------


def run_mutants(given: Sequence[Solution], jobs: int) -> Killed:
    """Fork a child for each mutant (or for some, where that would take long) and count.

    `given` is the same solution with the numbers of one student after the other: what is not killed with those of the
    first is tried with those of the next. A mutant is alive if it ever was. Raises `Unusable`.
    """
    start = time.perf_counter()
    names = [text for text, _ in given[0].mutants()]
    fates = dict.fromkeys(range(len(names)), "equivalent")
    for number, solution in enumerate(given):
        work, seconds = _prepared(solution)
        if not number:
            fates = dict.fromkeys(_chosen(len(names), seconds), "equivalent")
        left = [place for place, fate in fates.items() if fate != "killed"]
        changed = [texts for _, texts in solution.mutants()]
        verdicts = each_apart([changed[place] for place in left], work.mutant, jobs, work.seconds)
        for place, told in zip(left, verdicts, strict=True):
            fates[place] = _fate(told, fates[place])
    counts = Counter(fates.values())
    return Killed(
        counts["killed"],
        counts["equivalent"],
        [f"line {names[place].line}: {names[place].change}" for place, fate in fates.items() if fate == "alive"],
        of=len(names),
        seconds=round(time.perf_counter() - start, 1),
    )


def _prepared(solution: Solution) -> tuple[_Work, float]:
    """What mutants are held against, and about the processor time that one takes."""
    work = _Work(solution.question, solution.names(), ask(solution.question, SEED))
    own = tuple(one.text for one in solution.own)
    (told,) = each_apart([own], work.original, 1, _ORIGINAL_SECONDS)
    if told is None or not told["right"]:
        raise Unusable("its solution does not get full marks, so mutants would say nothing")
    work.seconds = max(_LEAST_SECONDS, _PATIENCE * told["whole"])
    work.tolerance = _TIGHT[told["tolerance"]]
    work.others = _others(solution.question, told["cases"])
    # What is measured is measured of the few that are right.
    return work, told["cases"] + (told["whole"] - told["cases"]) / 10


def _fate(told: dict[str, Any] | None, before: str) -> str:
    if before == "alive":
        return "alive"
    if told is None or told["killed"]:  # None: its deadline or its memory ended it
        return "killed"
    return "equivalent" if told["equivalent"] else "alive"


def _chosen(count: int, seconds: float) -> list[int]:
    """Which of so many mutants to run, always the same ones."""
    sizes = [size for size in (count, *_SAMPLES) if size * seconds <= _WORK]
    size = sizes[0] if sizes else _SAMPLES[-1]
    return list(range(count)) if size >= count else sorted(random.Random(0).sample(range(count), size))


def _others(question: Question, seconds: float) -> list[Asked]:
    """Other draws, in double precision."""
    return [ask(question, seed, double=True) for seed in (OTHER_SEEDS if seconds < _SLOW else _SLOW_SEEDS)]


# --- in a child ------------------------------------------------------------------------------------------------------


@dataclass
class _Work:
    """What a child does with the statements of a cell: of the solution at first, then of a mutant."""

    question: Question
    names: dict[str, Any]
    asked: Asked
    others: list[Asked] = field(default_factory=list)
    tolerance: Tolerance = _TIGHT[0]
    seconds: float = 0.0

    def original(self, texts: tuple[str, ...]) -> dict[str, Any]:
        """Whether the solution is right, how long that takes, and how close it comes in double precision."""
        answer = _answer(self.question, texts, self.names)
        start = time.process_time()
        if answer is None or difference(self.question, answer, self.asked):
            return {"right": False}
        cases = time.process_time() - start
        if not self._frugal(answer):
            return {"right": False}
        whole = time.process_time() - start
        others = _others(self.question, cases)
        levels = (level for level, one in enumerate(_TIGHT) if not differs(self.question, answer, others, one))
        return {"right": True, "cases": cases, "whole": whole, "tolerance": next(levels, len(_TIGHT) - 1)}

    def mutant(self, texts: tuple[str, ...]) -> dict[str, Any]:
        """Whether it is killed, equivalent or neither."""
        answer = _answer(self.question, texts, self.names)
        if answer is None or difference(self.question, answer, self.asked) or not self._frugal(answer):
            return {"killed": True}
        set_deadline(self.seconds * len(self.others))  # it was for one draw
        return {"killed": False, "equivalent": not differs(self.question, answer, self.others, self.tolerance)}

    def _frugal(self, answer: Any) -> bool:
        """Whether an answer that is right keeps within the question's limits."""
        if not self.question.resources:
            return True
        plain = dataclasses.replace(self.question, mistakes=(), invariants=())
        outcome = judge(plain, InProcess(answer, plain), [case for case, _ in self.asked], plain.frameworks)
        return judge_resources(plain, outcome, InsideMeter(answer, plain, SEED)).passed


def _answer(question: Question, texts: Sequence[str], names: dict[str, Any]) -> Any:
    """What the cell defines; None when it raises or defines nothing. The namespace is this process's own."""
    try:
        run_quietly(texts, names)
    except Exception:
        return None
    answer = names.get(question.answer)
    return answer if callable(answer) else None


def main(path: str, jobs: str) -> None:
    """Run the mutants of every solution of the master at `path`; print what became of them."""
    import torch
    import torch.fx.experimental.symbolic_shapes  # which a gradient loads, in each child anew

    torch.set_num_threads(1)
    master, project = Master(Path(path)), project_of(Path(path).parent)
    found = {}
    for name, solution in solutions(master, project).items():
        others = [solutions(master, project, student)[name] for student in differing_students(master, name)]
        try:
            found[name] = run_mutants([solution, *others], int(jobs))
        except Unusable as error:
            found[name] = Killed(problem=str(error))
    print(json.dumps({name: asdict(one) for name, one in found.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
