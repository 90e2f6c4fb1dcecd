"""The causal mask of a stack of layers, composed once for all of them."""

from __future__ import annotations

from typing import Protocol, no_type_check

from jaxtyping import Bool
from torch import Tensor

from attnkit.masks import Causal, Dense, Mask


class _Counts(Protocol):
    """Whatever knows how many tokens were seen: a KVCache, a LayerSlot, a LayerCache."""

    @property
    def length(self) -> int: ...


@no_type_check
def causal(
    mask: Mask | Bool[Tensor, "#batch #heads #q_len #k_len"] | None, q_len: int, cache: _Counts | None = None
) -> Mask | None:
    """`mask`, and no token sees a later one. Ask before the forward pass appends to the cache.

    The queries are the last of all tokens. A single one may see every token there is, itself the last, so for a step
    of decoding there is nothing to hide and no table to build.

    >>> causal(None, 5), causal(None, 1)
    (Causal(), None)
    """
    mask = Dense(mask) if isinstance(mask, Tensor) else mask
    if q_len == 1:
        return mask
    rule = Causal("lower_right") if cache is not None and cache.length else Causal()
    return rule if mask is None else rule & mask
