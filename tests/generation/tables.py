"""Models that are written down: the next token depends on the last one alone, by a table of probabilities."""

from __future__ import annotations

import torch
from torch import Tensor


class TableCache:
    """Counts the tokens; there is nothing else to remember."""

    def __init__(self) -> None:
        self.length = 0

    def reorder(self, index: Tensor) -> None:
        pass


class TableModel:
    """`probabilities[i][j]` = p(j | i), a row for each token."""

    def __init__(self, probabilities: list[list[float]], context: int | None = None) -> None:
        self.logits = torch.tensor(probabilities, dtype=torch.float64).log()
        self.context, self.vocab, self.calls = context, len(probabilities), 0

    def __call__(self, ids, *, mask=None, positions=None, cache=None, last=False):
        self.calls += 1
        if cache is not None:
            cache.length += ids.shape[1]
        return self.logits[ids[:, -1:] if last else ids]

    def new_cache(self, kind="dynamic", **options):
        return TableCache()
