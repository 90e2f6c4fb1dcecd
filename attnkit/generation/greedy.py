"""One token after the other: the loop that greedy decoding and sampling share, and greedy decoding itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnkit.generation.filters import check_positive, penalize_repetition
from attnkit.generation.result import Hypothesis
from attnkit.generation.stepper import Stepper

Stream = Callable[[list[int | None]], object]
Choose = Callable[[Float[Tensor, "rows vocab"], int], Int[Tensor, " rows"]]


@dataclass(frozen=True)
class Stop:
    """When a continuation ends: after `max_new` tokens, or after one of the tokens `eos`."""

    max_new: int
    eos: tuple[int, ...] = ()


# Fields are checked by hand, so that a caller sees our words.
@no_type_check
@dataclass(frozen=True)
class Greedy:
    """Always the most likely token. `repetition_penalty` above 1 makes tokens seen before less likely."""

    repetition_penalty: int | float = 1.0

    def __post_init__(self) -> None:
        check_positive("repetition_penalty", self.repetition_penalty)

    def decode(self, stepper: Stepper, stop: Stop, stream: Stream | None = None) -> list[list[Hypothesis]]:
        """One continuation for each prompt."""
        found = one_by_one(stepper, stop, lambda logits, step: logits.argmax(-1), self.repetition_penalty, stream)
        return [[hypothesis] for hypothesis in found]


def one_by_one(
    stepper: Stepper,
    stop: Stop,
    choose: Choose,
    repetition_penalty: int | float = 1.0,
    stream: Stream | None = None,
    copies: int = 1,
) -> list[Hypothesis]:
    """`choose(logits, step)` picks a token for each row, `copies` rows for each prompt, until all have ended.

    A row that has ended is carried along to no effect until the last one has: cheaper than moving the cache.
    """
    logits = stepper.start(copies)
    seen = _seen(stepper, logits) if repetition_penalty != 1 else None
    tokens = torch.zeros(len(logits), stop.max_new, dtype=torch.long, device=logits.device)
    logprobs = torch.zeros(len(logits), stop.max_new, dtype=logits.dtype, device=logits.device)
    ended = torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
    eos = torch.tensor(stop.eos, device=logits.device)
    for step in range(stop.max_new):
        if step:
            logits = stepper.advance(tokens[:, step - 1])
        scored = logits if seen is None else penalize_repetition(logits, seen, repetition_penalty)
        chosen = choose(scored, step)
        tokens[:, step] = chosen
        logprobs[:, step] = logits.gather(1, chosen[:, None])[:, 0] - logits.logsumexp(1)
        if seen is not None:
            seen.scatter_(1, chosen[:, None], True)
        if stream is not None:
            stream([None if over else token for over, token in zip(ended.tolist(), chosen.tolist(), strict=True)])
        if stop.eos:
            ended |= torch.isin(chosen, eos)
            if ended.all():
                break
    return [_cut(*row, stop.eos) for row in zip(tokens.tolist(), logprobs.tolist(), strict=True)]


def _seen(stepper: Stepper, logits: Float[Tensor, "rows vocab"]) -> Tensor:
    """(rows, vocab): the tokens of each row's prompt. Its padding takes the place of its last token: no news."""
    ids, pads = stepper.prompts.ids, stepper.prompts.pads
    padding = torch.arange(ids.shape[1], device=ids.device) < pads[:, None]
    return torch.zeros_like(logits, dtype=torch.bool).scatter_(1, ids.where(~padding, ids[:, -1:]), True)


def _cut(tokens: list[int], logprobs: list[float], eos: tuple[int, ...]) -> Hypothesis:
    """A row up to and with its first end-of-sequence token."""
    end = next((at + 1 for at, token in enumerate(tokens) if token in eos), None)
    kept = logprobs[:end]
    if any(x != x for x in kept):
        raise ValueError(
            f"the model's logits were NaN after {next(i for i, x in enumerate(kept) if x != x)} new tokens"
        )
    return Hypothesis(tokens[:end], sum(kept), kept, end is not None)
