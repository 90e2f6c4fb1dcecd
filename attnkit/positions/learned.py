"""A learned vector for each position, added to the embedding."""

from __future__ import annotations

from typing import ClassVar, no_type_check

from jaxtyping import Float, Int
from torch import Tensor, nn

from attnkit.positions.base import Place, Position, bounds, check_count, check_positions, check_width


class Learned(Position):
    """x_p + W[p + offset] with a learned table W: (length + offset, d_model), `table.weight`.

    Convolutional Sequence to Sequence Learning (Gehring et al. 2017, arXiv:1705.03122, section 3.1); so in BERT and
    GPT-2. Models that keep the first rows for something else have an `offset`: 2 in OPT, padding + 1 in RoBERTa.
    A position beyond the table, or before it, is a ValueError: nothing was learned there.

    >>> import torch
    >>> Learned(length=16, d_model=8).embed(torch.zeros(2, 5, 8), torch.arange(5)[None]).shape
    torch.Size([2, 5, 8])
    """

    acts_on: ClassVar[Place] = "embedding"
    length: int
    d_model: int
    offset: int

    @no_type_check
    def __init__(self, length: int, d_model: int, offset: int = 0) -> None:
        super().__init__()
        self.length = check_count("length", length)
        self.d_model = check_count("d_model", d_model)
        self.offset = check_count("offset", offset, least=0)
        self.table = nn.Embedding(length + offset, d_model)
        nn.init.normal_(self.table.weight, std=0.02)

    @no_type_check
    def embed(
        self, x: Float[Tensor, "batch len d_model"], positions: Int[Tensor, "#batch len"]
    ) -> Float[Tensor, "batch len d_model"]:
        check_width("d_model", self.d_model, x)
        check_positions(positions, *x.shape[:2])
        reach = bounds(positions)
        if reach is not None and (reach[0] < 0 or reach[1] >= self.length):
            raise ValueError(
                f"positions run from {reach[0]} to {reach[1]}; length={self.length}: "
                f"the learned table holds 0 to {self.length - 1}"
            )
        return x + self.table(positions + self.offset if self.offset else positions).to(x.dtype)

    def extra_repr(self) -> str:
        return f"length={self.length}, d_model={self.d_model}" + (f", offset={self.offset}" if self.offset else "")
