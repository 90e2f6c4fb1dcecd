"""What can stop a batch. Nothing that a student hands in may: that becomes a problem in a list."""

from __future__ import annotations


class GradingError(Exception):
    """The batch cannot start, and the message says what to do."""
