"""The encoder: self-attention and feed-forward, each added to a stream that runs through all layers."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float, Int
from torch import Tensor, nn

from attnkit.masks import Mask
from attnkit.masks.base import Table
from attnkit.nn.cache import KVCache, LayerSlot
from attnkit.nn.config import Config
from attnkit.nn.feedforward import FeedForward
from attnkit.nn.multihead import MultiHeadAttention
from attnkit.nn.norm import make_norm
from attnkit.positions.base import Position

# One encoding for all layers, or what makes one for each layer.
Positions = Position | Callable[[], Position]

# As `attention` takes it: an object of attnkit.masks, or a bool tensor that broadcasts to (batch, heads, q_len, k_len).
AnyMask = Mask | Table


def make_attention(config: Config, position: Positions | None = None) -> MultiHeadAttention:
    """The attention that a configuration asks for.

    A position that acts on the embeddings is left out: whoever embeds applies it, once.
    """
    if position is not None and not isinstance(position, Position):
        position = position()
    return MultiHeadAttention(
        config.d_model,
        config.heads,
        kv_heads=config.kv_heads,
        d_head=config.d_head,
        bias=config.bias,
        qk_norm=config.qk_norm,
        position=None if position is None or position.acts_on == "embedding" else position,
        dropout=config.dropout if config.attention_dropout is None else config.attention_dropout,
        backend=config.backend,
    )


def make_feed_forward(config: Config) -> FeedForward:
    """The feed-forward that a configuration asks for."""
    return FeedForward(
        config.d_model, config.d_hidden, activation=config.activation, bias=config.bias, dropout=config.dropout
    )


class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward; each adds to the stream (Vaswani et al. 2017, arXiv:1706.03762, §3.1).

    Post-norm normalises the sum, as the paper does: norm(x + f(x)). Pre-norm leaves the stream alone and normalises
    what f reads: x + f(norm(x)), which trains without a warm-up (Xiong et al. 2020, arXiv:2002.04745).

    With a causal mask and a cache this is the block of a decoder-only model (GPT, Llama).

    >>> import torch
    >>> from attnkit.masks import Causal
    >>> from attnkit.nn import Config, EncoderLayer
    >>> layer = EncoderLayer(Config(d_model=8, heads=2, d_hidden=32))
    >>> layer(torch.ones(2, 5, 8), mask=Causal()).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, config: Config, position: Positions | None = None) -> None:
        super().__init__()
        self.norm_first = config.norm_first
        self.attention = make_attention(config, position)
        self.feed_forward = make_feed_forward(config)
        self.norm_attention = make_norm(config)
        self.norm_feed_forward = make_norm(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Float[Tensor, "batch len d_model"],
        *,
        mask: AnyMask | None = None,
        positions: Int[Tensor, "#batch len"] | None = None,
        cache: LayerSlot | None = None,
    ) -> Float[Tensor, "batch len d_model"]:
        """`mask`: which keys each query sees, (len, len), or (len, cached + len) with a cache, as in `attention`."""
        own, _ = (None, None) if cache is None else cache

        def attend(x: Tensor) -> Tensor:
            return self.dropout(self.attention(x, mask=mask, positions=positions, cache=own))

        def feed(x: Tensor) -> Tensor:
            return self.dropout(self.feed_forward(x))

        if self.norm_first:
            x = x + attend(self.norm_attention(x))
            return x + feed(self.norm_feed_forward(x))
        x = self.norm_attention(x + attend(x))
        return self.norm_feed_forward(x + feed(x))

    @classmethod
    def from_torch(cls, other: nn.TransformerEncoderLayer) -> EncoderLayer:
        """The same layer as torch's, with its weights copied; the batch comes first here."""
        from attnkit.nn.from_torch import encoder_layer

        return encoder_layer(other)


class Encoder(nn.Module):
    """`config.layers` encoder layers. After pre-norm layers the stream is normalised once more, unless told otherwise.

    `position` is handed to every self-attention: one instance is shared by all layers (T5's table is), a callable
    without arguments makes one for each. What acts on the embeddings is not applied here.
    """

    def __init__(self, config: Config, position: Positions | None = None, *, final_norm: bool | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config, position) for _ in range(config.layers))
        self.norm = make_norm(config) if (config.norm_first if final_norm is None else final_norm) else None

    def forward(
        self,
        x: Float[Tensor, "batch len d_model"],
        *,
        mask: AnyMask | None = None,
        positions: Int[Tensor, "#batch len"] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "batch len d_model"]:
        """The stream after the last layer. The mask is one for all layers; each has its own slot of the cache."""
        for i, layer in enumerate(self.layers):
            x = layer(x, mask=mask, positions=positions, cache=None if cache is None else cache[i])
        return x if self.norm is None else self.norm(x)
