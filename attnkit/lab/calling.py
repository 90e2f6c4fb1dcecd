"""Calling a student's function or class in this process, and turning whatever it returns or raises into a `Reply`.

Nothing that a student returns may stop the check: a list, a generator, an object with a hostile `__array__`,
an array that fills the memory.
"""

from __future__ import annotations

import contextlib
import io
import linecache
import sys
import sysconfig
import traceback
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from attnkit.lab.blackbox import BlackBox
from attnkit.lab.objects import Objects, Told
from attnkit.lab.outcome import Answer, Failure, FailureKind, Framework, Reply
from attnkit.lab.question import Case, Question
from attnkit.lab.script import Asked, perform
from attnkit.lab.steps import Trial
from attnkit.lab.trials import Trying

# No answer is anywhere near this large; converting one that is would stall the notebook.
MAX_VALUES = 1_000_000
MAX_PARTS = 256  # of a tuple; gradients come as one
MAX_MESSAGE = 300
_OURS = str(Path(__file__).resolve().parents[1])
_INSTALLED = tuple({sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")})


class InProcess:
    """`judge`'s way to call `function`, which may be a class, right here.

    `printed` tells whether it ever wrote to standard output or standard error.
    """

    def __init__(self, function: Callable[..., Any], question: Question) -> None:
        self.function, self.question = function, question
        self.printed = False

    def __call__(self, case: Case, framework: Framework) -> Reply:
        """Go through the case with fresh objects and fresh copies of its arrays, as arrays of `framework`."""
        objects = Objects(self.function, framework == "torch")
        return perform(self.question, case, lambda asked, _: self._step(objects, asked))

    def _step(self, objects: Objects, asked: Asked) -> Reply:
        return self._do(objects, asked) if asked.trial is None else self._hold(objects, asked, asked.trial)

    def _hold(self, objects: Objects, asked: Asked, trial: Trial) -> Reply:
        """A trial: the answer, a test, is handed an implementation that runs right here."""
        trying = Trying(trial)
        box = BlackBox(trying, objects.as_torch)
        objects.implementation = box.function()
        try:
            reply = self._do(objects, asked)
        finally:
            box.close()
        if trying.refused:
            return Failure("malformed", trying.refused)
        if isinstance(reply, Failure):
            return reply
        return Answer(reply.value, said=(_as_said(objects.caught, self.function),))

    def _do(self, objects: Objects, asked: Asked) -> Reply:
        try:
            with _quiet() as out:
                value, changed = objects.perform(asked.order)
            self.printed = self.printed or bool(out.getvalue())
            reply = as_reply(value) if asked.compared else Answer(())
        except KeyboardInterrupt:  # the student stops a loop that never ends: that is not ours to swallow
            raise
        except Told as told:
            return Failure("malformed", str(told))
        except BaseException as error:  # SystemExit, too: a check must not end the kernel
            return _as_failure(error, self.function)
        if isinstance(reply, Failure):
            return reply
        return Answer(reply.value, tuple(asked.names[place] for place in changed))


def frameworks_of(function: Callable[..., Any]) -> tuple[Framework, ...]:
    """Which inputs to try first: those of the library that the function's code names.

    torch is left out when nobody has imported it: loading it takes longer than everything else here. A torch module
    takes tensors, whatever it names.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return ("numpy",)
    answer: Any = function
    if issubclass(type(answer), type) and issubclass(answer, torch.nn.Module):
        return ("torch",)
    code, names = getattr(function, "__code__", None), getattr(function, "__globals__", {})
    used = [names.get(name) for name in getattr(code, "co_names", ())]
    modules = {value.__name__.split(".")[0] for value in used if isinstance(value, types.ModuleType)}
    return ("numpy", "torch") if "numpy" in modules and "torch" not in modules else ("torch", "numpy")


@contextlib.contextmanager
def _quiet():
    """No warnings, and what is printed is kept apart: the same check always shows the same text."""
    out = io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(np.errstate(all="ignore"))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(out))
        warnings.simplefilter("ignore")
        yield out


def as_reply(value: Any) -> Reply:
    """What the function returned, as an `Answer`, or as a `Failure` that says kindly what is the matter.

    Looks at the type before the value: an object may lie about its class, or raise when asked.
    """
    if value is None:
        return Failure("malformed", "Your function returned None. Is a `return` missing?")
    if type(value) is tuple:
        parts = [as_reply(one) for one in value[:MAX_PARTS]]
        bad = next((part for part in parts if isinstance(part, Failure)), None)
        values: list[Any] = [part.value for part in parts if isinstance(part, Answer)]
        return bad or Answer(tuple(values))
    if type(value) in (bool, int, float):
        return Answer(float(value))
    torch = sys.modules.get("torch")
    if torch is not None and issubclass(type(value), torch.Tensor):
        if value.numel() > MAX_VALUES:
            return _too_large(tuple(value.shape))
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() and value.itemsize < 4 else value).numpy()
    if not issubclass(type(value), np.ndarray | np.generic):
        return Failure("malformed", _not_an_array(value))
    if value.size > MAX_VALUES:
        return _too_large(value.shape)
    if value.dtype.kind not in "fiub":
        return Failure("malformed", f"Your function returned an array of dtype {value.dtype}; it should hold numbers.")
    return Answer(np.array(value, subok=False))


def _too_large(shape: tuple[int, ...]) -> Failure:
    return Failure("malformed", f"Your function returned an array of shape {shape}, which is far too large.")


def _not_an_array(value: Any) -> str:
    kind = type(value).__name__
    article = "an" if kind[:1].lower() in "aeiou" else "a"
    text = f"Your function returned {article} {kind}; it should return an array (NumPy) or a tensor (torch)."
    if type(value) is list:
        text += " np.array(...) or torch.stack(...) makes one from a list."
    if type(value) is types.GeneratorType:
        text += " Is there a `yield` where a `return` should be?"
    if type(value) in (types.FunctionType, types.MethodType, types.BuiltinFunctionType):
        text += " Are the parentheses of a call missing?"
    return text


def _as_failure(error: BaseException, answer: Callable[..., Any]) -> Failure:
    """The exception in one line, with the student's own line of code, not ours.

    NotImplementedError means "not written yet" only where the answer itself raises it: when attention calls a softmax
    that is not written yet, that is worth saying.
    """
    try:
        message = " ".join(str(error).split())[:MAX_MESSAGE]
    except Exception:  # an exception whose __str__ raises
        message = ""
    own = _own_frames(error)
    stub = isinstance(error, NotImplementedError) and (not own or own[-1].name in _own_names(answer))
    kind: FailureKind = "not-implemented" if stub else "raised"
    name = type(error).__name__
    where = f"line {own[-1].lineno} of {own[-1].name}: {own[-1].line}" if own else ""
    return Failure(kind, f"{name}: {message}" if message else name, where)


def _as_said(caught: AssertionError | None, test: Callable[..., Any]) -> tuple[str, str]:
    """What a test says that has caught something, and the line that says it."""
    if caught is None:
        return "", ""
    failure = _as_failure(caught, test)
    return failure.message, failure.where


def _own_names(answer: Callable[..., Any]) -> set[str]:
    """The function's name, or those of the class's methods: what a traceback calls the answer's own code."""
    methods = vars(answer) if issubclass(type(answer), type) else ()
    return {getattr(answer, "__name__", ""), *methods}


def _own_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The frames of the traceback that are neither ours nor a library's, outermost first."""
    return [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((_OURS, *_INSTALLED)) and linecache.getline(frame.filename, frame.lineno or 0)
    ]
