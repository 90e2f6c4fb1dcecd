"""Which code of a notebook answers a question: found as `attnkit.lab.reading.cells` finds it, for students as well."""

from __future__ import annotations

from attnkit.lab.reading.cells import Cell, Plan, Statement, plan, read_cells

__all__ = ["Cell", "Plan", "Statement", "plan", "read_cells"]
