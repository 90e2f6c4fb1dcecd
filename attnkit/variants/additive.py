"""Additive attention: scores by a small network, the first attention of neural translation."""

from __future__ import annotations

from typing import no_type_check

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attnkit.masks import Mask


class AdditiveAttention(nn.Module):
    """score(q, k) = v . tanh(W q + U k); weights = softmax over the keys; output = weights @ values.

    Bahdanau, Cho and Bengio 2015, arXiv:1409.0473. Queries and keys may differ in
    width, which a dot product does not allow. Cost: a tanh for each of q_len * k_len * d_hidden numbers, all of which
    are held, where a dot product needs one matrix product.

    A query that may look at nothing gets zero weights and output, as everywhere in attnkit.

    >>> attend = AdditiveAttention(d_query=6, d_key=4, d_hidden=8)
    >>> out, weights = attend(torch.ones(2, 3, 6), torch.ones(2, 5, 4), torch.ones(2, 5, 7))
    >>> out.shape, weights.shape
    (torch.Size([2, 3, 7]), torch.Size([2, 3, 5]))
    """

    d_query: int
    d_key: int
    d_hidden: int
    query: nn.Linear
    key: nn.Linear
    score: nn.Linear

    @no_type_check  # wrong arguments are refused in words
    def __init__(self, d_query: int, d_key: int, d_hidden: int) -> None:
        super().__init__()
        for name, value in (("d_query", d_query), ("d_key", d_key), ("d_hidden", d_hidden)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")
        self.d_query, self.d_key, self.d_hidden = d_query, d_key, d_hidden
        self.query = nn.Linear(d_query, d_hidden)
        self.key = nn.Linear(d_key, d_hidden, bias=False)  # the query's bias serves both
        self.score = nn.Linear(d_hidden, 1, bias=False)  # a bias would move all scores of a row alike: no weight

    def forward(
        self,
        query: Float[Tensor, "batch q_len d_query"],
        key: Float[Tensor, "batch k_len d_key"],
        value: Float[Tensor, "batch k_len d_v"],
        *,
        mask: Mask | Bool[Tensor, "#batch #q_len #k_len"] | None = None,
    ) -> tuple[Float[Tensor, "batch q_len d_v"], Float[Tensor, "batch q_len k_len"]]:
        """The output and the weights. `mask` as in `attnkit.attention`, as a table without an axis for heads."""
        for name, given, width in (("query", query, self.d_query), ("key", key, self.d_key)):
            if given.shape[-1] != width:
                raise ValueError(f"{name} has shape {tuple(given.shape)}; its last axis must be d_{name} = {width}")
        hidden = torch.tanh(self.query(query)[:, :, None] + self.key(key)[:, None])  # (batch, q_len, k_len, d_hidden)
        scores = self.score(hidden).squeeze(-1)
        if isinstance(mask, Mask):
            mask = mask.materialize(len(query), 1, query.shape[1], key.shape[1], query.device)[:, 0]
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
            weights = scores.masked_fill(~mask.any(-1, keepdim=True), 0.0).softmax(-1) * mask
        else:
            weights = scores.softmax(-1)
        return weights @ value, weights

    def extra_repr(self) -> str:
        return f"d_query={self.d_query}, d_key={self.d_key}, d_hidden={self.d_hidden}"
