"""A matrix of weights as a picture that is also a table: numbers on coloured ground.

It draws the same on every machine, needs no image, can be read aloud, and nbval can compare it.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

_DARK = (8, 64, 129)  # the colour of a weight of 1; 0 is white


class Heatmap:
    """A matrix with values from 0 to 1: `rows` and `columns` label it, `title` says what it shows."""

    def __init__(self, weights: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str = "") -> None:
        self.weights = np.asarray(weights, dtype=float)
        self.rows, self.columns, self.title = list(rows), list(columns), title
        expected = (len(self.rows), len(self.columns))
        if self.weights.shape != expected:
            raise ValueError(f"weights: shape was {self.weights.shape}; it should be {expected}, to fit the labels")

    def __repr__(self) -> str:
        wide = max(6, *(len(name) for name in self.columns))
        left = max(len(name) for name in self.rows)
        lines = [self.title, " " * left + "".join(f"  {name:>{wide}}" for name in self.columns)]
        for name, row in zip(self.rows, self.weights, strict=True):
            lines.append(f"{name:<{left}}" + "".join(f"  {value:>{wide}.2f}" for value in row))
        return "\n".join(line for line in lines if line)

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col" style="padding:0.3em">{html.escape(name)}</th>' for name in self.columns)
        body = "".join(
            f'<tr><th scope="row" style="padding:0.3em">{html.escape(name)}</th>{"".join(map(_cell, row))}</tr>'
            for name, row in zip(self.rows, self.weights, strict=True)
        )
        return (
            f'<table><caption style="caption-side:top;white-space:nowrap">{html.escape(self.title)}</caption>'
            f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table>"
        )


def _cell(value: float) -> str:
    """One number; the ink is chosen so that it can be read on its ground."""
    share = float(np.clip(np.nan_to_num(value), 0, 1))
    ground = ",".join(str(round(255 + (dark - 255) * share)) for dark in _DARK)
    ink = "#ffffff" if share > 0.705 else "#000000"
    return f'<td style="padding:0.4em;text-align:right;background:rgb({ground});color:{ink}">{value:.2f}</td>'
