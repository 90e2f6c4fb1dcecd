"""What is wrong with a lab itself, told to its author."""

from __future__ import annotations


class QuestionError(ValueError):
    """A question is written wrongly; the message names the class, what was found and what it should be."""
