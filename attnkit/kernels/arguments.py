"""What kernels are given: numbers and pointers, grouped by what they are about.

Triton takes a NamedTuple as one argument and passes its fields. A field that is None is a constant: the kernel is
compiled without the lines that would use it. Strides count elements; an axis of length 1 that stands for a longer one
has the stride 0.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from torch import Tensor

LOG2E, LN2 = math.log2(math.e), math.log(2.0)


class View(NamedTuple):
    """A tensor with the axes (batch, heads, rows, columns), wherever it lies in memory."""

    ptr: Any
    batch: Any
    head: Any
    row: Any
    col: Any


class Sizes(NamedTuple):
    """The shape of the problem. `group` query heads share a key head. The widths `d` and `d_v` are constants."""

    heads: Any
    group: Any
    q_len: Any
    k_len: Any
    d: Any
    d_v: Any


class Score(NamedTuple):
    """How a product of query and key becomes a score in base 2, and which weights dropout drops.

    Without softcap `scale` includes log2(e); with it, the product times `scale` goes through tanh, and `softcap`
    includes log2(e). `slopes` are those of a linear bias: slope times distance, counted from key position `origin`
    of query 0; `symmetric` says whether keys after the query are far as well (a constant). `threshold` is what the
    random bits of a weight must reach for the weight to be kept.
    """

    scale: Any
    softcap: Any
    bias: View | None
    slopes: Any
    origin: Any
    symmetric: Any
    sink: Any
    seed: Any
    threshold: Any


class Hiding(NamedTuple):
    """What is visible: low <= key - query <= high, in a span of the row where there are spans, and in the table.

    `spans` holds `count` pairs of start and stop for each row; see `plan.Structure`.
    """

    low: Any
    high: Any
    spans: View | None
    count: Any
    table: View | None


class Walk(NamedTuple):
    """Lists of the tiles to visit (see `plan.blocks`), or None where the band alone says it.

    `order` is a view of (batch, heads, blocks, places); `full` and `seen` of (batch, heads, blocks, 1).
    """

    order: View | None
    full: View | None
    seen: View | None


def view(x: Tensor | None) -> View | None:
    """A tensor of four axes as a kernel is given it; axes of length 1 stand for any length."""
    if x is None:
        return None
    return View(x, *(0 if n == 1 else stride for n, stride in zip(x.shape, x.stride(), strict=True)))


def dense_view(x: Tensor) -> View:
    """A tensor that is not broadcast: its own strides, so that a last axis which is contiguous is known to be so."""
    return View(x, *x.stride())
