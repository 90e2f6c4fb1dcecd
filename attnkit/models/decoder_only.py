"""What generation asks of a language model that is one stack of layers under a causal mask: GPT and Llama."""

from __future__ import annotations

from typing import Any

from attnkit.models.pretrained import Pretrained
from attnkit.nn import KVCache


class DecoderOnly(Pretrained):
    """A model that is called as `model(ids, mask=..., positions=..., cache=..., last=...)` and gives logits.

    `context` is the longest sequence, None when there is no limit.
    """

    config: Any
    context: int | None = None

    @property
    def vocab(self) -> int:
        """How many tokens there are."""
        return self.config.vocab

    def new_cache(self, kind: str = "dynamic", **options) -> KVCache:
        """An empty cache for this model; `attnkit.nn.KVCache` has the kinds and their options."""
        return KVCache(self.config.layers, kind=kind, **options)
