"""The position itself as a vector: the simplest encoding, and the one that fits no longer text."""

from __future__ import annotations

from typing import ClassVar, no_type_check

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from attnkit.positions.base import Place, Position, bounds, check_count, check_positions


class OneHot(Position):
    """x_p + e_p, with e_p the unit vector of position p, for positions below `length`. Needs d_model >= length.

    The first `length` entries of the embedding carry the position. It has no parameters: a projection that follows
    has a row for each position, so that it learns what `Learned` learns (Gehring et al. 2017, arXiv:1705.03122).

    >>> import torch
    >>> OneHot(length=3).embed(torch.zeros(1, 3, 4), torch.tensor([[0, 1, 2]]))[0].tolist()
    [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
    """

    acts_on: ClassVar[Place] = "embedding"
    length: int

    @no_type_check
    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = check_count("length", length)

    @no_type_check
    def embed(
        self, x: Float[Tensor, "batch len d_model"], positions: Int[Tensor, "#batch len"]
    ) -> Float[Tensor, "batch len d_model"]:
        if x.shape[-1] < self.length:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; one-hot positions up to length={self.length} need d_model, its last "
                f"axis, to be at least {self.length}"
            )
        check_positions(positions, *x.shape[:2])
        reach = bounds(positions)
        if reach is not None and (reach[0] < 0 or reach[1] >= self.length):
            raise ValueError(
                f"positions run from {reach[0]} to {reach[1]}; length={self.length}: there are unit vectors for 0 to "
                f"{self.length - 1}"
            )
        return x + F.one_hot(positions.long(), x.shape[-1]).to(x.dtype)

    def extra_repr(self) -> str:
        return f"length={self.length}"
