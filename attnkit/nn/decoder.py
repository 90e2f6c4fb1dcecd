"""The decoder: as the encoder, and between the two it reads a memory."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from attnkit.nn.cache import KVCache, LayerSlot
from attnkit.nn.config import Config
from attnkit.nn.encoder import AnyMask, Positions, make_attention, make_feed_forward
from attnkit.nn.norm import make_norm


class DecoderLayer(nn.Module):
    """Self-attention, attention to the memory, feed-forward; each adds to the stream (Vaswani et al. 2017, §3.1).

    Pre-norm and post-norm as in EncoderLayer. Attention to the memory has no positional encoding of its own.

    >>> import torch
    >>> from attnkit.masks import Causal
    >>> from attnkit.nn import Config, DecoderLayer
    >>> layer = DecoderLayer(Config(d_model=8, heads=2, d_hidden=32))
    >>> layer(torch.ones(2, 5, 8), torch.ones(2, 7, 8), mask=Causal()).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, config: Config, position: Positions | None = None) -> None:
        super().__init__()
        self.norm_first = config.norm_first
        self.self_attention = make_attention(config, position)
        self.cross_attention = make_attention(config)
        self.feed_forward = make_feed_forward(config)
        self.norm_self = make_norm(config)
        self.norm_cross = make_norm(config)
        self.norm_feed_forward = make_norm(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Float[Tensor, "batch len d_model"],
        memory: Float[Tensor, "batch memory_len d_model"],
        *,
        mask: AnyMask | None = None,
        memory_mask: AnyMask | None = None,
        positions: Int[Tensor, "#batch len"] | None = None,
        cache: LayerSlot | None = None,
    ) -> Float[Tensor, "batch len d_model"]:
        """`mask`: (len, len), or (len, cached + len) with a cache; `memory_mask`: (len, memory_len).

        Nothing is hidden without them: a decoder's mask is `causal(mask, len, cache)`.
        """
        own, cross = (None, None) if cache is None else cache

        def attend(x: Tensor) -> Tensor:
            return self.dropout(self.self_attention(x, mask=mask, positions=positions, cache=own))

        def read(x: Tensor) -> Tensor:
            return self.dropout(self.cross_attention(x, memory, mask=memory_mask, cache=cross))

        def feed(x: Tensor) -> Tensor:
            return self.dropout(self.feed_forward(x))

        if self.norm_first:
            x = x + attend(self.norm_self(x))
            x = x + read(self.norm_cross(x))
            return x + feed(self.norm_feed_forward(x))
        x = self.norm_self(x + attend(x))
        x = self.norm_cross(x + read(x))
        return self.norm_feed_forward(x + feed(x))

    @classmethod
    def from_torch(cls, other: nn.TransformerDecoderLayer) -> DecoderLayer:
        """The same layer as torch's, with its weights copied; the batch comes first here."""
        from attnkit.nn.from_torch import decoder_layer

        return decoder_layer(other)


class Decoder(nn.Module):
    """`config.layers` decoder layers, and after pre-norm layers one more norm; `position` as in Encoder."""

    def __init__(self, config: Config, position: Positions | None = None, *, final_norm: bool | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config, position) for _ in range(config.layers))
        self.norm = make_norm(config) if (config.norm_first if final_norm is None else final_norm) else None

    def forward(
        self,
        x: Float[Tensor, "batch len d_model"],
        memory: Float[Tensor, "batch memory_len d_model"],
        *,
        mask: AnyMask | None = None,
        memory_mask: AnyMask | None = None,
        positions: Int[Tensor, "#batch len"] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "batch len d_model"]:
        """The stream after the last layer. With `KVCache(layers, cross=True)` each layer projects the memory once."""
        for i, layer in enumerate(self.layers):
            slot = None if cache is None else cache[i]
            x = layer(x, memory, mask=mask, memory_mask=memory_mask, positions=positions, cache=slot)
        return x if self.norm is None else self.norm(x)
