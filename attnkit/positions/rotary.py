"""Rotary encoding (RoPE): queries and keys are turned by their positions, so that q·k knows only their distance."""

from __future__ import annotations

from typing import ClassVar, no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnkit.positions.base import Place, Position, check_count, check_positions, check_width, wide
from attnkit.positions.rotary_scaling import Scaling
from attnkit.positions.waves import Layout, Recall, angles, arrange, check_layout, inverse_frequencies


class Rotary(Position):
    """Turns pair i of a query or key at position p by the angle p * base^(-2i / width).

    RoFormer (Su et al. 2021, arXiv:2104.09864, eq. 15; eq. 34 is the form computed here). Which two entries are a pair
    is a convention on which a checkpoint depends:

    - layout "half": entries i and i + width / 2, the `rotate_half` of GPT-NeoX and of Llama checkpoints as
      Transformers holds them.
    - layout "interleaved": entries 2i and 2i + 1, as in the paper, GPT-J and Llama checkpoints as Meta holds them.

    `half_to_interleaved` and `interleaved_to_half` convert the weights of the projections.
    `width`: how many of the `d_head` entries turn, the first ones (a part in GPT-J, GPT-NeoX and Phi); by default all.
    `scaling`: one of `Linear`, `NTK`, `DynamicNTK`, `YaRN` and `Llama3`, for lengths beyond the trained one.
    Angles are computed in float32 (float64 for float64), and the turn as well, whatever the dtype of the queries.

    >>> rotary = Rotary(4)
    >>> q, k = torch.randn(2, 1, 1, 1, 4)
    >>> def product(i, j):
    ...     return (rotary.rotate(q, torch.tensor([[i]])) * rotary.rotate(k, torch.tensor([[j]]))).sum()
    >>> torch.allclose(product(5, 3), product(105, 103), atol=1e-4)
    True
    """

    acts_on: ClassVar[Place] = "query_key"
    inv_freq: Tensor
    d_head: int
    base: float
    layout: Layout
    scaling: Scaling | None
    width: int
    _recall: Recall

    @no_type_check
    def __init__(
        self,
        d_head: int,
        base: float = 10_000.0,
        layout: Layout = "half",
        scaling: Scaling | None = None,
        width: int | None = None,
    ) -> None:
        super().__init__()
        self.d_head, self.base, self.layout, self.scaling = check_count("d_head", d_head), base, layout, scaling
        self.width = d_head if width is None else check_count("width", width)
        if self.width % 2 or self.width > d_head:
            raise ValueError(
                f"{'d_head' if width is None else 'width'} is {self.width}; it must be even, since entries turn in "
                f"pairs, and at most d_head={d_head}"
            )
        if not base > 1:
            raise ValueError(f"base is {base}; it must be above 1")
        if scaling is not None and not isinstance(scaling, Scaling):
            raise ValueError(f"scaling is {scaling!r}; it must be a scaling such as Linear(factor=2.0), or None")
        check_layout(layout)
        self._recall = Recall()
        self.define()

    def constants(self) -> dict[str, Tensor]:
        inv_freq = inverse_frequencies(self.width, self.base)
        return {"inv_freq": inv_freq if self.scaling is None else self.scaling(inv_freq, self.base)}

    @no_type_check
    def rotate(
        self, x: Float[Tensor, "batch heads len d_head"], positions: Int[Tensor, "#batch len"]
    ) -> Float[Tensor, "batch heads len d_head"]:
        check_width("d_head", self.d_head, x)
        check_positions(positions, x.shape[0], x.shape[2])
        cos, sin = self._recall(positions, wide(x.dtype), self._tables)
        turning = x if self.width == self.d_head else x[..., : self.width]
        turned = (turning * cos).addcmul_(self._partners(turning), sin).to(x.dtype)
        return turned if self.width == self.d_head else torch.cat([turned, x[..., self.width :]], dim=-1)

    def _tables(
        self, positions: Int[Tensor, "#batch len"], dtype: torch.dtype
    ) -> tuple[Float[Tensor, "#batch 1 len width"], Float[Tensor, "#batch 1 len width"]]:
        """What each entry is multiplied by, and what its partner: cos, and -sin for the first of a pair, sin for the
        second."""
        angle = angles(positions, self._frequencies(positions), dtype)[:, None]
        magnitude = 1.0 if self.scaling is None else self.scaling.magnitude
        cos, sin = angle.cos() * magnitude, angle.sin() * magnitude
        return arrange(cos, cos, self.layout), arrange(-sin, sin, self.layout)

    def _frequencies(self, positions: Int[Tensor, "#batch len"]) -> Float[Tensor, " pairs"]:
        """The inverse frequencies for these positions."""
        if self.scaling is None or not self.scaling.by_length or positions.is_meta or not positions.numel():
            return self.inv_freq
        return self.scaling(self.inv_freq, self.base, int(positions.max()) + 1)

    def _partners(self, x: Float[Tensor, "batch heads len width"]) -> Float[Tensor, "batch heads len width"]:
        """Each entry replaced by the other of its pair."""
        if self.layout == "half":
            return x.roll(self.width // 2, dims=-1)
        return arrange(x[..., 1::2], x[..., ::2], "interleaved")

    def extra_repr(self) -> str:
        part = "" if self.width == self.d_head else f", width={self.width}"
        scaling = "" if self.scaling is None else f", scaling={self.scaling}"
        return f"d_head={self.d_head}, base={self.base}, layout={self.layout!r}{scaling}{part}"


@no_type_check
def interleaved_to_half(
    weight: Float[Tensor, "rows ..."], heads: int, width: int | None = None
) -> Float[Tensor, "rows ..."]:
    """Reorder the rows of a query or key projection (its weight or its bias) made for "interleaved" to suit "half".

    rows = heads * d_head. Attention with the converted projections and `Rotary(layout="half")` gives what the
    originals gave with `Rotary(layout="interleaved")`. `width` is the part of d_head that turns.

    >>> interleaved_to_half(torch.tensor([0.0, 1, 2, 3, 4, 5]), heads=1).tolist()
    [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]
    """
    d_head, width = _split(weight, heads, width)
    turning = torch.arange(width).view(-1, 2).T.flatten()
    return _reorder(weight, heads, torch.cat([turning, torch.arange(width, d_head)]))


@no_type_check
def half_to_interleaved(
    weight: Float[Tensor, "rows ..."], heads: int, width: int | None = None
) -> Float[Tensor, "rows ..."]:
    """The inverse of `interleaved_to_half`.

    >>> half_to_interleaved(torch.tensor([0.0, 2, 4, 1, 3, 5]), heads=1).tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    """
    d_head, width = _split(weight, heads, width)
    turning = torch.arange(width).view(2, -1).T.flatten()
    return _reorder(weight, heads, torch.cat([turning, torch.arange(width, d_head)]))


def _split(weight: Tensor, heads: int, width: int | None) -> tuple[int, int]:
    """d_head and the width that turns, or ValueError."""
    check_count("heads", heads)
    if weight.ndim not in (1, 2) or weight.shape[0] % heads:
        raise ValueError(f"weight has shape {tuple(weight.shape)}; its first axis must be {heads} heads times d_head")
    d_head = weight.shape[0] // heads
    width = d_head if width is None else width
    if width % 2 or not 0 <= width <= d_head:
        raise ValueError(f"width is {width}; it must be even and at most d_head={d_head}")
    return d_head, width


def _reorder(weight: Tensor, heads: int, order: Tensor) -> Tensor:
    return weight.unflatten(0, (heads, -1))[:, order.to(weight.device)].flatten(0, 1)
