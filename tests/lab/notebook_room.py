"""A notebook's kernel as far as a lab sees it, played in this process: its names, its cells, its folder."""

from __future__ import annotations

import json
import linecache
import types
from pathlib import Path

import pytest

from attnkit.lab import kernel

SOFTMAX = """# question: softmax
import numpy as np

def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
"""
ATTENTION = """# question: attention
def attention(query, key, value):
    return softmax(query @ key.swapaxes(-1, -2) / query.shape[-1] ** 0.5) @ value
"""
MASKED = """# question: masked_attention
def masked_attention(query, key, value, mask):
    scores = np.where(mask, query @ key.swapaxes(-1, -2) / query.shape[-1] ** 0.5, -np.inf)
    highest = scores.max(axis=-1, keepdims=True)
    e = np.where(mask, np.exp(scores - np.where(np.isfinite(highest), highest, 0)), 0)
    total = e.sum(axis=-1, keepdims=True)
    return (e / np.where(total > 0, total, 1)) @ value
"""
ANSWERS = {"softmax": SOFTMAX, "attention": ATTENTION, "masked_attention": MASKED}
STUB = '# question: {0}\ndef {0}(*args):\n    """Not yet."""\n    raise NotImplementedError("{0}")\n'


class Room:
    """What IPython's shell shows; `run` runs a cell, `restart` begins anew, `save` writes the notebook's file."""

    kernel = object()
    _made = 0

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A new kernel in the same folder."""
        self.user_ns: dict = {"__name__": "__main__"}
        self.history_manager = types.SimpleNamespace(input_hist_raw=[""])

    def run(self, *sources: str) -> None:
        """Run cells; one that raises is in the history as well."""
        for source in sources:
            Room._made += 1
            name = f"<ipython-input-{Room._made}>"
            self.history_manager.input_hist_raw.append(source)
            linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
            try:
                exec(compile(source, name, "exec"), self.user_ns)
            except Exception:
                continue

    def save(self, *sources: str, texts: tuple[str, ...] = (), path: str = "attention.ipynb") -> Path:
        """Write a notebook with these cells."""
        Path(path).write_bytes(book(*sources, texts=texts))
        return Path(path)


def book(*sources: str, texts: tuple[str, ...] = ()) -> bytes:
    """The bytes of a notebook."""
    cells = [{"cell_type": "markdown", "metadata": {}, "source": text} for text in texts]
    cells += [{"cell_type": "code", "metadata": {}, "source": source, "outputs": []} for source in sources]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}).encode()


def open_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    """A notebook in an empty folder; for `room = pytest.fixture(open_room)`."""
    made = Room()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.setattr(kernel, "shell", lambda: made)
    return made
