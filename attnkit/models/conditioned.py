"""A translator that has read its sources: a language model of what follows them."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from attnkit.nn.cache import KVCache
from attnkit.nn.encoder import AnyMask


class Conditioned(nn.Module):
    """A translator and its memory of the sources, called with the targets' ids alone, as a decoder-only model is.

    `context` is the greatest number of positions, where the encoding has a table of them, else None.

    >>> import torch
    >>> from attnkit.models import Translator, TranslatorConfig
    >>> config = TranslatorConfig(source_vocab=40, target_vocab=50, d_model=16, heads=2, layers=2, d_hidden=64)
    >>> model = Translator(config).eval().conditioned(torch.tensor([[5, 3, 8], [7, 2, 0]]), [3, 2])
    >>> cache = model.new_cache()
    >>> model(torch.tensor([[1, 9], [1, 4]]), cache=cache, last=True).shape
    torch.Size([2, 1, 50])
    """

    # Any: the translator's file imports this one
    def __init__(
        self,
        translator: Any,
        memory: Float[Tensor, "batch source_len d_model"],
        lengths: Int[Tensor, " batch"] | None = None,
    ) -> None:
        super().__init__()
        self.translator, self.memory, self.lengths = translator, memory, lengths
        self.new_cache, self.vocab = translator.new_cache, translator.config.target_vocab
        self.context: int | None = getattr(translator.position, "length", None)

    def forward(
        self,
        ids: Int[Tensor, "batch len"],
        *,
        mask: AnyMask | None = None,
        positions: Int[Tensor, "#batch len"] | None = None,
        cache: KVCache | None = None,
        last: bool = False,
    ) -> Float[Tensor, "batch out_len vocab"]:
        """The logits of the token after each, as `Translator.decode`."""
        return self.translator.decode(
            ids, self.memory, self.lengths, mask=mask, positions=positions, cache=cache, last=last
        )

    def select(self, index: Int[Tensor, " rows"]) -> Conditioned:
        """The same for these rows of the batch, repeated or left out. The cache reorders itself."""
        lengths = None if self.lengths is None else self.lengths[index.to(self.lengths.device)]
        return Conditioned(self.translator, self.memory[index.to(self.memory.device)], lengths)
