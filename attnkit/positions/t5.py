"""T5's relative bias: one learned number for each head and bucket of distances, added to the scores."""

from __future__ import annotations

import math
from typing import ClassVar, no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attnkit.positions.base import Place, Position, check_count
from attnkit.positions.distance import check_heads, check_scores, offsets


class T5(Position):
    """scores + table[bucket(k - q), head], with the table `table.weight`: (buckets, heads).

    Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer (Raffel et al. 2020,
    arXiv:1910.10683, section 2.1); the buckets are those of the published code. T5 shares one table among the layers
    of a stack and does not scale its scores (`scale=1.0`); this bias is added as it is, whatever the scale.

    - bidirectional: half of the buckets for keys in the past, half for those in the future (T5's encoder).
    - not bidirectional: all buckets for the past; future keys, which a causal mask hides, count as distance 0.

    >>> T5(heads=2)(torch.arange(4)[None], torch.arange(4)[None]).shape
    torch.Size([1, 2, 4, 4])
    """

    acts_on: ClassVar[Place] = "scores"
    heads: int
    buckets: int
    max_distance: int
    bidirectional: bool

    @no_type_check
    def __init__(self, heads: int, buckets: int = 32, max_distance: int = 128, bidirectional: bool = True) -> None:
        super().__init__()
        self.heads = check_count("heads", heads)
        self.buckets = check_count("buckets", buckets, least=4 if bidirectional else 2)
        if buckets % (4 if bidirectional else 2):
            raise ValueError(
                f"buckets is {buckets}; it must be a multiple of {4 if bidirectional else 2}: "
                + ("half for each direction, and " if bidirectional else "")
                + "half for exact distances, half for ranges of them"
            )
        exact = buckets // (4 if bidirectional else 2)
        self.max_distance = check_count("max_distance", max_distance, least=exact + 1)
        self.bidirectional = bidirectional
        self.table = nn.Embedding(buckets, heads)
        nn.init.normal_(self.table.weight, std=0.02)

    @no_type_check
    def forward(
        self, q_positions: Int[Tensor, "#batch q_len"], k_positions: Int[Tensor, "#batch k_len"]
    ) -> Float[Tensor, "#batch heads q_len k_len"]:
        """The bias by itself."""
        far = self.max_distance  # beyond it there is one bucket, so these offsets are all that can differ
        near = torch.arange(-far, far + 1, device=q_positions.device)
        bucket = t5_bucket(near, self.buckets, far, bidirectional=self.bidirectional)
        by_offset = self.table(bucket).T  # (heads, 2 far + 1)
        place = offsets(q_positions, k_positions).clamp(-far, far) + far
        return by_offset.index_select(1, place.flatten()).unflatten(1, place.shape).movedim(0, 1)

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
        return self(q_positions, k_positions)

    def extra_repr(self) -> str:
        return (
            f"heads={self.heads}, buckets={self.buckets}, max_distance={self.max_distance}, "
            f"bidirectional={self.bidirectional}"
        )


def t5_bucket(
    offset: Int[Tensor, ...], buckets: int = 32, max_distance: int = 128, *, bidirectional: bool = True
) -> Int[Tensor, ...]:
    """The bucket of each offset (key position minus query position).

    Distances below half of a direction's buckets have one each; above it the buckets grow by a constant ratio up to
    `max_distance`, and the last one takes all that is farther. The logarithm is rounded as in the published code:
    float32, because a distance at the edge of two buckets must fall where it fell in training.

    >>> t5_bucket(torch.tensor([0, -1, -7, -8, -20, -1000, 1, 20])).tolist()
    [0, 1, 7, 8, 10, 15, 17, 26]
    """
    first = torch.zeros_like(offset)
    if bidirectional:
        buckets //= 2
        first = (offset > 0).to(offset.dtype) * buckets  # the future has the second half
        distance = offset.abs()
    else:
        distance = (-offset).clamp(min=0)
    exact = buckets // 2
    ratio = torch.log(distance.clamp(min=exact).float() / exact) / math.log(max_distance / exact)
    ranged = (exact + (ratio * (buckets - exact)).to(offset.dtype)).clamp(max=buckets - 1)
    return first + torch.where(distance < exact, distance, ranged)
