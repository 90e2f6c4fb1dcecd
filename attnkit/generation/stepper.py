"""Stepper: a model that is fed token by token. The search methods ask for the next logits and know of no cache."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnkit.generation.prompts import Prompts
from attnkit.generation.protocol import LanguageModel


class Stepper:
    """Rows of tokens that grow at their end; each step gives the logits of the next token of each row.

    With a cache a step costs one position of the model; without one the model reads everything again.
    """

    def __init__(self, model: LanguageModel, prompts: Prompts, max_new: int, cache: Any = None) -> None:
        self.model, self.prompts, self.cache = model, prompts, cache
        self.prompt_of = list(range(len(prompts.ids)))  # the prompt that each row continues
        self.length = prompts.ids.shape[1]
        self.mask = prompts.mask()
        self._history = None  # without a cache: (rows, longest + max_new), of which `length` columns are filled
        if cache is None:
            self._history = torch.nn.functional.pad(prompts.ids, (0, max_new))

    def start(self, copies: int = 1) -> Float[Tensor, "rows vocab"]:
        """Read the prompts; the logits after each, `copies` rows for each prompt."""
        logits = self._logits(self.prompts.ids, self.prompts.positions(0, self.length))
        if copies == 1:
            return logits
        rows = [row for row in range(len(self.prompt_of)) for _ in range(copies)]
        self.reorder(rows)
        return logits[rows]

    def advance(self, tokens: Int[Tensor, " rows"]) -> Float[Tensor, "rows vocab"]:
        """Add one token to each row; the logits after it."""
        self.length += 1
        if self._history is None:
            return self._logits(tokens[:, None], self.prompts.positions(self.length - 1, self.length))
        self._history[:, self.length - 1] = tokens
        return self._logits(self._history[:, : self.length], self.prompts.positions(0, self.length))

    def reorder(self, rows: list[int]) -> None:
        """Row i becomes what row rows[i] was; rows may be repeated or left out."""
        if rows == list(range(len(self.prompt_of))):
            return
        index = torch.tensor(rows, device=self.prompts.ids.device)
        if self._history is not None:
            self._history = self._history[index]
        else:
            self.cache.reorder(index)
        prompt_of = [self.prompt_of[row] for row in rows]
        if prompt_of != self.prompt_of:  # beams that swap places within a prompt leave what belongs to it as it is
            self.prompt_of = prompt_of
            self.prompts = Prompts(self.prompts.ids[index], self.prompts.pads[index])
            self.mask = self.prompts.mask()
            if hasattr(self.model, "select"):
                self.model = self.model.select(index)

    def _logits(
        self, ids: Int[Tensor, "rows len"], positions: Int[Tensor, "rows len"] | None
    ) -> Float[Tensor, "rows vocab"]:
        """The last position's logits, in float32 at least: log-probabilities are summed over many steps."""
        logits = self.model(ids, mask=self.mask, positions=positions, cache=self.cache, last=True)[:, -1]
        return logits if logits.dtype == torch.float64 else logits.float()
