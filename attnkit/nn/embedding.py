"""Token embeddings, and the logits that share their table."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attnkit.nn.linear import linear


class Embedding(nn.Module):
    """A table with one row for each token, read in both directions: ids to vectors, vectors to logits (a tied head).

    - `scale`: vectors are multiplied by sqrt(d_model), logits are not (Vaswani et al. 2017, arXiv:1706.03762, §3.4).
    - `pad`: a token whose row starts at zero and is not trained by being looked up.

    Tied tables (Press and Wolf 2017, arXiv:1608.05859) must start small. Rows of N(0, 1) would give logits of size
    sqrt(d_model), and most of all to the token that was just read, whose row the residual stream carries up to the
    head: about d_model * std. `std` keeps the first below 1/2 and the second below ln(vocab) / 2, so that a new model
    predicts nearly uniformly and its first loss is near ln(vocab). Without `scale` it is at most the 0.02 of GPT-2.

    >>> import torch
    >>> from attnkit.nn import Embedding
    >>> table = Embedding(100, 64)
    >>> x = table(torch.tensor([[3, 1, 4]]))
    >>> x.shape, table.logits(x).shape
    (torch.Size([1, 3, 64]), torch.Size([1, 3, 100]))
    """

    def __init__(self, vocab: int, d_model: int, *, scale: bool = False, pad: int | None = None) -> None:
        super().__init__()
        for name, value in (("vocab", vocab), ("d_model", d_model)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if pad is not None and not 0 <= pad < vocab:
            raise ValueError(f"pad is {pad}; it must be a token, from 0 to {vocab - 1}, or None")
        self.vocab, self.d_model, self.scale, self.pad = vocab, d_model, scale, pad
        self.weight = nn.Parameter(torch.empty(vocab, d_model))
        self.reset_parameters()

    @property
    def std(self) -> float:
        """The spread of a new table."""
        safe = min(math.log(max(self.vocab, 2)) / (2 * self.d_model), 0.5 / math.sqrt(self.d_model))
        return safe if self.scale else min(safe, 0.02)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw a new table."""
        self.weight.normal_(std=self.std)
        if self.pad is not None:
            self.weight[self.pad] = 0.0

    def forward(self, ids: Int[Tensor, "batch len"]) -> Float[Tensor, "batch len {self.d_model}"]:
        """The rows of these tokens. IndexError for a number that is no token."""
        try:
            x = F.embedding(ids, self.weight, padding_idx=self.pad)
        except IndexError as error:  # raised on the CPU; asking beforehand would make a GPU wait
            raise IndexError(
                f"ids go from {int(ids.min())} to {int(ids.max())}; the {self.vocab} tokens are 0 to {self.vocab - 1}"
            ) from error
        return x * math.sqrt(self.d_model) if self.scale else x

    def logits(self, x: Float[Tensor, "batch len d_model"]) -> Float[Tensor, "batch len {self.vocab}"]:
        """x E^T, with the table E: how well each token's row agrees with x."""
        return linear(x, self.weight)

    def extra_repr(self) -> str:
        scale, pad = ", scale=True" if self.scale else "", "" if self.pad is None else f", pad={self.pad}"
        return f"{self.vocab}, {self.d_model}{scale}{pad}"
