"""The examples in the docstrings run and say the truth."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import attnkit.data

MODULES = [f"attnkit.data.{found.name}" for found in pkgutil.iter_modules(attnkit.data.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_are_true(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0
    assert result.attempted > 0 or name.endswith(".pairs")
