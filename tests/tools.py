"""What tests of several rooms share."""

from __future__ import annotations

import os

import pytest


def need(found: object, what: str) -> None:
    """Skip a test for want of `what`, unless it was found; in CI, which may leave nothing out, that is a failure."""
    if not found:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"needs {what}")


# How a MyST page begins that has cells.
FRONT_MATTER = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

"""
