"""Nested state (of an optimizer, a schedule, a generator) as flat, named tensors and a tree that JSON can hold.

>>> import torch
>>> tree, tensors = flatten({"state": {0: {"step": 3, "average": torch.ones(2)}}, "betas": (0.9, 0.999)}, "optimizer")
>>> list(tensors)
['optimizer.state.0.average']
>>> unflatten(tree, tensors)
{'state': {0: {'step': 3, 'average': tensor([1., 1.])}}, 'betas': (0.9, 0.999)}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

# A JSON object {"$kind": content} stands for what JSON has not; dictionaries are pairs, as keys may be integers.
TENSOR, TUPLE, DICT, FLOAT = "$tensor", "$tuple", "$dict", "$float"


def flatten(value: Any, path: str) -> tuple[Any, dict[str, Tensor]]:
    """(what JSON can hold, the tensors by name). TypeError for anything but tensors, containers and plain scalars."""
    tensors: dict[str, Tensor] = {}
    return _encode(value, path, tensors), tensors


def unflatten(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The nested state again, equal to what was flattened."""
    if isinstance(tree, list):
        return [unflatten(item, tensors) for item in tree]
    if not isinstance(tree, dict):
        return tree
    ((kind, content),) = tree.items()
    if kind == TENSOR:
        return tensors[content]
    if kind == FLOAT:
        return float(content)
    if kind == TUPLE:
        return tuple(unflatten(item, tensors) for item in content)
    return {key: unflatten(item, tensors) for key, item in content}


def _encode(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[path] = value
        return {TENSOR: path}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str | int) for key in value):
            raise TypeError(f"{path} has keys that are neither strings nor integers; they cannot be saved")
        return {DICT: [[key, _encode(item, f"{path}.{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        items = [_encode(item, f"{path}.{index}", tensors) for index, item in enumerate(value)]
        return {TUPLE: items} if isinstance(value, tuple) else items
    if isinstance(value, float) and not math.isfinite(value):
        return {FLOAT: str(float(value))}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{path} is a {type(value).__name__}; only tensors, containers and plain scalars can be saved")
