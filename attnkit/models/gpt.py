"""GPT-2: a stack of pre-norm layers under a causal mask, with learned positions and the embedding as its head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import no_type_check

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attnkit.masks import Mask
from attnkit.models.decoder_only import DecoderOnly
from attnkit.models.initial import as_published, initialize
from attnkit.nn import Config, Embedding, Encoder, KVCache, causal
from attnkit.nn.config import Activation
from attnkit.positions import Learned


@no_type_check
@dataclass(frozen=True, kw_only=True)
class GPTConfig(Config):
    """The settings of a GPT; the defaults are those of the smallest GPT-2, with 124 million parameters.

    `context`: the longest sequence, which is as long as the table of positions.
    """

    vocab: int = 50257
    context: int = 1024
    d_model: int = 768
    heads: int = 12
    layers: int = 12
    d_hidden: int = 3072
    activation: Activation = "gelu_tanh"
    dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("vocab")
        self.check_count("context")


class GPT(DecoderOnly):
    """tokens -> embedding + position -> [x + attention(norm(x)); x + feed_forward(norm(x))] * layers -> norm -> logits.

    Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3; the figure is figure 1 of
    Radford et al. 2018, with the norms moved in front of the branches.

    >>> model = GPT(GPTConfig(vocab=100, context=32, d_model=16, heads=2, layers=2, d_hidden=64)).eval()
    >>> model(torch.tensor([[5, 3, 8]])).shape
    torch.Size([1, 3, 100])
    """

    config: GPTConfig
    config_class = GPTConfig
    family = "gpt2"

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.context = config.context
        self.embedding = Embedding(config.vocab, config.d_model)
        self.position = Learned(config.context, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.decoder = Encoder(config)  # only the causal mask makes a decoder of it
        as_published(self.decoder)
        initialize(self, layers=config.layers)

    def forward(
        self,
        ids: Int[Tensor, "batch len"],
        *,
        mask: Mask | Bool[Tensor, "#batch #heads #len k_len"] | None = None,
        positions: Int[Tensor, "#batch len"] | None = None,
        cache: KVCache | None = None,
        last: bool = False,
    ) -> Float[Tensor, "batch out_len vocab"]:
        """The logits of the token after each position, or with `last` only those after the last: (batch, 1, vocab).

        - `mask`: what hides more than the future, such as padding; over all keys, those in the cache included.
        - `positions`: counted from what the cache holds unless given. Beyond `context` they are a ValueError.
        - `cache`: from `new_cache`; `ids` are then the tokens that follow those it has seen.
        """
        if positions is None:
            seen = 0 if cache is None else cache.length
            positions = torch.arange(seen, seen + ids.shape[1], device=ids.device)[None]
        x = self.dropout(self.position.embed(self.embedding(ids), positions))
        x = self.decoder(x, mask=causal(mask, ids.shape[1], cache), positions=positions, cache=cache)
        return self.embedding.logits(x[:, -1:] if last else x)
