"""Shaw's relative encoding: a learned vector for each distance, beside the key and beside the value."""

from __future__ import annotations

from typing import ClassVar, no_type_check

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor, nn

from attnkit.positions.base import Place, Position, check_count, check_width
from attnkit.positions.distance import check_scores, offsets


class Shaw(Position):
    """scores + scale * q_i · a^K_ij, and with `values` also output_i + sum_j weight_ij a^V_ij.

    Self-Attention with Relative Position Representations (Shaw et al. 2018, arXiv:1803.02155, eq. 3 and 4). a_ij is row
    clip(j - i, -max_distance, max_distance) + max_distance of a table that all heads share, `keys.weight`:
    (2 max_distance + 1, d_head) and `values.weight`: (2 max_distance + 1, d_value).

    Each query meets the whole table once, and the answers are picked by distance; so no tensor with the axes
    (q_len, k_len, d_head) is made (the paper's section 3.3 has the same aim).

    >>> shaw, x, at = Shaw(d_head=8, max_distance=4), torch.randn(2, 3, 6, 8), torch.arange(6)[None]
    >>> shaw.bias(x, x, at, at, scale=8**-0.5).shape
    torch.Size([2, 3, 6, 6])
    """

    acts_on: ClassVar[Place] = "scores"
    d_head: int
    max_distance: int
    values: nn.Embedding | None

    @no_type_check
    def __init__(self, d_head: int, max_distance: int, values: bool = False, d_value: int | None = None) -> None:
        super().__init__()
        self.d_head, self.max_distance = check_count("d_head", d_head), check_count("max_distance", max_distance)
        if d_value is not None and not values:
            raise ValueError(f"d_value is {d_value}, which is the width on the value side; it needs values=True")
        d_value = d_head if d_value is None else check_count("d_value", d_value)
        self.needs_weights = values
        self.keys = nn.Embedding(2 * max_distance + 1, d_head)
        self.values = nn.Embedding(2 * max_distance + 1, d_value) if values else None
        for table in (self.keys, self.values) if values else (self.keys,):
            nn.init.xavier_uniform_(table.weight)

    @no_type_check
    def bias(
        self,
        query: Float[Tensor, "batch heads q_len d_head"],
        key: Float[Tensor, "batch kv_heads k_len d_head"],
        q_positions: Int[Tensor, "#batch q_len"],
        k_positions: Int[Tensor, "#batch k_len"],
        scale: float,
    ) -> Float[Tensor, "batch heads q_len k_len"]:
        check_width("d_head", self.d_head, query, "query")
        check_scores(query, key, q_positions, k_positions)
        answers = einsum(query * scale, self.keys.weight.to(query.dtype), "b h q d, row d -> b h q row")
        return answers.gather(-1, self._rows(q_positions, k_positions, query.shape[:2]))

    @no_type_check
    def output(
        self,
        weights: Float[Tensor, "batch heads q_len k_len"],
        q_positions: Int[Tensor, "#batch q_len"],
        k_positions: Int[Tensor, "#batch k_len"],
    ) -> Float[Tensor, "batch heads q_len d_value"] | None:
        if self.values is None:
            return None
        check_scores(weights, weights.mT, q_positions, k_positions)
        rows = self._rows(q_positions, k_positions, weights.shape[:2])
        shares = weights.new_zeros(*weights.shape[:3], 2 * self.max_distance + 1).scatter_add(-1, rows, weights)
        return einsum(shares, self.values.weight.to(weights.dtype), "b h q row, row d -> b h q d")

    def _rows(
        self, q_positions: Int[Tensor, "#batch q_len"], k_positions: Int[Tensor, "#batch k_len"], outer: torch.Size
    ) -> Int[Tensor, "batch heads q_len k_len"]:
        """The row of the tables for each query and key."""
        offset = offsets(q_positions, k_positions).clamp(-self.max_distance, self.max_distance)
        rows = (offset + self.max_distance).long()[:, None]
        return rows.expand(*outer, *rows.shape[2:])

    def extra_repr(self) -> str:
        return f"d_head={self.d_head}, max_distance={self.max_distance}"
