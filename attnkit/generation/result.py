"""What generation gives back: one or more continuations for each prompt."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True)
class Hypothesis:
    """One continuation of a prompt.

    - `tokens`: what was generated, without the prompt; the end-of-sequence token is the last of them if it was reached.
    - `score`: the sum of `logprobs`; for a beam search that sum divided by its length penalty.
    - `logprobs`: log p(token | all before it), one for each token, under the model as it is: no temperature, no filter.
    - `finished`: an end-of-sequence token was reached; False when `max_new` cut it short.
    """

    tokens: list[int] = field(default_factory=list)
    score: float = 0.0
    logprobs: list[float] = field(default_factory=list)
    finished: bool = False


@dataclass(frozen=True)
class Generated:
    """`hypotheses[i]` are the continuations of prompt i, the best first; the other fields are those of the best.

    >>> done = Generated([[Hypothesis([5, 7, 2], -1.5, [-0.5, -0.5, -0.5], True)], [Hypothesis([4], -0.1, [-0.1])]])
    >>> done.tokens
    [[5, 7, 2], [4]]
    >>> done.padded(pad=0)
    tensor([[5, 7, 2],
            [4, 0, 0]])
    """

    hypotheses: list[list[Hypothesis]]

    @property
    def tokens(self) -> list[list[int]]:
        """The tokens generated for each prompt, each list as long as it is: no padding."""
        return [best[0].tokens for best in self.hypotheses]

    @property
    def scores(self) -> list[float]:
        """The score of each."""
        return [best[0].score for best in self.hypotheses]

    @property
    def logprobs(self) -> list[list[float]]:
        """The log-probability of each token of each."""
        return [best[0].logprobs for best in self.hypotheses]

    @property
    def finished(self) -> list[bool]:
        """Whether each reached an end-of-sequence token."""
        return [best[0].finished for best in self.hypotheses]

    def padded(self, pad: int) -> Int[Tensor, "prompts longest"]:
        """The best tokens as one table, filled up with `pad` on the right."""
        longest = max(map(len, self.tokens), default=0)
        rows = [row + [pad] * (longest - len(row)) for row in self.tokens]
        return torch.tensor(rows, dtype=torch.long).view(len(rows), longest)
