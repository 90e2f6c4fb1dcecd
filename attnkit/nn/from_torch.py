"""torch.nn's layers as ours, weights copied: for who wants to compare the two, or to read a trained one here.

The ways in are `MultiHeadAttention.from_torch`, `EncoderLayer.from_torch`, `DecoderLayer.from_torch` and
`Transformer.from_torch`. The copies take the batch first, whatever `batch_first` said.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch.nn.functional as F
from torch import nn

from attnkit.nn.config import Config
from attnkit.nn.decoder import DecoderLayer
from attnkit.nn.encoder import EncoderLayer
from attnkit.nn.multihead import MultiHeadAttention
from attnkit.nn.transformer import Transformer

Layer = TypeVar("Layer", bound=nn.Module)

# Our name of a part, and torch's.
ENCODER_PARTS = {
    "attention": "self_attn",
    "feed_forward.up": "linear1",
    "feed_forward.down": "linear2",
    "norm_attention": "norm1",
    "norm_feed_forward": "norm2",
}
DECODER_PARTS = {
    "self_attention": "self_attn",
    "cross_attention": "multihead_attn",
    "feed_forward.up": "linear1",
    "feed_forward.down": "linear2",
    "norm_self": "norm1",
    "norm_cross": "norm2",
    "norm_feed_forward": "norm3",
}


def encoder_layer(other: nn.TransformerEncoderLayer) -> EncoderLayer:
    """The same layer, with its weights copied."""
    return _filled(EncoderLayer(_config(other)), other, ENCODER_PARTS)


def decoder_layer(other: nn.TransformerDecoderLayer) -> DecoderLayer:
    """The same layer, with its weights copied."""
    return _filled(DecoderLayer(_config(other)), other, DECODER_PARTS)


def transformer(other: nn.Transformer) -> Transformer:
    """The same model, with its weights copied. It has a last norm after both stacks, also after post-norm layers."""
    if not isinstance(other.encoder, nn.TransformerEncoder) or not isinstance(other.decoder, nn.TransformerDecoder):
        raise ValueError("the nn.Transformer has a custom encoder or decoder, of which nothing is known here")
    config = _config(other.encoder.layers[0])
    own = Transformer(
        config, encoder_layers=other.encoder.num_layers, decoder_layers=other.decoder.num_layers, final_norm=True
    ).to(next(other.parameters()))
    stacks: list[tuple[Any, Any, dict[str, str]]] = [
        (own.encoder, other.encoder, ENCODER_PARTS),
        (own.decoder, other.decoder, DECODER_PARTS),
    ]
    for ours, theirs, parts in stacks:
        for layer, original in zip(ours.layers, theirs.layers, strict=True):
            _filled(layer, original, parts)
        ours.norm.load_state_dict(theirs.norm.state_dict())
    return own.train(other.training)


def _config(layer: Any) -> Config:
    """The settings of a torch layer. ValueError for an activation that has no name here."""
    return Config(
        d_model=layer.linear1.in_features,
        heads=layer.self_attn.num_heads,
        d_hidden=layer.linear1.out_features,
        activation=_activation(layer.activation),
        eps=layer.norm1.eps,
        norm_first=layer.norm_first,
        bias=layer.linear1.bias is not None,
        dropout=layer.dropout.p,
        attention_dropout=layer.self_attn.dropout,
    )


def _activation(function: Any) -> Any:
    """The name of an activation that torch keeps as a function or as a module."""
    if function is F.relu or isinstance(function, nn.ReLU):
        return "relu"
    if function is F.silu or isinstance(function, nn.SiLU):
        return "silu"
    if function is F.gelu:
        return "gelu"
    if isinstance(function, nn.GELU):
        return "gelu" if function.approximate == "none" else "gelu_tanh"
    raise ValueError(f"activation is {function!r}; of torch's, ReLU, GELU and SiLU have a counterpart here")


def _filled(own: Layer, other: nn.Module, parts: dict[str, str]) -> Layer:
    """Our layer with the weights of torch's, part by part, in its dtype and mode."""
    own.to(next(other.parameters()))
    for ours, theirs in parts.items():
        source = other.get_submodule(theirs)
        if isinstance(source, nn.MultiheadAttention):
            source = MultiHeadAttention.from_torch(source)
        own.get_submodule(ours).load_state_dict(source.state_dict())
    return own.train(other.training)
