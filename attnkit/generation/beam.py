"""Beam search: the `width` best continuations found so far grow side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor

from attnkit.generation.filters import check_count
from attnkit.generation.greedy import Stop, Stream
from attnkit.generation.result import Hypothesis
from attnkit.generation.stepper import Stepper


# Fields are checked by hand, so that a caller sees our words.
@no_type_check
@dataclass(frozen=True)
class Beam:
    """Beam search, with the choices that Hugging Face's `generate` makes, so that it finds the same hypotheses.

    Every step extends the `width` running hypotheses of a prompt by every token and ranks the results by the sum of
    their log-probabilities. Those that end, if they are among the first `width`, go to a pool that keeps the `width`
    best by score; the first `width` of the others run on. When `max_new` is reached, the first `width` end too.

    - Score: the sum divided by length ** `length_penalty` (`normalize="length"`), or by
      ((5 + length) / 6) ** `length_penalty` (`normalize="gnmt"`; arXiv:1609.08144, eq. 14), where length counts the
      generated tokens with the end of sequence. 0 compares plain sums; more of it favours long hypotheses.
    - `early_stopping`: when is a prompt whose pool is full done? True: at once. False: when its best running
      hypothesis, scored as if it ended now, is no better than the worst in the pool. "never": as False, but under a
      positive penalty scored as if it came to `max_new` tokens at no cost, so that nothing it may become is missed.
    - `n_best`: how many hypotheses to return for each prompt, `width` at most. There may be fewer if no more exist.
    """

    width: int = 4
    length_penalty: int | float = 1.0
    normalize: Literal["length", "gnmt"] = "length"
    early_stopping: bool | Literal["never"] = False
    n_best: int = 1

    def __post_init__(self) -> None:
        check_count("width", self.width)
        check_count("n_best", self.n_best)
        if self.n_best > self.width:
            raise ValueError(f"n_best is {self.n_best}; a beam of width {self.width} finds {self.width} at most")
        if self.normalize not in ("length", "gnmt"):
            raise ValueError(f"normalize is {self.normalize!r}; it must be 'length' or 'gnmt'")
        if not isinstance(self.early_stopping, bool) and self.early_stopping != "never":
            raise ValueError(f"early_stopping is {self.early_stopping!r}; it must be True, False or 'never'")
        number = isinstance(self.length_penalty, int | float) and not isinstance(self.length_penalty, bool)
        if not number or not math.isfinite(self.length_penalty):
            raise ValueError(f"length_penalty is {self.length_penalty!r}; it must be a finite number")

    def penalty(self, length: int) -> float:
        """What the sum of the log-probabilities of that many tokens is divided by."""
        return float((length if self.normalize == "length" else (5 + length) / 6) ** self.length_penalty)

    def decode(self, stepper: Stepper, stop: Stop, stream: Stream | None = None) -> list[list[Hypothesis]]:
        """The `n_best` continuations of each prompt, the best first."""
        if stream is not None:
            raise ValueError("stream does not go with Beam: which token comes next is known only at the end")
        pools = [Pool(self.width) for _ in stepper.prompt_of]
        running = {prompt: [Hypothesis()] for prompt in stepper.prompt_of}  # a prompt that is done leaves
        logits = stepper.start()
        for length in range(1, stop.max_new + 1):
            ranked = extensions(logits, list(running.values()), keep=self.width * (1 + max(1, len(stop.eos))))
            rows: list[int] = []
            first, going = 0, {}
            for (prompt, beams), candidates in zip(running.items(), ranked, strict=True):
                alive = self._sort_out(candidates, pools[prompt], stop, length)
                if alive and not self._done(alive[0][1], pools[prompt], stop, length):
                    rows += [first + parent for parent, _ in alive]
                    going[prompt] = [hypothesis for _, hypothesis in alive]
                first += len(beams)
            running = going
            if not running:
                break
            stepper.reorder(rows)
            tokens = [hypothesis.tokens[-1] for beams in running.values() for hypothesis in beams]
            logits = stepper.advance(torch.tensor(tokens, device=logits.device))
        return [pool.best[: self.n_best] for pool in pools]

    def _sort_out(
        self, candidates: list[tuple[int, Hypothesis]], pool: Pool, stop: Stop, length: int
    ) -> list[tuple[int, Hypothesis]]:
        """Put what ends here into the pool; return what runs on."""
        alive = []
        for rank, (parent, hypothesis) in enumerate(candidates):
            ended = hypothesis.tokens[-1] in stop.eos
            if not ended and length < stop.max_new:
                alive.append((parent, hypothesis))
            elif rank < self.width:
                pool.add(replace(hypothesis, score=hypothesis.score / self.penalty(length), finished=ended))
        return alive[: self.width]

    def _done(self, best: Hypothesis, pool: Pool, stop: Stop, length: int) -> bool:
        """May the search for this prompt end? `best` is the best that still runs."""
        if self.early_stopping is True and pool.full:
            return True
        hopeful = self.early_stopping == "never" and self.length_penalty > 0
        return best.score / self.penalty(stop.max_new if hopeful else length) <= pool.worst


class Pool:
    """The `size` best hypotheses that have ended, the best first."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.best: list[Hypothesis] = []

    def add(self, hypothesis: Hypothesis) -> None:
        """Take it in, unless it is impossible or there are enough better ones."""
        if hypothesis.score > -math.inf:
            self.best = sorted([*self.best, hypothesis], key=lambda h: -h.score)[: self.size]

    @property
    def full(self) -> bool:
        """Does the next one push another out?"""
        return len(self.best) == self.size

    @property
    def worst(self) -> float:
        """What a hypothesis must surpass to get in."""
        return self.best[-1].score if self.full else -math.inf


def extensions(
    logits: Float[Tensor, "rows vocab"], running: list[list[Hypothesis]], keep: int
) -> list[list[tuple[int, Hypothesis]]]:
    """The `keep` best one-token extensions of each prompt's hypotheses: (which of them it extends, what it becomes).

    Every prompt has the same number of hypotheses; the rows of `logits` are theirs, in this order. Of `keep` = (1 +
    number of eos tokens) * width extensions at least `width` do not end, if so many exist.
    """
    vocab = logits.shape[1]
    scores = torch.tensor([[h.score for h in beams] for beams in running], dtype=logits.dtype, device=logits.device)
    logprobs = logits.log_softmax(1).view(*scores.shape, vocab)  # (prompts, beams, vocab)
    totals = (logprobs + scores[..., None]).flatten(1)
    best, index = totals.topk(min(keep, totals.shape[1]))
    if best.isnan().any():
        raise ValueError(f"the model's logits were NaN after {len(running[0][0].tokens)} new tokens")
    gains = logprobs.flatten(1).gather(1, index)
    found = []
    for beams, *columns in zip(running, best.tolist(), index.tolist(), gains.tolist(), strict=True):
        found.append(
            [
                (at // vocab, Hypothesis([*(h := beams[at // vocab]).tokens, at % vocab], score, [*h.logprobs, gain]))
                for score, at, gain in zip(*columns, strict=True)
            ]
        )
    return found
