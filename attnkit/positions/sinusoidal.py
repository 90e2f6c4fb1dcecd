"""Fixed sines and cosines of many wavelengths, added to the embedding."""

from __future__ import annotations

from typing import ClassVar, no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnkit.positions.base import Place, Position, check_count, check_positions, check_width, wide
from attnkit.positions.waves import Layout, Recall, angles, arrange, check_layout, inverse_frequencies


class Sinusoidal(Position):
    """x_p + PE(p), with PE(p, 2i) = sin(p / base^(2i / d_model)) and PE(p, 2i+1) the cosine of the same angle.

    Attention Is All You Need (Vaswani et al. 2017, arXiv:1706.03762, section 3.5). For any position, negative too.

    - layout "interleaved": sin, cos, sin, cos, as the paper writes it.
    - layout "half": all sines, then all cosines, as in Tensor2Tensor and Transformer-XL.

    >>> x = Sinusoidal(4).embed(torch.zeros(1, 2, 4), torch.arange(2)[None])
    >>> [[round(value, 3) for value in row] for row in x[0].tolist()]
    [[0.0, 1.0, 0.0, 1.0], [0.841, 0.54, 0.01, 1.0]]
    """

    acts_on: ClassVar[Place] = "embedding"
    inv_freq: Tensor
    d_model: int
    base: float
    layout: Layout
    _recall: Recall

    @no_type_check
    def __init__(self, d_model: int, base: float = 10_000.0, layout: Layout = "interleaved") -> None:
        super().__init__()
        self.d_model, self.base, self.layout = check_count("d_model", d_model), base, layout
        if d_model % 2:
            raise ValueError(f"d_model is {d_model}; it must be even: a sine and a cosine for each wavelength")
        if not base > 0:
            raise ValueError(f"base is {base}; it must be above 0")
        check_layout(layout)
        self._recall = Recall()
        self.define()

    def constants(self) -> dict[str, Tensor]:
        return {"inv_freq": inverse_frequencies(self.d_model, self.base)}

    @no_type_check
    def embed(
        self, x: Float[Tensor, "batch len d_model"], positions: Int[Tensor, "#batch len"]
    ) -> Float[Tensor, "batch len d_model"]:
        check_width("d_model", self.d_model, x)
        check_positions(positions, *x.shape[:2])
        (table,) = self._recall(positions, wide(x.dtype), self._table)
        return x + table.to(x.dtype)

    def _table(
        self, positions: Int[Tensor, "#batch len"], dtype: torch.dtype
    ) -> tuple[Float[Tensor, "#batch len d_model"]]:
        angle = angles(positions, self.inv_freq, dtype)
        return (arrange(angle.sin(), angle.cos(), self.layout),)

    def extra_repr(self) -> str:
        return f"d_model={self.d_model}, base={self.base}, layout={self.layout!r}"
