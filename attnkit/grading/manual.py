"""Questions answered in words: leaves the text that a notebook holds waiting for a person's mark."""

from __future__ import annotations

from attnkit.grading.engine import Graded
from attnkit.lab.question import Question
from attnkit.lab.reading.notebook import text_cells
from attnkit.lab.reading.words import MAX_ANSWER, find_answer

__all__ = ["MAX_ANSWER", "answer_text", "attachments", "collected", "find_answer"]


def collected(question: Question, data: bytes, seed: str = "") -> Graded:
    """The answer to a question in words, out of the notebook `data`: to be marked, or blank.

    `Graded.outcome` holds the text (plain, capped) and the names of attachments, which are never shown.
    Raises `NotANotebook`.
    """
    text, extra = find_answer(text_cells(data), question.name)
    told: list[tuple[str, str]] = []
    if not text and not extra:
        told.append(("note", "Not answered."))
    outcome = {"text": text, "attachments": list(extra)}
    status = "waiting" if text or extra else "blank"
    return Graded(question.name, 0.0, question.points, status, "", seed, (), tuple(told), outcome)


def answer_text(answer: Graded) -> str:
    """The text of an answer in words, "" for any other."""
    text = answer.outcome.get("text", "") if answer.status in ("waiting", "blank") else ""
    return text if isinstance(text, str) else ""


def attachments(answer: Graded) -> list[str]:
    """The names of what was attached to an answer in words."""
    extra = answer.outcome.get("attachments", []) if answer.status in ("waiting", "blank") else []
    return [str(one) for one in extra] if isinstance(extra, list | tuple) else []
