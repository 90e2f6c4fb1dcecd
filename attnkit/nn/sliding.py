"""The cache that forgets: the first few tokens and the latest ones stay (Xiao et al. 2023, arXiv:2309.17453)."""

from __future__ import annotations

from typing import no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnkit.masks import Dense, Mask, Prefix, Sizes, Window
from attnkit.masks.base import Cover, Table
from attnkit.nn.cache_kinds import Held, LayerCache
from attnkit.positions.base import check_count


class SlidingCache(LayerCache):
    """Keeps the first `sinks` tokens and the last `window`: a query sees the sinks, `window - 1` before it, and itself.

    Attention equals that over all tokens with the mask `Window(window - 1, 0) | Prefix(sinks)`, in whatever pieces
    the tokens come: of a long piece, each query is shown what it would have seen had the tokens come one by one.

    With `reposition=True` positions count within the cache, as StreamingLLM does (section 3.2): keys are cached before
    their rotation, and the keys of each call stand at 0, 1, 2, ... wherever they stood in the text, so that no distance
    outgrows what the model was trained for, however long the stream. Then the distance to a sink depends on what was
    in the cache, so on the pieces in which the tokens came.

    `length` counts the tokens seen, and a mask covers them all; what is forgotten is left out of it.

    >>> cache = SlidingCache(window=3, sinks=1)
    >>> for t in range(9):
    ...     token = torch.ones(1, 1, 1, 4)
    ...     keys, values, positions = cache.append(token, token, torch.tensor([[t]]))
    >>> positions
    tensor([[0, 6, 7, 8]])
    """

    window: int
    sinks: int

    @no_type_check
    def __init__(self, window: int, sinks: int = 0, reposition: bool = False) -> None:
        super().__init__()
        self.window, self.sinks = check_count("window", window), check_count("sinks", sinks, least=0)
        self.rotated = not reposition

    @property
    def held(self) -> int:
        return min(self.length, self.sinks + self.window)

    def append(
        self,
        key: Float[Tensor, "batch kv_heads new d"],
        value: Float[Tensor, "batch kv_heads new d_v"],
        positions: Int[Tensor, "#batch new"],
    ) -> Held:
        new = self._admit(key, value, positions)
        old = [self._trim(x, self.window - 1) for x in self._held]  # the first of the new tokens sees one less
        keys, values, where = [torch.cat(pair, dim=2) for pair in zip(old, new, strict=True)] if old else new
        self._held = [self._trim(x, self.window) for x in (keys, values, where)]
        self.length += key.shape[2]
        if self.rotated:
            return keys, values, where[:, 0, :, 0]
        return keys, values, torch.arange(keys.shape[2], device=keys.device)[None]

    def _trim(self, x: Float[Tensor, "b h n d"] | Int[Tensor, "b h n d"], last: int) -> Tensor:
        """The sinks and the `last` tokens; a copy, so that the rest of a long prompt is let go."""
        n = x.shape[2]
        return x if n <= self.sinks + last else torch.cat([x[:, :, : self.sinks], x[:, :, n - last :]], dim=2)

    def restrict(self, mask: Mask | Tensor | None, q_len: int) -> Mask | Tensor | None:
        rule = Dense(mask) if isinstance(mask, Tensor) else mask
        if q_len > 1 and self.length + q_len > self.sinks + self.window:
            near = Window(self.window - 1, None, align="lower_right") | Prefix(self.sinks)
            rule = near if rule is None else rule & near
        gone = self.length - (self.sinks + self.window - 1)
        return rule if rule is None or gone <= 0 else Remaining(rule, self.sinks, gone)

    def crop(self, length: int) -> None:
        if self.held < self.length and length != self.length:
            raise ValueError(
                f"length is {length}; this cache of {self.length} tokens cannot go back: it has forgotten the tokens "
                f"before the last {self.window}"
            )
        super().crop(length)
        self._held = [x[:, :, :length] for x in self._held]


class Remaining(Mask):
    """A mask of which `gone` columns, from column `first` on, are left out.

    >>> from attnkit.masks import Causal
    >>> print(Causal("lower_right").draw(2, 5))
    # # # # .
    # # # # #
    >>> print(Remaining(Causal("lower_right"), first=1, gone=2).draw(2, 3))
    # # .
    # # #
    """

    def __init__(self, inner: Mask, first: int, gone: int) -> None:
        self.inner, self.first, self.gone = inner, first, gone

    def _whole(self, sizes: Sizes) -> Sizes:
        """The scores with the columns that are left out."""
        return sizes._replace(k_len=sizes.k_len + self.gone)

    def check(self, sizes: Sizes) -> None:
        self.inner.check(self._whole(sizes))

    def rule(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor, sizes: Sizes) -> Table:
        return self.inner.rule(b, h, q, k + self.gone * (k >= self.first), self._whole(sizes))

    def cover(self, rows: range, cols: range, sizes: Sizes) -> Cover:
        if cols.start < self.first < cols.stop:
            return "partial"
        shift = self.gone if cols.start >= self.first else 0
        return self.inner.cover(rows, range(cols.start + shift, cols.stop + shift), self._whole(sizes))

    def __repr__(self) -> str:
        return f"Remaining({self.inner!r}, first={self.first}, gone={self.gone})"
