"""The layers of a Transformer: attention with heads and caches, feed-forward, encoder, decoder.

>>> from attnkit.nn import KVCache, MultiHeadAttention
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnkit._lazy import on_first_use

# At once, not on first use: these two share a name with their module, which would else stand in their place.
from attnkit.nn.causal import causal
from attnkit.nn.recording import recording

if TYPE_CHECKING:
    from attnkit.nn.cache import (
        CrossCache,
        DynamicCache,
        KVCache,
        LayerCache,
        LayerSlot,
        SlidingCache,
        StaticCache,
    )
    from attnkit.nn.config import Config
    from attnkit.nn.decoder import Decoder, DecoderLayer
    from attnkit.nn.embedding import Embedding
    from attnkit.nn.encoder import Encoder, EncoderLayer
    from attnkit.nn.feedforward import FeedForward
    from attnkit.nn.latent import LatentAttention
    from attnkit.nn.linear import Linear
    from attnkit.nn.multihead import MultiHeadAttention
    from attnkit.nn.norm import make_norm
    from attnkit.nn.transformer import Transformer

__all__ = [
    "Config",
    "CrossCache",
    "Decoder",
    "DecoderLayer",
    "DynamicCache",
    "Embedding",
    "Encoder",
    "EncoderLayer",
    "FeedForward",
    "KVCache",
    "LatentAttention",
    "LayerCache",
    "LayerSlot",
    "Linear",
    "MultiHeadAttention",
    "SlidingCache",
    "StaticCache",
    "Transformer",
    "causal",
    "make_norm",
    "recording",
]

# Where each other name lives. Loaded on first use.
_HOMES = {
    "Config": "config",
    "CrossCache": "cache",
    "Decoder": "decoder",
    "DecoderLayer": "decoder",
    "DynamicCache": "cache",
    "Embedding": "embedding",
    "Encoder": "encoder",
    "EncoderLayer": "encoder",
    "FeedForward": "feedforward",
    "KVCache": "cache",
    "LatentAttention": "latent",
    "LayerCache": "cache",
    "LayerSlot": "cache",
    "Linear": "linear",
    "MultiHeadAttention": "multihead",
    "SlidingCache": "cache",
    "StaticCache": "cache",
    "Transformer": "transformer",
    "make_norm": "norm",
}

__getattr__, __dir__ = on_first_use(__name__, _HOMES)
