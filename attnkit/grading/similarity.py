"""Which answers of a class look alike, so that a person reads them side by side. It accuses nobody.

Two answers share fingerprints (see `fingerprints.py`). One that most of the class shares is what the task asks for and
says nothing; one that only two students have says much: each is weighted by its rarity, log(n / students that have
it). So a three-line softmax, which half the class writes, is not "copied", and a helper that only two have is. In a
class of a few nobody can tell what is rare, and the numbers mean little.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from attnkit.grading.fingerprints import Lines, fingerprints

# Rare fingerprints that two must share before the share of them means much: at this many, suspicion is half the share.
ENOUGH = 12.0
SUSPICIOUS = 0.6
_COLUMNS = 4096


@dataclass(frozen=True)
class Shared:
    """What two answers to a question have in common. `share` is between 0 and 1, of the one that has less.

    `weight` counts the fingerprints in common, a rare one for nearly 1; `lines` are the (first, last) lines of each
    piece in either source, in the order of the first.
    """

    question: str
    share: float
    weight: float
    lines: tuple[tuple[Lines, Lines], ...]


@dataclass(frozen=True)
class Pair:
    """Two students, `first` < `second`. `suspicion` and `share` are between 0 and 1, over all questions together.

    `cluster` numbers groups of students who are linked by suspicious pairs, from 1; 0 where the pair is not one.
    """

    first: str
    second: str
    suspicion: float
    share: float
    questions: tuple[Shared, ...]
    cluster: int = 0

    @property
    def suspicious(self) -> bool:
        """Whether the two should be read side by side."""
        return self.suspicion >= SUSPICIOUS


@dataclass(frozen=True, eq=False)
class _Question:
    """One question: which student has which fingerprint, and what each fingerprint weighs."""

    name: str
    prints: list[dict[int, Lines]]
    weight: dict[int, float]
    common: np.ndarray  # (students, students): the weight in common
    whole: np.ndarray  # (students,): the weight of all that one has


def similar(answers: Mapping[str, Mapping[str, str]], most: int = 200) -> list[Pair]:
    """The pairs of students whose answers are most alike, most suspicious first, at most `most` and all clusters'.

    `answers` are the sources by student and question, without the code that was handed out (see `sources_of`).
    """
    students = sorted(answers)
    names = sorted({name for one in answers.values() for name in one})
    asked = [_compared(name, [answers[student].get(name, "") for student in students]) for name in names]
    if len(students) < 2 or not asked:
        return []
    common = np.sum([one.common for one in asked], axis=0)
    fewer = np.sum([np.minimum.outer(one.whole, one.whole) for one in asked], axis=0)
    share = common / np.maximum(fewer, 1e-9)
    suspicion = share * common / (common + ENOUGH)
    rows, columns = np.triu_indices(len(students), 1)
    order = np.lexsort((columns, rows, -np.round(suspicion[rows, columns], 9)))
    chosen = [(int(rows[i]), int(columns[i])) for i in order]
    chosen = [
        (a, b)
        for place, (a, b) in enumerate(chosen)
        if common[a, b] > 0 and (place < most or suspicion[a, b] >= SUSPICIOUS)
    ]
    groups = _clusters([(a, b) for a, b in chosen if suspicion[a, b] >= SUSPICIOUS])
    return [
        Pair(
            students[a],
            students[b],
            round(float(suspicion[a, b]), 4),
            round(float(min(1.0, share[a, b])), 4),
            tuple(one for one in (_shared(question, a, b) for question in asked) if one.weight > 0),
            groups.get(a, 0) if suspicion[a, b] >= SUSPICIOUS else 0,
        )
        for a, b in chosen
    ]


def _compared(name: str, sources: Sequence[str]) -> _Question:
    prints = [fingerprints(source) for source in sources]
    written = sum(1 for one in prints if one)
    having = Counter(value for one in prints for value in one)
    weight = {value: _rarity(count, written) for value, count in having.items()}
    whole = np.array([sum((weight[value] for value in one), 0.0) for one in prints])
    places = {value: place for place, value in enumerate(value for value, count in having.items() if count > 1)}
    common = np.zeros((len(prints), len(prints)))
    for start in range(0, len(places), _COLUMNS):
        common += _in_common(prints, places, weight, start, min(start + _COLUMNS, len(places)))
    return _Question(name, prints, weight, common, whole)


def _in_common(
    prints: list[dict[int, Lines]], places: dict[int, int], weight: dict[int, float], start: int, stop: int
) -> np.ndarray:
    """The weights that each two have in common among the fingerprints `start` to `stop`."""
    has = np.zeros((len(prints), stop - start))
    weights = np.zeros(stop - start)
    for row, one in enumerate(prints):
        for value in one:
            place = places.get(value, -1) - start
            if 0 <= place < stop - start:
                has[row, place], weights[place] = 1.0, weight[value]
    return (has * weights) @ has.T


def _rarity(count: int, students: int) -> float:
    """1 for what two of many have, 0 for what all have."""
    if students <= 2:
        return 1.0
    return min(1.0, math.log(students / count) / math.log(students / 2))


def _shared(question: _Question, a: int, b: int) -> Shared:
    first, second = question.prints[a], question.prints[b]
    both = [value for value in first if value in second]
    weight = sum((question.weight[value] for value in both), 0.0)
    fewer = min(float(question.whole[a]), float(question.whole[b]))
    told = sorted({(first[value], second[value]) for value in both if question.weight[value] > 0})
    return Shared(
        question.name, round(min(1.0, weight / fewer), 4) if fewer else 0.0, round(weight, 2), tuple(_merged(told))
    )


def _merged(pieces: list[tuple[Lines, Lines]]) -> list[tuple[Lines, Lines]]:
    """Pieces that touch in both sources become one."""
    merged: list[tuple[Lines, Lines]] = []
    for here, there in pieces:
        if (
            merged
            and here[0] <= merged[-1][0][1] + 1
            and there[0] <= merged[-1][1][1] + 1
            and there[1] >= merged[-1][1][0] - 1
        ):
            (a, b), (c, d) = merged[-1]
            merged[-1] = ((a, max(b, here[1])), (min(c, there[0]), max(d, there[1])))
        else:
            merged.append((here, there))
    return merged


def _clusters(links: list[tuple[int, int]]) -> dict[int, int]:
    """A number for each group of students that are linked, directly or through others."""
    leader: dict[int, int] = {}

    def find(one: int) -> int:
        while leader.setdefault(one, one) != one:
            one = leader[one]
        return one

    for a, b in links:
        leader[find(b)] = find(a)
    numbers: dict[int, int] = {}
    return {one: numbers.setdefault(find(one), len(numbers) + 1) for one in list(leader)}
