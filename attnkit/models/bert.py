"""BERT: a stack of post-norm layers that sees the whole sequence, trained to restore hidden words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import no_type_check

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attnkit.masks import Mask
from attnkit.models.initial import as_published, initialize
from attnkit.models.pretrained import Pretrained
from attnkit.nn import Config, Embedding, Encoder
from attnkit.nn.config import Activation
from attnkit.positions import Learned


@no_type_check
@dataclass(frozen=True, kw_only=True)
class BERTConfig(Config):
    """The settings of BERT and its heads; the defaults are those of BERT-base (uncased).

    - `context`: the longest sequence. `token_types`: how many kinds of sentence there are (first, second).
    - `pooler`: has it the layer that makes one vector of a sequence?
    - `labels`, `head_dropout`: of the classifiers in `attnkit.models.bert_heads`; no dropout of their own means
      the same as everywhere.
    """

    vocab: int = 30522
    context: int = 512
    token_types: int = 2
    pooler: bool = True
    labels: int = 2
    head_dropout: float | None = None
    d_model: int = 768
    heads: int = 12
    layers: int = 12
    d_hidden: int = 3072
    activation: Activation = "gelu"
    eps: float = 1e-12
    norm_first: bool = False
    dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("vocab", "context", "token_types", "labels"):
            self.check_count(name)
        self.check_probability("head_dropout", optional=True)


class BERT(Pretrained):
    """norm(token + position + type) -> [norm(x + attention(x)); norm(x + feed_forward(x))] * layers.

    Devlin et al. 2018, arXiv:1810.04805, section 3 and figure 2.

    >>> model = BERT(BERTConfig(vocab=100, context=32, d_model=16, heads=2, layers=2, d_hidden=64)).eval()
    >>> hidden = model(torch.tensor([[5, 3, 8]]))
    >>> hidden.shape, model.pool(hidden).shape
    (torch.Size([1, 3, 16]), torch.Size([1, 16]))
    """

    config: BERTConfig
    config_class = BERTConfig
    family = "bert"

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = Embedding(config.vocab, config.d_model)
        self.position = Learned(config.context, config.d_model)
        self.types = nn.Embedding(config.token_types, config.d_model)
        self.norm = nn.LayerNorm(config.d_model, eps=config.eps)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = Encoder(config)
        self.pooler = nn.Linear(config.d_model, config.d_model) if config.pooler else None
        as_published(self.encoder)
        initialize(self)

    def forward(
        self,
        ids: Int[Tensor, "batch len"],
        types: Int[Tensor, "batch len"] | None = None,
        *,
        mask: Mask | Bool[Tensor, "#batch #heads #len len"] | None = None,
        positions: Int[Tensor, "#batch len"] | None = None,
    ) -> Float[Tensor, "batch len d_model"]:
        """What each token has become after the last layer.

        - `types`: 0 for a token of the first sentence, 1 for one of the second; all of the first unless given.
        - `mask`: such as `Padding(lengths)`. `positions`: 0, 1, 2, ... unless given.
        """
        if positions is None:
            positions = torch.arange(ids.shape[1], device=ids.device)[None]
        x = self.embedding(ids) + self.types(torch.zeros_like(ids) if types is None else types)
        x = self.dropout(self.norm(self.position.embed(x, positions)))
        return self.encoder(x, mask=mask)

    def pool(self, hidden: Float[Tensor, "batch len d_model"]) -> Float[Tensor, "batch d_model"]:
        """The sequence as one vector: its first token ([CLS]) through one more layer."""
        if self.pooler is None:
            raise ValueError("this BERT has no pooler: its config says pooler=False")
        return torch.tanh(self.pooler(hidden[:, 0]))
