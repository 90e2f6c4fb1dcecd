"""Masked-language-model corruption: which tokens are to be guessed, and what stands in their place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, no_type_check

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from attnkit.training.losses import IGNORE


class Corrupted(NamedTuple):
    """What the model sees, and what it is to guess: the token at a chosen place, -100 elsewhere."""

    ids: Int[Tensor, "batch len"]
    targets: Int[Tensor, "batch len"]


@no_type_check
def corrupt(
    ids: Int[Tensor, "batch len"],
    *,
    mask: int,
    vocab: int,
    special: Sequence[int] = (),
    rate: float = 0.15,
    words: Int[Tensor, "batch len"] | None = None,
    generator: Generator | None = None,
) -> Corrupted:
    """BERT's corruption (Devlin et al. 2019, arXiv:1810.04805, section 3.1 and appendix A.1).

    Of each sequence the share `rate` of the tokens is chosen, rounded, and at least one where there is one to choose.
    Of the chosen 80 % become `mask`, 10 % a random token, 10 % stay. Tokens in `special` (name padding, start and end;
    `mask` is always one) are never chosen and never put in as the random token.

    `words` numbers the words of each sequence, from 0: then whole words are chosen, until the share is reached or first
    exceeded. `generator` makes it repeatable; without one, torch's own is drawn from.

    >>> corrupted = corrupt(torch.tensor([[0, 5, 6, 7, 1]]), mask=2, vocab=9, special=[0, 1], rate=0.4)
    >>> int((corrupted.targets != -100).sum())
    1
    """
    _check(ids, mask, vocab, special, rate, words)
    banned = torch.tensor(sorted({mask, *special}), device=ids.device)
    eligible = ~torch.isin(ids, banned)
    chosen = _choose(eligible, rate, words, generator)
    kept = torch.ones(vocab, dtype=torch.bool, device=ids.device)
    kept[banned] = False
    ordinary = kept.nonzero()[:, 0]
    at = torch.randint(max(len(ordinary), 1), ids.shape, generator=generator, device=_home(generator)).to(ids.device)
    lot = _random(ids, generator)
    changed = ids.where(~(chosen & (lot < 0.8)), mask)
    if len(ordinary):
        changed = torch.where(chosen & (lot >= 0.8) & (lot < 0.9), ordinary[at].to(ids.dtype), changed)
    return Corrupted(changed, ids.where(chosen, IGNORE))


def _choose(eligible: Tensor, rate: float, words: Tensor | None, generator: Generator | None) -> Tensor:
    """Each word (each token, without `words`) draws a lot; the tokens with the lowest lots are chosen, words whole."""
    lots = _random(eligible, generator).double()
    if words is not None:
        lots = lots.gather(1, words.long())
    lots = lots.masked_fill(~eligible, torch.inf)
    wanted = (rate * eligible.sum(1, keepdim=True)).round().clamp(min=1).long()
    if not lots.shape[1]:
        return eligible
    last = lots.sort(1).values.gather(1, wanted - 1)  # a word's tokens share their lot, so it is chosen whole or not
    return eligible & (lots <= last)


def _home(generator: Generator | None) -> torch.device:
    return torch.device("cpu") if generator is None else generator.device


def _random(like: Tensor, generator: Generator | None) -> Tensor:
    """Uniform in [0, 1), drawn where the generator lives, so that every device draws the same."""
    return torch.rand(like.shape, generator=generator, device=_home(generator), dtype=torch.float64).to(like.device)


@no_type_check
def _check(ids: Tensor, mask: int, vocab: int, special: Sequence[int], rate: float, words: Tensor | None) -> None:
    if ids.ndim != 2 or ids.is_floating_point():
        raise ValueError(
            f"ids has shape {tuple(ids.shape)} and dtype {ids.dtype}; it must be integers, (batch, length)"
        )
    for name, values in (("mask", [mask]), ("special", list(special))):
        if wrong := [value for value in values if not 0 <= value < vocab]:
            raise ValueError(f"{name} holds {wrong[0]}; it must be a token of the vocabulary, 0 to {vocab - 1}")
    if not 0 < rate <= 1:
        raise ValueError(f"rate is {rate!r}; it is a share of the tokens, so it must be in (0, 1]")
    if words is not None and (
        words.shape != ids.shape or (words.numel() and not 0 <= words.min() <= words.max() < ids.shape[1])
    ):
        raise ValueError(
            f"words has shape {tuple(words.shape)}; it must be that of ids, {tuple(ids.shape)}, and number the words "
            "of each sequence from 0 up to less than its length (any number will do for special tokens)"
        )
