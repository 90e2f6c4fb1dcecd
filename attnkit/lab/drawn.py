"""What a question draws for one student: vetted values, and the text that shows them."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping
from typing import Any

from attnkit.lab.errors import QuestionError

# What a student's variant may not change: the worth of the question, and what the decorator calls.
_FIXED = ("answer", "cases", "manual", "parts", "points", "private", "reference", "rubric", "variant")


def vetted(name: str, drawn: object) -> dict[str, Any]:
    """The parameters that `variant` returned, as JSON will give them back from a ledger."""
    if not isinstance(drawn, Mapping) or not all(isinstance(key, str) and key.isidentifier() for key in drawn):
        raise QuestionError(f"{name}: variant returned {drawn!r}; it should return a dict of values by name")
    if fixed := sorted(set(drawn) & set(_FIXED)):
        raise QuestionError(f"{name}: variant draws {', '.join(fixed)}, which is the same for every student")
    for key, value in drawn.items():
        try:
            same = json.loads(json.dumps(value, allow_nan=False)) == value
        except (TypeError, ValueError):
            same = False
        if not same:
            raise QuestionError(
                f"{name}: the variant's {key} was {value!r}, of type {type(value).__name__}; it should be a plain int, "
                "float, str, bool or None, or a list or dict of them, as in int(rng.integers(2, 9))"
            )
    return json.loads(json.dumps(dict(drawn)))  # plain types, even where NumPy's pass for Python's


def filled_in(cls: str, doc: str, variant: Mapping[str, Any] | None, undrawn: bool) -> str:
    """The docstring with the student's own parameters; as it is written where everybody gets the same.

    Before anybody's are drawn, as in a report on the class, `{name}` reads `[name]`.
    """
    if variant is None:
        return re.sub(r"\{(\w+)[^{}]*\}", r"[\1]", doc).replace("{{", "{").replace("}}", "}") if undrawn else doc
    try:
        named = {field.partition(".")[0].partition("[")[0] for _, field, _, _ in string.Formatter().parse(doc) if field}
        if unknown := sorted(named - set(variant)):
            raise QuestionError(
                f"{cls}: the docstring has {{{unknown[0]}}}, which its variant does not draw; "
                f"it draws {', '.join(sorted(variant)) or 'nothing'}. A brace that is meant as one is written twice."
            )
        return doc.format(**variant)
    except (IndexError, KeyError, AttributeError, ValueError) as error:
        if isinstance(error, QuestionError):
            raise
        raise QuestionError(f"{cls}: the docstring's braces cannot be filled in ({error}); write one as two") from None
