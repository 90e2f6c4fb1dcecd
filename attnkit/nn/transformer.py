"""The Transformer: an encoder whose output the decoder reads. On vectors, as torch.nn.Transformer."""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Float, Int
from torch import Tensor, nn

from attnkit.nn.cache import KVCache
from attnkit.nn.config import Config
from attnkit.nn.decoder import Decoder
from attnkit.nn.encoder import AnyMask, Encoder, Positions


class Transformer(nn.Module):
    """Encoder and decoder over embedded sequences (Vaswani et al. 2017, arXiv:1706.03762, figure 1).

    `encoder_layers` and `decoder_layers` are `config.layers` unless given; `position` and `final_norm` as in Encoder,
    for both. Nothing is hidden unless a mask says so: `target_mask=Causal()` makes the decoder one that can generate.

    >>> import torch
    >>> from attnkit.masks import Causal, Padding
    >>> from attnkit.nn import Config, Transformer
    >>> model = Transformer(Config(d_model=8, heads=2, d_hidden=32, layers=1))
    >>> source, target, ends = torch.ones(2, 7, 8), torch.ones(2, 5, 8), Padding([7, 4])
    >>> model(source, target, source_mask=ends, target_mask=Causal(), memory_mask=ends).shape
    torch.Size([2, 5, 8])
    """

    def __init__(
        self,
        config: Config,
        *,
        encoder_layers: int | None = None,
        decoder_layers: int | None = None,
        position: Positions | None = None,
        final_norm: bool | None = None,
    ) -> None:
        super().__init__()
        encoder, decoder = (
            replace(config, layers=config.layers if layers is None else layers)
            for layers in (encoder_layers, decoder_layers)
        )
        self.encoder = Encoder(encoder, position, final_norm=final_norm)
        self.decoder = Decoder(decoder, position, final_norm=final_norm)

    def forward(
        self,
        source: Float[Tensor, "batch source_len d_model"],
        target: Float[Tensor, "batch target_len d_model"],
        *,
        source_mask: AnyMask | None = None,
        target_mask: AnyMask | None = None,
        memory_mask: AnyMask | None = None,
    ) -> Float[Tensor, "batch target_len d_model"]:
        """Read the source, then the target with the memory of it.

        `source_mask`: (source_len, source_len), `target_mask`: (target_len, target_len), `memory_mask`:
        (target_len, source_len); the padding of the source belongs into the first and the last.
        """
        memory = self.encode(source, mask=source_mask)
        return self.decode(target, memory, mask=target_mask, memory_mask=memory_mask)

    def encode(
        self,
        source: Float[Tensor, "batch source_len d_model"],
        *,
        mask: AnyMask | None = None,
        positions: Int[Tensor, "#batch source_len"] | None = None,
    ) -> Float[Tensor, "batch source_len d_model"]:
        """The memory of a source."""
        return self.encoder(source, mask=mask, positions=positions)

    def decode(
        self,
        target: Float[Tensor, "batch target_len d_model"],
        memory: Float[Tensor, "batch source_len d_model"],
        *,
        mask: AnyMask | None = None,
        memory_mask: AnyMask | None = None,
        positions: Int[Tensor, "#batch target_len"] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "batch target_len d_model"]:
        """The decoder's answer at each position of the target."""
        return self.decoder(target, memory, mask=mask, memory_mask=memory_mask, positions=positions, cache=cache)

    @classmethod
    def from_torch(cls, other: nn.Transformer) -> Transformer:
        """The same model as torch's, with its weights copied; the batch comes first here."""
        from attnkit.nn.from_torch import transformer

        return transformer(other)
