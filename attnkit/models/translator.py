"""The translator: reads a sentence in one vocabulary, writes it in another (Vaswani et al. 2017, arXiv:1706.03762)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attnkit.masks import Padding
from attnkit.models.conditioned import Conditioned
from attnkit.models.pretrained import Pretrained
from attnkit.nn import Config, Embedding, KVCache, Transformer, causal
from attnkit.nn.encoder import AnyMask
from attnkit.positions import Position, Sinusoidal

Lengths = Sequence[int] | Int[Tensor, " batch"]


@dataclass(frozen=True, kw_only=True)
class TranslatorConfig(Config):
    """`shared`: source and target have one vocabulary and one table. `layers` of the encoder, and of the decoder."""

    source_vocab: int
    target_vocab: int
    shared: bool = False
    pad: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("source_vocab", "target_vocab"):
            self.check_count(name)
        if self.shared and self.source_vocab != self.target_vocab:
            self.refuse("target_vocab", f"be source_vocab = {self.source_vocab} when the table is shared")


class Translator(Pretrained):
    """source -> embedding + position -> encoder -> memory; target + memory -> decoder -> tied head -> logits.

    >>> config = TranslatorConfig(source_vocab=40, target_vocab=50, d_model=16, heads=2, layers=2, d_hidden=64)
    >>> model = Translator(config)
    >>> source, target = torch.tensor([[5, 3, 8], [7, 2, 0]]), torch.tensor([[1, 9], [1, 4]])
    >>> model(source, target, source_lengths=[3, 2]).shape
    torch.Size([2, 2, 50])
    """

    config: TranslatorConfig
    config_class = TranslatorConfig

    def __init__(self, config: TranslatorConfig, position: Position | None = None) -> None:
        super().__init__()
        self.config = config
        self.position = Sinusoidal(config.d_model) if position is None else position
        self.unsaid = None if isinstance(self.position, Sinusoidal) else f"position is {type(position).__name__}"
        sizes = (config.source_vocab,) if config.shared else (config.source_vocab, config.target_vocab)
        tables = [Embedding(size, config.d_model, scale=True, pad=config.pad) for size in sizes]
        self.source_embedding, self.target_embedding = tables[0], tables[-1]
        self.dropout = nn.Dropout(config.dropout)
        self.transformer = Transformer(config, position=self.position)

    def forward(
        self,
        source: Int[Tensor, "batch source_len"],
        target: Int[Tensor, "batch target_len"],
        *,
        source_lengths: Lengths | None = None,
        target_lengths: Lengths | None = None,
    ) -> Float[Tensor, "batch target_len vocab"]:
        """The logits of the token after each of the target's. Lengths count real tokens; padding follows them."""
        mask = None if target_lengths is None else Padding(target_lengths)
        return self.decode(target, self.encode(source, source_lengths), source_lengths, mask=mask)

    def encode(
        self, source: Int[Tensor, "batch source_len"], source_lengths: Lengths | None = None
    ) -> Float[Tensor, "batch source_len d_model"]:
        """The memory of the sources."""
        x = self._embed(self.source_embedding, source)
        return self.transformer.encode(x, mask=None if source_lengths is None else Padding(source_lengths))

    def decode(
        self,
        target: Int[Tensor, "batch target_len"],
        memory: Float[Tensor, "batch source_len d_model"],
        source_lengths: Lengths | None = None,
        *,
        mask: AnyMask | None = None,
        positions: Int[Tensor, "#batch target_len"] | None = None,
        cache: KVCache | None = None,
        last: bool = False,
    ) -> Float[Tensor, "batch out_len vocab"]:
        """As `GPT.forward`, for tokens that follow the memory: with `last` (batch, 1, vocab)."""
        x = self._embed(self.target_embedding, target, positions, 0 if cache is None else cache.length)
        x = self.transformer.decode(
            x,
            memory,
            mask=causal(mask, target.shape[1], cache),
            memory_mask=None if source_lengths is None else Padding(source_lengths),
            positions=positions,
            cache=cache,
        )
        return self.target_embedding.logits(x[:, -1:] if last else x)

    def _embed(self, table: Embedding, ids: Tensor, positions: Tensor | None = None, start: int = 0) -> Tensor:
        """Tokens with their positions, counted from `start` unless given."""
        counted = torch.arange(start, start + ids.shape[1], device=ids.device)[None]
        return self.dropout(self.position.embed(table(ids), counted if positions is None else positions))

    def new_cache(self, kind: str = "dynamic", **options) -> KVCache:
        """An empty cache for the decoder; of the memory it keeps the projections. Kinds: see `attnkit.nn.KVCache`."""
        return KVCache(self.config.layers, kind=kind, cross=True, **options)

    def conditioned(
        self, source: Int[Tensor, "batch source_len"], source_lengths: Lengths | None = None
    ) -> Conditioned:
        """The language model of what follows these sources, which are read now: call eval() first."""
        lengths = None if source_lengths is None else torch.as_tensor(source_lengths)
        return Conditioned(self, self.encode(source, lengths), lengths)
