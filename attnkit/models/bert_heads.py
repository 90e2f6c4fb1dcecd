"""What BERT is used for: restoring hidden words, labelling sequences, labelling tokens.

Each head gives logits; its loss is the trainer's affair. A new head on published weights:
`SequenceClassifier.from_pretrained(name, fresh=("head",), labels=3)`.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attnkit.masks import Mask
from attnkit.models.bert import BERT, BERTConfig
from attnkit.models.initial import initialize
from attnkit.models.pretrained import Pretrained
from attnkit.nn.feedforward import FUNCTIONS


class Head(Pretrained):
    """A BERT and what is made of its last layer: a subclass says it in `read`."""

    config: BERTConfig
    config_class = BERTConfig
    family = "bert"
    bert: BERT

    def forward(
        self,
        ids: Int[Tensor, "batch len"],
        types: Int[Tensor, "batch len"] | None = None,
        *,
        mask: Mask | Bool[Tensor, "#batch #heads #len len"] | None = None,
        positions: Int[Tensor, "#batch len"] | None = None,
    ) -> Float[Tensor, "batch ... logits"]:
        """The logits that `read` gives, a row for each token or for each sequence. The arguments are BERT's."""
        return self.read(self.bert(ids, types, mask=mask, positions=positions))

    def read(self, hidden: Float[Tensor, "batch len d_model"]) -> Float[Tensor, "batch ... logits"]:
        """The logits of what each token has become."""
        raise NotImplementedError


class MaskedLanguageModel(Head):
    """hidden -> norm(gelu(linear(hidden))) -> logits over the vocabulary, by the embedding and a bias.

    Devlin et al. 2018, arXiv:1810.04805, section 3.1, task 1.

    >>> model = MaskedLanguageModel(BERTConfig(vocab=100, d_model=16, heads=2, layers=2, d_hidden=64)).eval()
    >>> model(torch.tensor([[5, 3, 8]])).shape
    torch.Size([1, 3, 100])
    """

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.config = config
        self.bert = BERT(replace(config, pooler=False))
        self.transform = nn.Linear(config.d_model, config.d_model)
        self.norm_head = nn.LayerNorm(config.d_model, eps=config.eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab))
        initialize(self.transform)

    def read(self, hidden: Float[Tensor, "batch len d_model"]) -> Float[Tensor, "batch len vocab"]:
        hidden = self.norm_head(FUNCTIONS[self.config.activation](self.transform(hidden)))
        return self.bert.embedding.logits(hidden) + self.bias


class SequenceClassifier(Head):
    """The pooled first token -> dropout -> one logit for each label. Devlin et al. 2018, figure 4 (a, b).

    >>> model = SequenceClassifier(BERTConfig(vocab=100, d_model=16, heads=2, layers=2, d_hidden=64, labels=3)).eval()
    >>> model(torch.tensor([[5, 3, 8]])).shape
    torch.Size([1, 3])
    """

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.config = config
        self.bert = BERT(replace(config, pooler=True))
        self.dropout = nn.Dropout(config.dropout if config.head_dropout is None else config.head_dropout)
        self.head = nn.Linear(config.d_model, config.labels)
        initialize(self.head)

    def read(self, hidden: Float[Tensor, "batch len d_model"]) -> Float[Tensor, "batch labels"]:
        return self.head(self.dropout(self.bert.pool(hidden)))


class TokenClassifier(Head):
    """Each token -> dropout -> one logit for each label. Devlin et al. 2018, figure 4 (d).

    >>> model = TokenClassifier(BERTConfig(vocab=100, d_model=16, heads=2, layers=2, d_hidden=64, labels=5)).eval()
    >>> model(torch.tensor([[5, 3, 8]])).shape
    torch.Size([1, 3, 5])
    """

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.config = config
        self.bert = BERT(replace(config, pooler=False))
        self.dropout = nn.Dropout(config.dropout if config.head_dropout is None else config.head_dropout)
        self.head = nn.Linear(config.d_model, config.labels)
        initialize(self.head)

    def read(self, hidden: Float[Tensor, "batch len d_model"]) -> Float[Tensor, "batch len labels"]:
        return self.head(self.dropout(hidden))
