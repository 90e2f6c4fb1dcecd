"""Is a contender right? Its results against the float64 definition, on the same tensors, for one key head of each case.

One key head, with the query heads that share it, has everything a result depends on: all queries and all keys. Its
rows are taken some at a time, so that no table of all scores is held.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool
from torch import Tensor

from attnkit.backends.naive import naive_attention
from attnkit.bench.gpu.cases import NAMES, Case, Inputs

# How many times the error of the definition, run plainly in the same dtype, is still right: those with which
# FlashAttention is tested by its authors (forward 2, backward 3), plus two units in the last place.
FACTOR = {"out": 2.0}
GRADIENT_FACTOR = 3.0
UNITS = 2.0

ROWS_AT_A_TIME = 2**24  # scores

Results = dict[str, Tensor]


class Judge:
    """Knows what the results of a case are. Called with a contender's results, says how far off they are."""

    def __init__(self, case: Case, inputs: Inputs) -> None:
        self.case, self.inputs = case, inputs
        self.kv_head = case.kv_heads - 1
        group = case.heads // case.kv_heads
        self.heads = slice(self.kv_head * group, (self.kv_head + 1) * group)
        # A learned bias is shared by the batch, so its gradient is a sum over all of it.
        self.batch = slice(0 if inputs.bias is not None else case.batch - 1, case.batch)
        self.want = self.define(torch.float64)
        self.allowed = {name: self._allowed(name, x) for name, x in self.define(inputs.query.dtype).items()}

    def __call__(self, results: Results) -> float:
        """The largest error as a share of what is allowed: up to 1 is right. NaN anywhere is infinitely far."""
        shares = []
        for name, x in results.items():
            error = (self.part(name, x).double() - self.want[name]).abs().max().item()
            whole = bool(x.isfinite().all())  # of all heads, also those whose numbers are not compared
            shares.append(error / self.allowed[name] if whole and math.isfinite(error) else math.inf)
        return max(shares)

    def part(self, name: str, x: Tensor) -> Tensor:
        """The part of a whole result, or of an input, that is judged."""
        if name == "bias":
            return x[:, self.heads]
        if name in ("key", "value"):
            return x[self.batch, self.kv_head : self.kv_head + 1]
        return x[self.batch, self.heads]

    def define(self, dtype: torch.dtype) -> Results:
        """The definition in `dtype`, some rows at a time; gradients are summed over them in float64."""
        case, given = self.case, dict(zip(NAMES, (*self.inputs[:3], self.inputs.bias), strict=True))
        leaves = {n: self.part(n, x.detach()).to(dtype).requires_grad_() for n, x in given.items() if x is not None}
        d_out = self.part("out", self.inputs.d_out).to(dtype)
        outs, sums = [], {name: torch.zeros_like(x, dtype=torch.float64) for name, x in leaves.items()}
        step = max(ROWS_AT_A_TIME // (d_out.shape[0] * d_out.shape[1] * case.k_len), 1)
        for start in range(0, case.q_len, step):
            rows = range(start, min(start + step, case.q_len))
            with torch.set_grad_enabled(case.direction != "forward"):
                out = self._rows(leaves, rows)
            outs.append(out.detach())
            if case.direction != "forward":
                grads = torch.autograd.grad(out, list(leaves.values()), d_out[:, :, rows.start : rows.stop])
                for name, grad in zip(leaves, grads, strict=True):
                    sums[name] += grad
        found = {} if case.direction == "backward" else {"out": torch.cat(outs, dim=2)}
        return found | ({} if case.direction == "forward" else {name: x.to(dtype) for name, x in sums.items()})

    def _rows(self, leaves: Results, rows: range) -> Tensor:
        """The output of some rows: queries of (batch, heads, rows, d) on all keys."""
        query, key, value = (leaves[name] for name in NAMES[:3])
        group = query.shape[1] // key.shape[1]
        part, bias = slice(rows.start, rows.stop), leaves.get("bias")
        return naive_attention(
            query[:, :, part],
            key.repeat_interleave(group, dim=1),
            value.repeat_interleave(group, dim=1),
            self._visible(rows),
            bias=None if bias is None else bias[:, :, part],
        )[0]

    def _visible(self, rows: range) -> Bool[Tensor, "#batch #heads rows k_len"] | None:
        device = self.inputs.query.device
        mask = self.case.mask(device)
        if mask is None:
            return None
        table = mask.tile(rows, range(self.case.k_len), self.case.sizes, device)
        table = table if table.shape[0] == 1 else table[self.batch]  # no mask here depends on the head
        return table.expand(*table.shape[:2], len(rows), self.case.k_len)

    def _allowed(self, name: str, plain: Tensor) -> float:
        """The largest error that is right, from what the definition itself makes in the inputs' dtype."""
        want, unit = self.want[name], torch.finfo(plain.dtype).eps
        error = (plain.double() - want).abs().max().item()
        return FACTOR.get(name, GRADIENT_FACTOR) * error + UNITS * unit * want.abs().max().item()
