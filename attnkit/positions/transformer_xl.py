"""Transformer-XL's relative encoding: sinusoids of the distance, met by the queries and by two learned vectors."""

from __future__ import annotations

from typing import ClassVar, no_type_check

import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from attnkit.positions.base import Place, Position, check_count, check_width, wide
from attnkit.positions.distance import check_heads, check_scores, offsets
from attnkit.positions.waves import angles, arrange, inverse_frequencies


class TransformerXL(Position):
    """scores + scale * ((q_i + v) · W_R R_(i-j) + u · k_j), the terms (b), (c) and (d) of the paper beside its (a).

    Transformer-XL: Attentive Language Models beyond a Fixed-Length Context (Dai et al. 2019, arXiv:1901.02860, section
    3.3 and appendix B). R_n holds the sines, then the cosines, of distance n = i - j, negative for keys in the
    future; W_R is `project`; u and v are learned, one vector a head.

    Where queries and keys stand at consecutive positions, the scores of all distances are computed once and shifted
    into place (`relative_shift`); elsewhere each score is gathered from those of the distances that occur.

    >>> xl, x, at = TransformerXL(d_model=12, heads=3, d_head=4), torch.randn(2, 3, 6, 4), torch.arange(6)[None]
    >>> xl.bias(x, x, at, at, scale=0.5).shape
    torch.Size([2, 3, 6, 6])
    """

    acts_on: ClassVar[Place] = "scores"
    inv_freq: Tensor
    d_model: int
    heads: int
    d_head: int
    project: nn.Linear
    u: nn.Parameter
    v: nn.Parameter

    @no_type_check
    def __init__(self, d_model: int, heads: int, d_head: int) -> None:
        super().__init__()
        self.d_model, self.heads = check_count("d_model", d_model), check_count("heads", heads)
        self.d_head = check_count("d_head", d_head)
        if d_model % 2:
            raise ValueError(f"d_model is {d_model}; it must be even: a sine and a cosine for each wavelength")
        self.project = nn.Linear(d_model, heads * d_head, bias=False)
        self.u = nn.Parameter(torch.empty(heads, d_head))
        self.v = nn.Parameter(torch.empty(heads, d_head))
        for parameter in (self.project.weight, self.u, self.v):
            nn.init.normal_(parameter, std=0.02)
        self.define()

    def constants(self) -> dict[str, Tensor]:
        return {"inv_freq": inverse_frequencies(self.d_model, 10_000.0)}

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
        check_heads(query, self.heads)
        if not key.shape[1] or self.heads % key.shape[1]:
            raise ValueError(f"key has shape {tuple(key.shape)}; its {key.shape[1]} heads must divide {self.heads}")
        check_scores(query, key, q_positions, k_positions)
        asking = query + self.v.to(query.dtype)[:, None]
        way = self._by_shift if consecutive(q_positions) and consecutive(k_positions) else self._by_gather
        return scale * (way(asking, q_positions, k_positions) + self._content(key))

    def _content(self, key: Float[Tensor, "batch kv_heads k_len d_head"]) -> Float[Tensor, "batch heads 1 k_len"]:
        """u · k_j: how much each head cares for a key, wherever it stands. Query heads share keys in groups."""
        u = rearrange(self.u.to(key.dtype), "(kv group) d -> kv group d", kv=key.shape[1])
        return rearrange(einsum(u, key, "kv group d, b kv k d -> b kv group k"), "b kv group k -> b (kv group) 1 k")

    def _distances(
        self, asking: Float[Tensor, "batch heads q_len d_head"], distances: Int[Tensor, " n"]
    ) -> Float[Tensor, "batch heads q_len n"]:
        """What each query has to say to each distance: (q_i + v) · W_R R_n."""
        angle = angles(distances, self.inv_freq, wide(asking.dtype))
        waves = arrange(angle.sin(), angle.cos(), "half").to(self.project.weight.dtype)
        vectors = rearrange(self.project(waves), "n (h d) -> h n d", h=self.heads).to(asking.dtype)
        return einsum(asking, vectors, "b h q d, h n d -> b h q n")

    def _by_shift(
        self,
        asking: Float[Tensor, "batch heads q_len d_head"],
        q_positions: Int[Tensor, "1 q_len"],
        k_positions: Int[Tensor, "1 k_len"],
    ) -> Float[Tensor, "batch heads q_len k_len"]:
        """For consecutive positions: from the greatest distance to the least, each query's row shifted into place."""
        q_len, k_len = q_positions.shape[1], k_positions.shape[1]
        count = torch.arange(max(q_len + k_len - 1, 0), device=q_positions.device)
        greatest = q_positions[0, -1:] - k_positions[0, :1]
        return relative_shift(self._distances(asking, greatest - count), k_len)

    def _by_gather(
        self,
        asking: Float[Tensor, "batch heads q_len d_head"],
        q_positions: Int[Tensor, "#batch q_len"],
        k_positions: Int[Tensor, "#batch k_len"],
    ) -> Float[Tensor, "batch heads q_len k_len"]:
        """For any positions: the distances that occur, and for each score the place of its distance among them."""
        distances, places = torch.unique(-offsets(q_positions, k_positions), return_inverse=True)
        places = places[:, None].expand(*asking.shape[:2], *places.shape[1:])
        return self._distances(asking, distances).gather(-1, places)

    def extra_repr(self) -> str:
        return f"d_model={self.d_model}, heads={self.heads}, d_head={self.d_head}"


@no_type_check
def relative_shift(
    scores: Float[Tensor, "batch heads q_len n"], k_len: int
) -> Float[Tensor, "batch heads q_len k_len"]:
    """Row i moved left by q_len - 1 - i, of which the first k_len columns stay; without an index (appendix B).

    A column is put in front and the table is read as if its rows were q_len wide: without the first of these, each row
    begins one entry earlier than the row below. n is at least q_len + k_len - 1.

    >>> relative_shift(torch.tensor([[[[2, 1, 0, -1], [2, 1, 0, -1]]]]), k_len=3).tolist()
    [[[[1, 0, -1], [2, 1, 0]]]]
    """
    *outer, q_len, n = scores.shape
    padded = torch.cat([scores.new_zeros(*outer, q_len, 1), scores], dim=-1)
    return padded.view(*outer, n + 1, q_len)[..., 1:, :].reshape(*outer, q_len, n)[..., :k_len]


def consecutive(positions: Int[Tensor, "#batch len"]) -> bool:
    """Are these p, p + 1, p + 2, ..., the same for every sequence? Taken for granted where there are no values."""
    if positions.is_meta:
        return True
    if torch.compiler.is_compiling() or positions.shape[0] != 1 or not positions.numel():
        return False
    return bool((positions.diff(dim=-1) == 1).all())
