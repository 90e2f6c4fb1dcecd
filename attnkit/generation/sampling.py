"""Sampling: a token at random, by its probability, after temperature and filters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnkit.generation import filters
from attnkit.generation.greedy import Stop, Stream, one_by_one
from attnkit.generation.result import Hypothesis
from attnkit.generation.stepper import Stepper


# Fields are checked by hand, so that a caller sees our words.
@no_type_check
@dataclass(frozen=True)
class Sample:
    """Tokens at random: first the repetition penalty, then temperature, top-k, top-p and min-p, in this order.

    `generator` makes it repeatable (without one, `torch.manual_seed` does). Each row has random numbers of its own: it
    gets the same tokens whether it is generated in a batch or in its turn alone, and whatever becomes of the others.
    `n` continuations are drawn for each prompt.
    """

    temperature: int | float = 1.0
    top_k: int | None = None
    top_p: int | float | None = None
    min_p: int | float | None = None
    repetition_penalty: int | float = 1.0
    n: int = 1
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        filters.check_positive("temperature", self.temperature, "; the limit at 0 is Greedy()")
        filters.check_positive("repetition_penalty", self.repetition_penalty)
        filters.check_count("n", self.n)
        if self.top_k is not None:
            filters.check_count("top_k", self.top_k)
        for name in ("top_p", "min_p"):
            if getattr(self, name) is not None:
                filters.check_probability(name, getattr(self, name))

    def filtered(self, logits: Float[Tensor, "rows vocab"]) -> Float[Tensor, "rows vocab"]:
        """The logits that tokens are drawn from."""
        logits = filters.temperature(logits, self.temperature)
        if self.top_k is not None:
            logits = filters.top_k(logits, self.top_k)
        if self.top_p is not None:
            logits = filters.top_p(logits, self.top_p)
        return logits if self.min_p is None else filters.min_p(logits, self.min_p)

    def decode(self, stepper: Stepper, stop: Stop, stream: Stream | None = None) -> list[list[Hypothesis]]:
        """`n` continuations for each prompt, in the order in which they were drawn."""
        prompts = len(stepper.prompt_of)
        dice = uniforms(prompts * self.n, stop.max_new, self.generator).to(stepper.prompts.ids.device)

        def choose(logits: Float[Tensor, "rows vocab"], step: int) -> Int[Tensor, " rows"]:
            return draw(self.filtered(logits), dice[:, step])

        found = one_by_one(stepper, stop, choose, self.repetition_penalty, stream, copies=self.n)
        return [found[i * self.n : (i + 1) * self.n] for i in range(prompts)]


def uniforms(rows: int, steps: int, generator: torch.Generator | None = None) -> Float[Tensor, "rows steps"]:
    """Numbers from [0, 1), in float64. The generator gives each row a seed, and the row's own stream the rest."""
    device = "cpu" if generator is None else generator.device
    found = []
    for _ in range(rows):
        seed = int(torch.randint(2**63 - 1, (), generator=generator, device=device))
        found.append(torch.rand(steps, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))
    return torch.stack(found) if found else torch.zeros(0, steps, dtype=torch.float64)


def draw(logits: Float[Tensor, "rows vocab"], uniform: Float[Tensor, " rows"]) -> Int[Tensor, " rows"]:
    """The token in whose share of [0, 1) the number falls: shares are laid out in the order of the vocabulary.

    >>> probabilities = torch.tensor([[0.5, 0.0, 0.5]]).expand(3, -1)
    >>> draw(probabilities.log(), torch.tensor([0.0, 0.49, 0.5]))
    tensor([0, 0, 2])
    """
    heights = logits.double().softmax(-1).cumsum(-1)
    # right=True: the first token whose share ends beyond the number, so that a share of width 0 is never hit.
    found = torch.searchsorted(heights, (uniform.double() * heights[:, -1])[:, None], right=True)[:, 0]
    return found.clamp(max=logits.shape[1] - 1)  # NaN logits lead past the end; they are reported by the caller
