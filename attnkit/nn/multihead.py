"""Multi-head attention: each head in a subspace of its own (Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2).

    MultiHead(Q, K, V) = Concat(head_1, ..., head_h) W^O
    head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V)

Query heads may share key and value heads: all of them one (multi-query, Shazeer 2019, arXiv:1911.02150), or groups of
them (grouped-query, Ainslie et al. 2023, arXiv:2305.13245).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attnkit.backends.common import Aux, Rows
from attnkit.masks import Mask
from attnkit.nn.cache import CrossCache, LayerCache
from attnkit.nn.cached import CachedAttention
from attnkit.nn.inputs import check_heads, check_inputs, positions_or_count, width_or
from attnkit.nn.linear import Linear
from attnkit.positions.alibi import ALiBi
from attnkit.positions.base import Position


class MultiHeadAttention(CachedAttention):
    """Project to heads, attend, project back: (batch, q_len, d_model) -> (batch, q_len, d_model).

    - `kv_heads`: key and value heads, shared by groups of query heads. heads: MHA; 1: MQA; between: GQA.
    - `d_head`, `d_value`: width of a head's query and key, and of its value: d_model / heads unless given.
    - `d_key_input`, `d_value_input`: width of what keys and values are projected from: d_model unless given.
    - `bias` of the projections in, and `out_bias` of the one out, as `bias` unless given.
    - `qk_norm`: every head's queries and keys through an RMSNorm (Henry et al. 2020, arXiv:2010.04245, with L2 norms).
    - `position`: any encoding of `attnkit.positions`. `scale`, `softcap`, `backend`: as in `attnkit.attention`.
    - `sink`: a learned logit for each head in the denominator of its softmax.
    - `dropout`: on the weights, while training.

    >>> attend = MultiHeadAttention(512, heads=8, kv_heads=2)
    >>> x, memory = torch.ones(1, 10, 512), torch.ones(1, 7, 512)
    >>> attend(x).shape, attend(x, memory).shape
    (torch.Size([1, 10, 512]), torch.Size([1, 10, 512]))
    >>> out, aux = attend(x, memory, aux=("weights",))
    >>> aux.weights.shape
    torch.Size([1, 8, 10, 7])
    """

    d_model: int
    heads: int
    kv_heads: int
    d_head: int
    d_value: int
    d_key_input: int
    d_value_input: int
    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    out: nn.Linear
    q_norm: nn.RMSNorm | None
    k_norm: nn.RMSNorm | None
    sink: nn.Parameter | None
    position: Position | None
    scale: float
    softcap: float | None
    dropout: float

    @no_type_check  # wrong arguments are refused in words
    def __init__(
        self,
        d_model: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        d_head: int | None = None,
        d_value: int | None = None,
        d_key_input: int | None = None,
        d_value_input: int | None = None,
        bias: bool = True,
        out_bias: bool | None = None,
        qk_norm: bool = False,
        position: Position | None = None,
        scale: float | None = None,
        softcap: float | None = None,
        sink: bool = False,
        dropout: float = 0.0,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.d_model, self.heads = d_model, heads
        self.kv_heads, self.d_head = check_heads(d_model, heads, kv_heads, d_head, dropout, position)
        self.d_value = width_or("d_value", d_value, self.d_head)
        self.d_key_input = width_or("d_key_input", d_key_input, d_model)
        self.d_value_input = width_or("d_value_input", d_value_input, d_model)
        self.query = Linear(d_model, heads * self.d_head, bias=bias)
        self.key = Linear(self.d_key_input, self.kv_heads * self.d_head, bias=bias)
        self.value = Linear(self.d_value_input, self.kv_heads * self.d_value, bias=bias)
        self.out = Linear(heads * self.d_value, d_model, bias=bias if out_bias is None else out_bias)
        self.q_norm = nn.RMSNorm(self.d_head, eps=1e-6) if qk_norm else None
        self.k_norm = nn.RMSNorm(self.d_head, eps=1e-6) if qk_norm else None
        self.sink = nn.Parameter(torch.zeros(heads)) if sink else None
        self.position = position
        self.scale = self.d_head**-0.5 if scale is None else scale
        self.softcap, self.dropout, self.backend = softcap, dropout, backend
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot's uniform weights, biases of zero."""
        for linear in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(linear.weight)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    @no_type_check
    def forward(
        self,
        x: Float[Tensor, "batch q_len d_model"],
        memory: Float[Tensor, "batch k_len d_key_input"] | None = None,
        *,
        value: Float[Tensor, "batch k_len d_value_input"] | None = None,
        mask: Mask | Bool[Tensor, "#batch #heads #q_len #k_len"] | None = None,
        positions: Int[Tensor, "#batch q_len"] | None = None,
        memory_positions: Int[Tensor, "#batch k_len"] | None = None,
        cache: LayerCache | CrossCache | None = None,
        aux: tuple[str | Rows, ...] = (),
    ) -> Float[Tensor, "batch q_len d_model"] | tuple[Float[Tensor, "batch q_len d_model"], Aux]:
        """Self-attention of x, or with `memory` attention of x to it. With `aux`, (out, Aux) as `attnkit.attention`.

        - `value`: what values are projected from, when not from what keys are projected from.
        - `positions`, `memory_positions`: where the tokens stand, 0, 1, 2, ... unless given; x goes on where the
          cache ends. Used by the positional encoding only.
        - `cache`: in self-attention a LayerCache: x is appended to it, and attends to all that it holds. To a memory
          a CrossCache: the memory is projected by the first call, and read by those that follow.
        - `mask`: covers (q_len, k_len), and with a LayerCache all tokens seen, (q_len, cache.length + q_len).
          Nothing is hidden without it: pass `causal(mask, q_len, cache)` for a decoder.
        """
        check_inputs(self, x, memory, value, cache)
        seen = cache.length if memory is None and cache is not None else 0
        at = positions_or_count("positions", positions, x, seen)
        memory_at = None if memory is None else positions_or_count("memory_positions", memory_positions, memory, 0)
        if self.position is not None and self.position.acts_on == "embedding":
            x = self.position.embed(x, at)
            memory = None if memory is None else self.position.embed(memory, memory_at)
        query = self._split(self.query(x), self.heads, self.q_norm)
        if memory is None:
            mask = mask if cache is None else cache.restrict(mask, x.shape[1])
            key, value, at, key_at = self.own_keys(x, value, at, cache)
        else:
            key, value = self.memory_keys(memory, value, memory_at, cache)
            key_at = memory_at
        query = query if self.position is None else self.position.rotate(query, at)
        # Do the queries and the keys stand at 0, 1, 2, ..., both counted from the same place?
        counted = positions is None and memory_positions is None and (memory is not None or key.shape[2] == x.shape[1])
        out, extra = self._attend(query, key, value, at, key_at, counted, mask, aux)
        out = self.out(out.transpose(1, 2).flatten(2))
        return (out, extra) if aux else out

    def _split(
        self, x: Float[Tensor, "batch len width"], heads: int, norm: nn.Module | None
    ) -> Float[Tensor, "batch heads len d"]:
        """What was projected, seen as heads: nothing is copied."""
        x = x.unflatten(2, (heads, -1))
        return (x if norm is None else norm(x)).transpose(1, 2)

    def project(
        self,
        source: Float[Tensor, "batch k_len d_key_input"],
        value_source: Float[Tensor, "batch k_len d_value_input"] | None,
    ) -> tuple[Float[Tensor, "batch kv_heads k_len d"], Float[Tensor, "batch kv_heads k_len d_v"]]:
        value = self.value(source if value_source is None else value_source)
        return self._split(self.key(source), self.kv_heads, self.k_norm), self._split(value, self.kv_heads, None)

    def _attend(
        self,
        query: Float[Tensor, "batch heads q_len d"],
        key: Float[Tensor, "batch kv_heads k_len d"],
        value: Float[Tensor, "batch kv_heads k_len d_v"],
        at: Int[Tensor, "#batch q_len"],
        key_at: Int[Tensor, "#batch k_len"],
        counted: bool,
        mask: Any,
        aux: tuple[str | Rows, ...],
    ) -> tuple[Float[Tensor, "batch heads q_len d_v"], Aux]:
        """Attention with this module's settings, and with what the positional encoding adds."""
        dropout = self.dropout if self.training else 0.0
        options = {"mask": mask, "scale": self.scale, "softcap": self.softcap, "sink": self.sink, "dropout": dropout}
        if self.position is None:
            return self.attend(query, key, value, aux=aux, **options)
        if counted and isinstance(self.position, ALiBi):  # by its slopes, so that no table need be made
            bias: Any = self.position.linear_bias(query, align="upper_left")
        else:
            bias = self.position.bias(query, key, at, key_at, self.scale)
        if not self.position.needs_weights:
            return self.attend(query, key, value, aux=aux, bias=bias, **options)
        wanted = aux if "weights" in aux else (*aux, "weights")
        out, extra = self.attend(query, key, value, aux=wanted, bias=bias, **options)
        assert extra.weights is not None
        # The weights come without dropout; those that meet the positions are dropped by a draw of their own.
        more = self.position.output(F.dropout(extra.weights, dropout), at, key_at)
        out = out if more is None else out + more
        return out, extra if "weights" in aux else replace(extra, weights=None)

    @classmethod
    def from_torch(cls, other: nn.MultiheadAttention) -> MultiHeadAttention:
        """The same attention as torch's module, with its weights copied; the batch comes first here.

        Raises ValueError for `add_bias_kv` and `add_zero_attn`, which have no counterpart here.
        """
        for name, used in (("add_bias_kv", other.bias_k is not None), ("add_zero_attn", other.add_zero_attn)):
            if used:
                raise ValueError(f"the nn.MultiheadAttention has {name}=True, which MultiHeadAttention does not have")
        like = other.out_proj.weight
        own = cls(
            other.embed_dim,
            other.num_heads,
            d_key_input=other.kdim,
            d_value_input=other.vdim,
            bias=other.in_proj_bias is not None,
            dropout=float(other.dropout),
        ).to(like.device, like.dtype)
        if other.in_proj_weight is not None:
            weights = other.in_proj_weight.chunk(3)
        else:
            weights = (other.q_proj_weight, other.k_proj_weight, other.v_proj_weight)
        with torch.no_grad():
            for linear, weight in zip((own.query, own.key, own.value), weights, strict=True):
                linear.weight.copy_(weight)
            own.out.weight.copy_(other.out_proj.weight)
            if other.in_proj_bias is not None:
                for linear, bias in zip((own.query, own.key, own.value), other.in_proj_bias.chunk(3), strict=True):
                    linear.bias.copy_(bias)
                own.out.bias.copy_(other.out_proj.bias)
        return own.train(other.training)

    def extra_repr(self) -> str:
        return f"{self.d_model}, heads={self.heads}, kv_heads={self.kv_heads}, d_head={self.d_head}"
