"""Examples as calls of the kernels, without the front door, in Triton's interpreter."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from attnkit.kernels import plan
from attnkit.kernels.arguments import LN2
from attnkit.kernels.call import Call
from attnkit.testing import Example, inputs
from attnkit.testing.examples import Results, viewed


def call_of(example: Example, dtype: torch.dtype, leaves: Results | None = None) -> Call:
    """What the launchers are given for an example, or for these numbers instead of the example's own."""
    leaves = {name: x.detach() for name, x in (leaves or inputs(example, dtype)).items()}
    options = example.options(leaves)
    linear = options.linear
    return Call(
        *viewed(leaves, example), scale=options.scale, structure=plan.structure(options.mask, example.sizes, "cpu"),
        bias=options.bias, softcap=options.softcap, sink=options.sink, dropout=options.dropout, seed=options.seed,
        slopes=None if linear is None else linear.slopes, symmetric=linear is None or linear.symmetric,
        origin=0 if linear is None else linear.shift(example.sizes),
    )  # fmt: skip


def results(run: Callable[..., None], call: Call) -> tuple[Tensor, Tensor, Tensor]:
    """(out, row_max, row_sum) as `run(call, out, exact, row_max, row_sum)` fills them; NaN where it forgets to."""
    batch, heads, q_len, _ = call.query.shape
    out = call.query.new_full((batch, heads, q_len, call.value.shape[3]), math.nan)
    row_max, row_sum = torch.full((2, batch, heads, q_len), math.nan)
    run(call, out, None, row_max, row_sum)
    return out, row_max, row_sum


def lse_of(row_max: Tensor, row_sum: Tensor) -> Tensor:
    """Each row's denominator as attention tells it."""
    return (row_max.double() + row_sum.double().log2()).mul(LN2).float()
