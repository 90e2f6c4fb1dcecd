"""A model small enough to train in a blink, and batches of unequal length for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

VOCAB = 11


class Model(nn.Module):
    """Guesses the next token from this one; always the same weights. Its head is tied to its table."""

    def __init__(self, width: int = 8, dropout: float = 0.0, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embed = nn.Embedding(VOCAB, width)
            self.hidden = nn.Linear(width, width)
            self.drop = nn.Dropout(dropout)
            self.head = nn.Linear(width, VOCAB, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("scale", torch.tensor(0.9))
        self.to(dtype)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.drop(torch.tanh(self.hidden(self.embed(ids)))) * self.scale)


def ragged_batches() -> list[tuple[Tensor, Tensor]]:
    """Five batches of 12, 3, 7, 0 and 10 tokens that count. In each token t is followed by 3t + 1."""
    generator = torch.Generator().manual_seed(1)
    batches = []
    for count in (12, 3, 7, 0, 10):
        ids = torch.randint(VOCAB, (3, 4), generator=generator)
        counts = torch.arange(12).view(3, 4) < count
        batches.append((ids, ((3 * ids + 1) % VOCAB).where(counts, -100)))
    return batches


RAGGED = ragged_batches()


def same_weights(a: nn.Module, b: nn.Module, tolerance: float) -> bool:
    """Every weight within the tolerance; with 0.0, the same bytes."""
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) if tolerance == 0.0 else float((x - y).abs().max()) <= tolerance for x, y in pairs)
