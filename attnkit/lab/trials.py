"""Holding a trial: the implementation that a student's test is about, and what the test may ask of it.

The implementation runs here, on the judge's side, on whatever a test thinks up. So what goes in and what comes out is
bounded, and whatever it raises becomes a ValueError in words; a test that asks for more than is allowed has failed,
even if it does not notice.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeGuard

import numpy as np

from attnkit.lab.blackbox import BlackBox
from attnkit.lab.question import ORDINARY, Case, Question
from attnkit.lab.steps import Trial, on_trial

MAX_CALLS = 200
MAX_IN, MAX_OUT = 4096, 65_536
# A whole number may be a length: of all that are handed over as such, the product; of one in an array, its size.
MAX_WHOLE, MAX_WHOLES, MAX_INDEX = 10_000, 10**8, 65_536
MAX_SAID = 160


class Refused(ValueError):
    """The test asked for more than a test may; the text says what, in words for its author."""


class Trying:
    """One trial under way: called as `trying(args, kwargs)` with plain values, it answers as the subject does.

    The arrays are the subject's to keep or write into, and those that it gives are copied. Raises ValueError with what
    the subject raised. `refused` says what the test has asked for that it may not, and stays; `calls` counts.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.calls = 0
        self.refused = ""

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the subject gives."""
        self.calls += 1
        why = self._too_much([*args, *kwargs.values()])
        if not why:
            result, why = self._result(args, kwargs)
            if not why:
                return result
        self.refused = self.refused or why
        raise Refused(why)

    def _too_much(self, given: list[Any]) -> str:
        if self.calls > MAX_CALLS:
            return f"Your test calls the implementation more than {MAX_CALLS} times."
        values = list(_opened(given))
        most = MAX_IN if self.trial.most is None else min(self.trial.most, MAX_IN)
        count = sum(int(np.size(value)) for value in values if value is not None and not isinstance(value, str))
        if count > most:
            return f"Your test hands over {count} numbers in one call; at most {most} {_are(most)} allowed here."
        if sum(len(value) for value in values if isinstance(value, str)) > MAX_IN:
            return f"Your test hands over a text of more than {MAX_IN} characters."
        arrays = [value for value in values if isinstance(value, np.ndarray)]
        # An empty array may still say that it is a billion wide.
        if wide := [array.shape for array in arrays if math.prod(length or 1 for length in array.shape) > MAX_IN]:
            return f"Your test hands over an array of shape {wide[0]}, which is too large."
        return _too_long(values, arrays)

    def _result(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, str]:
        """What the subject gives, and why it cannot be handed over."""
        subject = self.trial.subject
        said = _misfit(subject, args, kwargs)
        if not said:
            try:
                with np.errstate(all="ignore"):
                    result = _given(subject(*args, **kwargs))
            except Exception as error:
                said = _plainly(subject, error)
        if said:  # raised here, where the subject's own error is not its context
            raise ValueError(said)
        values = list(_opened([result]))
        if sum(len(one) for one in values if isinstance(one, str)) > MAX_IN:
            raise ValueError("the implementation gives back a text that is too long")
        count = sum(int(np.size(one)) for one in values)
        if count > MAX_OUT:
            return None, f"Your test hands over what makes a result of {count} numbers; at most {MAX_OUT} are allowed."
        return result, ""


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _opened(values: Iterable[Any]) -> Iterator[Any]:
    """The values, tuples opened."""
    for value in values:
        if isinstance(value, tuple):
            yield from _opened(value)
        else:
            yield value


def _too_long(values: list[Any], arrays: list[np.ndarray]) -> str:
    """Whole numbers that, taken for lengths, would make more than this process can hold."""
    indices = [array for array in arrays if array.dtype.kind in "iu" and array.size]
    bare = [abs(int(array.reshape(-1)[0])) for array in indices if array.size == 1]
    bare += [abs(value) for value in values if type(value) is int]
    if large := [value for value in bare if value > MAX_WHOLE]:
        return f"Your test hands over the whole number {large[0]}; at most {MAX_WHOLE} makes sense here."
    if math.prod(value or 1 for value in bare) > MAX_WHOLES:
        return "Your test hands over whole numbers that together are too large."
    if any(int(array.max()) > MAX_INDEX or int(array.min()) < -MAX_INDEX for array in indices):
        return f"Your test hands over whole numbers beyond {MAX_INDEX}."
    return ""


def _misfit(subject: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Why the subject cannot be called so; Python's own words would name it."""
    try:
        inspect.signature(subject).bind(*args, **kwargs)
    except TypeError as error:
        return f"the implementation does not take these arguments: {error}"
    except ValueError:  # one written in C, without a signature
        return ""
    return ""


def _plainly(subject: Callable[..., Any], error: Exception) -> str:
    """What the subject raised, in one line that does not name it."""
    text = " ".join(str(error).split())[:300]
    for name in (getattr(subject, "__qualname__", ""), getattr(subject, "__name__", "")):
        if name:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "implementation", text)
    kind = "" if isinstance(error, ValueError) else type(error).__name__
    return ": ".join(one for one in (kind, text) if one) or "it raises a ValueError"


def _given(value: Any) -> Any:
    """The subject's result in plain values. Raises ValueError for what cannot be handed over."""
    if isinstance(value, tuple):
        return tuple(map(_given, value))
    if value is None or type(value) in (bool, float, str) or (type(value) is int and abs(value) < 2**63):
        return value
    if isinstance(value, np.ndarray | np.generic):
        array = np.array(value, order="C", subok=False)
        kind = {"f": np.float64, "u": np.int64}.get(array.dtype.kind)
        if kind is not None and array.dtype.itemsize > (8 if array.dtype.kind == "f" else 1):
            array = array.astype(kind)
        if array.dtype.kind in "fiub":
            return array
    raise ValueError(f"the implementation gives back something that no test can be handed ({type(value).__name__})")


def held(test: Callable[..., Any], trial: Trial) -> float:
    """The verdict of a trusted `test`, one in NumPy: 1.0 where it raises AssertionError, 0.0 where it returns.

    Raises what else it raises, and `Refused` where it asks for more than it may.
    """
    trying = Trying(trial)
    box = BlackBox(trying, as_torch=False)
    verdict = 0.0
    try:
        test(box.function())
    except AssertionError:
        verdict = 1.0
    finally:
        box.close()
    if trying.refused:
        raise Refused(trying.refused)
    return verdict


def short(said: str) -> str:
    """What a test says, as one short line without addresses, which no two runs share."""
    said = re.sub(r"0x[0-9a-fA-F]{6,}", "0x…", " ".join(said.split()))
    return said if len(said) <= MAX_SAID else said[: MAX_SAID - 1] + "…"


def wrong_verdict(broken: bool, verdict: Any) -> str:
    """What is wrong with a verdict, in words; "" when it is right."""
    if verdict == float(broken):
        return ""
    return "your test passes an implementation that is broken" if broken else "your test fails a right implementation"


def trial_faults(question: Question, seeds: Iterable[int] = (0, 1, 2, 3)) -> list[str]:
    """What is wrong with the trials of a question, in words for its author.

    The reference finds of every subject what the trial says of it. The ordinary part, without which there are no
    points, holds a broken subject and a right one: a test that never raises and one that always does fail it.
    """
    found: list[str] = []
    for seed in seeds:
        cases = list(question.cases(np.random.default_rng(seed)))
        trials = [case for case in cases if on_trial(case.steps)]
        if not trials:
            continue
        found += [f"{case.note}: is no trial, and others are" for case in cases if not on_trial(case.steps)]
        found += [fault for case in trials for fault in _reference_faults(question, case)]
        kinds = {step.broken for case in trials if case.part == ORDINARY for step in case.steps if _is_trial(step)}
        if True not in kinds:
            found.append(f"part {ORDINARY!r}: no subject is broken, so a test that does nothing passes it")
        if False not in kinds:
            found.append(f"part {ORDINARY!r}: no subject is right, so a test that always raises passes it")
    return list(dict.fromkeys(found))


def _is_trial(step: Any) -> TypeGuard[Trial]:
    return isinstance(step, Trial)


def _reference_faults(question: Question, case: Case) -> Iterator[str]:
    for step in case.steps:
        assert isinstance(step, Trial)
        called = "broken" if step.broken else "right"
        try:
            verdict = held(question.reference, step)
        except Exception as error:
            yield f"{case.note}: the reference raises {type(error).__name__} on a {called} subject: {error}"
            continue
        if verdict != float(step.broken):
            does = "catches it" if verdict else "lets it pass"
            yield f"{case.note}: the subject is said to be {called}, and the reference {does}"
