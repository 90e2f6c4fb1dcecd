"""ALiBi: the farther a key, the lower its score, at a rate that each head has for itself."""

from __future__ import annotations

from typing import ClassVar, no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnkit.masks.position import Align
from attnkit.positions.base import Place, Position, check_count, wide
from attnkit.positions.distance import check_heads, check_scores, offsets
from attnkit.positions.linear_bias import LinearBias


class ALiBi(Position):
    """scores - slope_h * |q - k|, with slopes 2^(-8 h / heads) for heads h = 1, 2, ... Nothing is learned.

    Train Short, Test Long: Attention with Linear Biases Enables Input Length Extrapolation (Press et al. 2022,
    arXiv:2108.12409, section 3). The bias is computed from the distance, so near keys have the small numbers, which
    half precision tells apart; written as slope * key position, which softmax cannot distinguish from it, the nearest
    keys have the largest ones, and tie at length 4,096. It is float32 for half precision, for the backend to round.

    - symmetric: by the distance in both directions, for encoders.
    - not symmetric: future keys, which a causal mask hides, have the bias 0.

    >>> ALiBi(heads=8)(torch.tensor([[2]]), torch.tensor([[0, 1, 2, 3]]))[0, 0].tolist()
    [[-1.0, -0.5, 0.0, -0.5]]
    """

    acts_on: ClassVar[Place] = "scores"
    slopes: Tensor
    heads: int
    symmetric: bool

    @no_type_check
    def __init__(self, heads: int, symmetric: bool = True) -> None:
        super().__init__()
        self.heads, self.symmetric = check_count("heads", heads), symmetric
        self.define()

    def constants(self) -> dict[str, Tensor]:
        return {"slopes": alibi_slopes(self.heads)}

    @no_type_check
    def forward(
        self,
        q_positions: Int[Tensor, "#batch q_len"],
        k_positions: Int[Tensor, "#batch k_len"],
        dtype: torch.dtype = torch.float32,
    ) -> Float[Tensor, "#batch heads q_len k_len"]:
        """The bias by itself."""
        offset = offsets(q_positions, k_positions)
        lowered = -offset.abs() if self.symmetric else offset.clamp(max=0)
        return lowered[:, None].to(dtype) * self.slopes.to(dtype)[:, None, None]

    @no_type_check
    def bias(
        self,
        query: Float[Tensor, "batch heads q_len d"],
        key: Float[Tensor, "batch kv_heads k_len d"],
        q_positions: Int[Tensor, "#batch q_len"],
        k_positions: Int[Tensor, "#batch k_len"],
        scale: float,
    ) -> Float[Tensor, "#batch heads q_len k_len"]:
        check_heads(query, self.heads)
        check_scores(query, key, q_positions, k_positions)
        return self(q_positions, k_positions, wide(query.dtype))

    def linear_bias(self, query: Float[Tensor, "batch heads q_len d"], align: Align) -> LinearBias:
        """The same bias told by its slopes, for queries and keys that stand at 0, 1, 2, ... as `align` says."""
        check_heads(query, self.heads)
        return LinearBias(self.slopes, self.symmetric, align)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, symmetric={self.symmetric}"


def alibi_slopes(heads: int) -> Float[Tensor, " heads"]:
    """The slopes, in float64. Between powers of two, those of the power below and every other one of the power above.

    >>> alibi_slopes(4).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625]
    >>> alibi_slopes(6).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]
    """
    power = 2 ** (heads.bit_length() - 1)
    slopes = 2.0 ** (-8 / power * torch.arange(1, power + 1, dtype=torch.float64))
    between = 2.0 ** (-4 / power * (2 * torch.arange(heads - power, dtype=torch.float64) + 1))
    return torch.cat([slopes, between])
