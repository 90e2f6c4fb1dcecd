"""What a student's test is handed in a trial: a function that works like the implementation and shows nothing of it.

The notebook imports this file, and the grader's worker loads it inside the jail, where the implementation itself is
not: there `ask` goes over the pipes. Standard library and NumPy only; takes torch from where it is loaded already.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

DEEP = 3  # tuples within tuples that travel
_DTYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1")
_TAKES = "the implementation takes arrays, tensors, numbers, texts, None and tuples of these; it was handed"


class BlackBox:
    """Turns a call with arrays or tensors into one with NumPy arrays for `ask(args, kwargs)`, and its result back.

    `ask` gives back plain values: NumPy arrays, numbers, texts, None, tuples of these; it raises ValueError in words
    for the test. Threads take turns. Once closed it answers no more.
    """

    def __init__(self, ask: Callable[[tuple[Any, ...], dict[str, Any]], Any], as_torch: bool) -> None:
        self._ask, self._as_torch = ask, as_torch
        self._turn, self._closed = threading.Lock(), False

    def function(self) -> Callable[..., Any]:
        """What the test is handed."""

        def implementation(*args: Any, **kwargs: Any) -> Any:
            return self._answer(args, kwargs)

        return implementation

    def close(self) -> None:
        """The test is over; a thread that is still asking is waited for."""
        with self._turn:
            self._closed = True

    def _answer(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        seen = _Seen()
        plain = tuple(seen.take(value) for value in args)
        named = {name: seen.take(value) for name, value in kwargs.items()}
        with self._turn:
            if self._closed:
                raise ValueError("the test is over: the implementation answers no more")
            result = self._ask(plain, named)
        as_torch = seen.tensor or (self._as_torch and not seen.array)
        return seen.give(result, as_torch)


class _Seen:
    """What kinds of values one call was made with: its result is of the same kind."""

    def __init__(self) -> None:
        self.tensor = self.array = False
        self._tensors: list[Any] = []
        self._reals: list[np.dtype] = []

    def take(self, value: Any, depth: int = DEEP) -> Any:
        """A fresh plain copy of an argument. Raises ValueError for what does not travel."""
        kind = type(value)
        if value is None or kind in (bool, float, str):
            return value
        if kind is int:
            if not -(2**63) <= value < 2**63:
                raise ValueError(f"{_TAKES} a whole number beyond 64 bits")
            return value
        if kind is tuple and depth:
            return tuple(self.take(one, depth - 1) for one in value)
        torch = sys.modules.get("torch")
        if torch is not None and issubclass(kind, torch.Tensor):
            return self._from_tensor(torch, value)
        if issubclass(kind, np.generic) and _travels(value.dtype):
            return value.item()
        if issubclass(kind, np.ndarray):
            self.array = True
            array = np.array(value, order="C", subok=False)
            if array.dtype.kind == "f":
                self._reals.append(array.dtype)
            return _travelling(array)
        raise ValueError(f"{_TAKES} {'an' if kind.__name__[:1].lower() in 'aeiou' else 'a'} {kind.__name__}")

    def _from_tensor(self, torch: Any, value: Any) -> np.ndarray:
        self.tensor = True
        value = value.detach().cpu()
        if value.is_floating_point():
            self._tensors.append(value.dtype)
            value = value if value.dtype in (torch.float16, torch.float32, torch.float64) else value.float()
        if value.is_complex():
            raise ValueError(f"{_TAKES} a tensor of complex numbers")
        return _travelling(np.array(value.resolve_neg().numpy(), order="C"))

    def give(self, value: Any, as_torch: bool) -> Any:
        """The result as the framework has it; its real numbers in the widest kind that went in."""
        if isinstance(value, tuple):
            return tuple(self.give(one, as_torch) for one in value)
        if not isinstance(value, np.ndarray):
            return value
        if as_torch:
            return self._to_tensor(value)
        if value.dtype.kind == "f" and self._reals:
            value = value.astype(np.result_type(*self._reals))
        return value.copy() if value.ndim else value[()]

    def _to_tensor(self, value: np.ndarray) -> Any:
        import torch  # loaded already: a tensor went in, or the notebook works with torch

        made = torch.from_numpy(value.copy())
        if not made.is_floating_point():
            return made
        if not self._tensors:
            return made.to(torch.get_default_dtype())
        widest = self._tensors[0]
        for one in self._tensors[1:]:
            widest = torch.promote_types(widest, one)
        return made.to(widest)


def _travels(dtype: np.dtype) -> bool:
    return f"{dtype.kind}{dtype.itemsize}" in _DTYPES


def _travelling(array: np.ndarray) -> np.ndarray:
    if not _travels(array.dtype):
        raise ValueError(f"{_TAKES} an array of dtype {array.dtype}")
    return array
