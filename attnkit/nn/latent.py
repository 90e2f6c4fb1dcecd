"""Multi-head latent attention: a token is cached as one short vector, from which all heads' keys and values follow.

DeepSeek-V2 (2024, arXiv:2405.04434, eq. 9-19; the letters below are the paper's):

    c   = W^DKV h                          the latent of keys and values, d_latent numbers
    k_i = [W_i^UK c ; RoPE(W^KR h)]        the rotary part, d_rope numbers, is shared by the heads
    v_i = W_i^UV c
    q_i = [W_i^UQ c^Q ; RoPE(W_i^QR c^Q)]  c^Q = W^DQ h, or h itself
"""

from __future__ import annotations

from typing import Any, no_type_check

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attnkit.backends.common import Aux, Rows
from attnkit.backends.validate import refuse
from attnkit.masks import Mask
from attnkit.nn.cache import CrossCache, LayerCache
from attnkit.nn.cached import CachedAttention
from attnkit.nn.inputs import check_heads, check_inputs, positions_or_count, width_or
from attnkit.nn.linear import Linear
from attnkit.positions import Position, Rotary
from attnkit.positions.base import check_count


class LatentAttention(CachedAttention):
    """MLA: (batch, q_len, d_model) -> (batch, q_len, d_model), caching d_latent + d_rope numbers a token.

    It computes in one of two forms, equal but for rounding. *Expanded*: keys and values of every head are made from
    the latents, as the equations read. *Absorbed*: since q·(W^UK c) = (W^UK^T q)·c, the queries go to the latents
    instead, and W^UV follows after attending; then all heads share the cached vectors as their one key and value.
    `absorb=None` takes the form with fewer multiplications: expanded for long inputs, absorbed to decode.

    - `d_head`, `d_rope`: width of a head's query and key without and with rotation; `d_value`: d_head unless given.
    - `d_query_latent`: width of c^Q; None projects queries from x itself.
    - `position`: an encoding of queries and keys, d_rope wide: `Rotary(d_rope, layout="interleaved")` unless given.
    - `bias`: of the projections down and of the one out. Those up have none, and can therefore be absorbed.
    - `scale`: 1 / sqrt(d_head + d_rope) unless given.

    >>> attend = LatentAttention(64, heads=4, d_latent=16, d_head=16, d_rope=8)
    >>> attend(torch.ones(1, 10, 64)).shape
    torch.Size([1, 10, 64])
    """

    d_model: int
    heads: int
    d_head: int
    d_rope: int
    d_latent: int
    d_value: int
    d_key_input: int
    d_value_input: int
    query_down: nn.Linear | None
    query_norm: nn.RMSNorm | None
    query: nn.Linear
    down: nn.Linear
    latent_norm: nn.RMSNorm
    key_up: nn.Linear
    value_up: nn.Linear
    out: nn.Linear
    position: Position
    scale: float
    dropout: float
    absorb: bool | None

    @no_type_check  # wrong arguments are refused in words
    def __init__(
        self,
        d_model: int,
        heads: int,
        *,
        d_latent: int,
        d_query_latent: int | None = None,
        d_head: int,
        d_rope: int,
        d_value: int | None = None,
        bias: bool = False,
        eps: float = 1e-6,
        position: Position | None = None,
        scale: float | None = None,
        dropout: float = 0.0,
        absorb: bool | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        check_heads(d_model, heads, None, d_head, dropout, position)
        for name, number in (("d_latent", d_latent), ("d_rope", d_rope)):
            check_count(name, number)
        if position is not None and position.acts_on != "query_key":
            refuse("position", position, "an encoding that rotates queries and keys, such as Rotary(d_rope)")
        self.d_model = self.d_key_input = self.d_value_input = d_model
        self.heads, self.d_head, self.d_rope, self.d_latent = heads, d_head, d_rope, d_latent
        self.d_value = width_or("d_value", d_value, d_head)
        d_query = width_or("d_query_latent", d_query_latent, d_model)  # what queries are projected from
        self.query_down = Linear(d_model, d_query, bias=bias) if d_query_latent else None
        self.query_norm = nn.RMSNorm(d_query, eps=eps) if d_query_latent else None
        self.query = Linear(d_query, heads * (d_head + d_rope), bias=False)
        self.down = Linear(d_model, d_latent + d_rope, bias=bias)  # W^DKV and W^KR
        self.latent_norm = nn.RMSNorm(d_latent, eps=eps)
        self.key_up = Linear(d_latent, heads * d_head, bias=False)
        self.value_up = Linear(d_latent, heads * self.d_value, bias=False)
        self.out = Linear(heads * self.d_value, d_model, bias=bias)
        self.position = Rotary(d_rope, layout="interleaved") if position is None else position
        self.scale = (d_head + d_rope) ** -0.5 if scale is None else scale
        self.dropout, self.absorb, self.backend = dropout, absorb, backend

    @no_type_check
    def forward(
        self,
        x: Float[Tensor, "batch q_len d_model"],
        memory: Float[Tensor, "batch k_len d_model"] | None = None,
        *,
        mask: Mask | Bool[Tensor, "#batch #heads #q_len #k_len"] | None = None,
        positions: Int[Tensor, "#batch q_len"] | None = None,
        memory_positions: Int[Tensor, "#batch k_len"] | None = None,
        cache: LayerCache | CrossCache | None = None,
        aux: tuple[str | Rows, ...] = (),
    ) -> Float[Tensor, "batch q_len d_model"] | tuple[Float[Tensor, "batch q_len d_model"], Aux]:
        """Self-attention of x, or with `memory` attention of x to it; arguments as in `MultiHeadAttention.forward`."""
        check_inputs(self, x, memory, None, cache)
        seen = cache.length if memory is None and cache is not None else 0
        at = positions_or_count("positions", positions, x, seen)
        if memory is None:
            mask = mask if cache is None else cache.restrict(mask, x.shape[1])
            cached, _, at, _ = self.own_keys(x, None, at, cache)
        else:
            memory_at = positions_or_count("memory_positions", memory_positions, memory, 0)
            cached, _ = self.memory_keys(memory, None, memory_at, cache)
        dropout = self.dropout if self.training else 0.0
        form = self._absorbed if self._absorbs(x.shape[1], cached.shape[2]) else self._expanded
        out, extra = form(*self._queries(x, at), cached, mask=mask, scale=self.scale, dropout=dropout, aux=aux)
        out = self.out(out.transpose(1, 2).flatten(2))
        return (out, extra) if aux else out

    def project(
        self, source: Float[Tensor, "batch k_len d_model"], value_source: Tensor | None
    ) -> tuple[Float[Tensor, "batch 1 k_len d_cached"], Float[Tensor, "batch 1 k_len 0"]]:
        """Latent and rotary key of each token as one key of one head; its value is the latent, so there is none."""
        latent, rope = self.down(source).split([self.d_latent, self.d_rope], dim=-1)
        cached = torch.cat([self.latent_norm(latent), rope], dim=-1)[:, None]
        return cached, cached[..., :0]

    def rotate_key(
        self, key: Float[Tensor, "batch 1 k_len d_cached"], positions: Int[Tensor, "#batch k_len"]
    ) -> Float[Tensor, "batch 1 k_len d_cached"]:
        latent, rope = key.split([self.d_latent, self.d_rope], dim=-1)
        return torch.cat([latent, self.position.rotate(rope, positions)], dim=-1)

    def _queries(
        self, x: Float[Tensor, "batch q_len d_model"], at: Int[Tensor, "#batch q_len"]
    ) -> tuple[Float[Tensor, "batch heads q_len d_head"], Float[Tensor, "batch heads q_len d_rope"]]:
        """Each head's query in its two parts, the second one rotated."""
        if self.query_down is not None and self.query_norm is not None:
            x = self.query_norm(self.query_down(x))
        query = rearrange(self.query(x), "b l (h d) -> b h l d", h=self.heads)
        plain, rope = query.split([self.d_head, self.d_rope], dim=-1)
        return plain, self.position.rotate(rope, at)

    def _absorbs(self, q_len: int, k_len: int) -> bool:
        """Does the absorbed form need fewer multiplications (counted for one head), or was it asked for?"""
        up = self.d_latent * (self.d_head + self.d_value)
        expanded = k_len * up + q_len * k_len * (self.d_head + self.d_rope + self.d_value)
        absorbed = q_len * up + q_len * k_len * (2 * self.d_latent + self.d_rope)
        return absorbed < expanded if self.absorb is None else self.absorb

    def _expanded(
        self,
        plain: Float[Tensor, "batch heads q_len d_head"],
        rope: Float[Tensor, "batch heads q_len d_rope"],
        cached: Float[Tensor, "batch 1 k_len d_cached"],
        **options: Any,
    ) -> tuple[Float[Tensor, "batch heads q_len d_value"], Aux]:
        """Attention with the keys and values of every head (eq. 10, 11, 17, 18)."""
        latent, rope_key = cached[:, 0].split([self.d_latent, self.d_rope], dim=-1)
        key = rearrange(self.key_up(latent), "b l (h d) -> b h l d", h=self.heads)
        key = torch.cat([key, rope_key[:, None].expand(-1, self.heads, -1, -1)], dim=-1)
        value = rearrange(self.value_up(latent), "b l (h d) -> b h l d", h=self.heads)
        return self.attend(torch.cat([plain, rope], dim=-1), key, value, **options)

    def _absorbed(
        self,
        plain: Float[Tensor, "batch heads q_len d_head"],
        rope: Float[Tensor, "batch heads q_len d_rope"],
        cached: Float[Tensor, "batch 1 k_len d_cached"],
        **options: Any,
    ) -> tuple[Float[Tensor, "batch heads q_len d_value"], Aux]:
        """The same, among the latents: one key for all heads, which is their value too."""
        w_key = self.key_up.weight.view(self.heads, self.d_head, self.d_latent)
        w_value = self.value_up.weight.view(self.heads, self.d_value, self.d_latent)
        query = torch.cat([einsum(plain, w_key, "b h l d, h d c -> b h l c"), rope], dim=-1)
        # Equal widths of key and value keep PyTorch's fused kernel; the columns of the rotary part are cut off.
        out, extra = self.attend(query, cached, cached, **options)
        return einsum(out[..., : self.d_latent], w_value, "b h l c, h d c -> b h l d"), extra

    def extra_repr(self) -> str:
        return (
            f"{self.d_model}, heads={self.heads}, d_latent={self.d_latent}, d_head={self.d_head}, d_rope={self.d_rope}"
        )
