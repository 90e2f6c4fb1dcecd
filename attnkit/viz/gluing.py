"""Numbers that the prose quotes: `glue("name", text)` in a cell, the glue role with that name in the page."""

from __future__ import annotations

import os
import re

# Set while the book is being executed (attnkit.authoring.notebook.EXECUTION_ENV).
BOOK = "ATTNKIT_BOOK"
_RECORD = "application/papermill.record/text/plain"


def glue(name: str, text: object) -> None:
    """Hand `text` to the page under `name`, so that its prose quotes a value that this cell has computed.

    A hyphen before a digit becomes a true minus sign. In a notebook, where no page is being built, it does nothing.
    It writes the record that myst-nb reads, without importing myst-nb, which Colab does not have.
    """
    if not os.environ.get(BOOK):
        return
    from IPython.display import display

    record = {"scrapbook": {"name": name, "mime_prefix": "application/papermill.record/"}}
    printed = re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", str(text))
    # As a quoted string: myst-nb would read 2.00 as a number and print 2.0.
    display({_RECORD: repr(printed)}, metadata=record, raw=True)
