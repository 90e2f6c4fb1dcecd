"""A bias that is linear in distance, told by one slope a head instead of by a (q_len, k_len) table."""

from __future__ import annotations

from typing import no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnkit.masks.base import Sizes
from attnkit.masks.position import ALIGNMENTS, Align


class LinearBias:
    """bias[h, q, k] = -slopes[h] * |q + shift - k|, to be handed to `attention(bias=...)`.

    A backend that works in tiles makes each tile of it from two numbers and a slope, so that no table is read or
    kept. `ALiBi` is the encoding of this form (Press et al. 2022, arXiv:2108.12409).

    - `slopes`: (heads,), one for each query head. They may be learned: they get a gradient.
    - symmetric: by the distance in both directions.
    - not symmetric: -slopes[h] * max(q + shift - k, 0); keys after the query, which a causal mask hides, get 0.
    - `align`: which query stands where, as in `Causal`. With fewer queries than keys, "upper_left" lines up the first
      of both (shift 0), "lower_right" the last of both (shift k_len - q_len). May be left out for equal lengths.

    >>> LinearBias(torch.tensor([0.5]), align="upper_left").table(Sizes(1, 1, 2, 3), torch.float32)[0, 0]
    tensor([[ 0.0000, -0.5000, -1.0000],
            [-0.5000,  0.0000, -0.5000]])
    """

    slopes: Float[Tensor, " heads"]
    symmetric: bool
    align: Align | None

    @no_type_check  # wrong arguments are refused in words
    def __init__(self, slopes: Float[Tensor, " heads"], symmetric: bool = True, align: Align | None = None) -> None:
        if not isinstance(slopes, Tensor) or slopes.ndim != 1 or not slopes.is_floating_point():
            what = f"shape {tuple(slopes.shape)}, {slopes.dtype}" if isinstance(slopes, Tensor) else repr(slopes)
            raise ValueError(f"slopes is {what}; it must be a tensor of floats of shape (heads,)")
        if align is not None and align not in ALIGNMENTS:
            raise ValueError(f"align is {align!r}; it must be one of {ALIGNMENTS}, or None for equal lengths")
        self.slopes, self.symmetric, self.align = slopes, bool(symmetric), align

    def check(self, sizes: Sizes) -> None:
        """Raise ValueError when there is not one slope a head, or when lengths differ and no alignment is named."""
        if self.slopes.shape[0] != sizes.heads:
            raise ValueError(f"bias is {self!r}; it must have one slope for each of the query's {sizes.heads} heads")
        if self.align is None and sizes.q_len != sizes.k_len:
            raise ValueError(
                f"bias is {self!r}; it must name an alignment, because the {sizes.q_len} queries and {sizes.k_len} "
                "keys differ in number: align='upper_left' lets query 0 stand at key 0, align='lower_right' lets the "
                "last query stand at the last key (what a decoder with cached keys means)"
            )

    def shift(self, sizes: Sizes) -> int:
        """Query i stands at key i + shift."""
        return sizes.k_len - sizes.q_len if self.align == "lower_right" else 0

    def lowered(self, rows: range, cols: range, sizes: Sizes, dtype: torch.dtype) -> Float[Tensor, "rows cols"]:
        """What the slopes are multiplied by in the tile rows x cols: minus the distance, or 0 after the query."""
        device = self.slopes.device
        q = torch.arange(rows.start, rows.stop, device=device)
        return self._lowered(q + self.shift(sizes), torch.arange(cols.start, cols.stop, device=device), dtype)

    def _lowered(self, q: Int[Tensor, " q_len"], k: Int[Tensor, " k_len"], dtype: torch.dtype) -> Tensor:
        """The same for queries and keys that stand at these places."""
        offset = k - q[:, None]
        return (-offset.abs() if self.symmetric else offset.clamp(max=0)).to(dtype)

    def table(self, sizes: Sizes, dtype: torch.dtype) -> Float[Tensor, "1 heads q_len k_len"]:
        """The whole bias, for backends that cannot make it tile by tile. Differentiable in the slopes."""
        q, k = (torch.arange(n, device=self.slopes.device) for n in (sizes.q_len, sizes.k_len))
        return (self._lowered(q + self.shift(sizes), k, dtype) * self.slopes.to(dtype)[:, None, None])[None]

    def __repr__(self) -> str:
        rest = ("" if self.symmetric else ", symmetric=False") + (f", align={self.align!r}" if self.align else "")
        return f"LinearBias({self.slopes.shape[0]} slopes{rest})"
