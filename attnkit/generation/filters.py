"""Filters of the next token's logits. Each returns new logits; a token that it forbids gets -inf.

They equal Hugging Face's logits processors in the values and in the set of tokens kept, and apply to the last axis.
`Sample` composes them in the order of this file. Numbers are checked by hand, so that a caller sees our words.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import no_type_check

from jaxtyping import Bool, Float
from torch import Tensor

FORBIDDEN = -math.inf


@no_type_check
def check_probability(name: str, p: float) -> None:
    """Raise ValueError unless p is a number from 0 to 1."""
    if isinstance(p, bool) or not isinstance(p, Real) or not 0 <= p <= 1:
        raise ValueError(f"{name} is {p!r}; it must be a probability, from 0 to 1")


@no_type_check
def check_positive(name: str, x: float, instead: str = "") -> None:
    """Raise ValueError unless x is a finite number above 0; `instead` says what else the caller may have wanted."""
    if isinstance(x, bool) or not isinstance(x, Real) or not (math.isfinite(x) and x > 0):
        raise ValueError(f"{name} is {x!r}; it must be a number above 0{instead}")


@no_type_check
def check_count(name: str, k: int) -> None:
    """Raise ValueError unless k is a whole number, 1 or more."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(f"{name} is {k!r}; it must be a whole number, 1 or more")


@no_type_check
def penalize_repetition(
    logits: Float[Tensor, "*rows vocab"], seen: Bool[Tensor, "*rows vocab"], penalty: int | float
) -> Float[Tensor, "*rows vocab"]:
    """Positive logits of the tokens seen are divided by the penalty, negative ones multiplied (arXiv:1909.05858, 4.1).

    The paper's formula divides all; that would favour a token whose logit is negative, so every implementation in use
    has this form. Penalty 1 changes nothing; below 1 it invites repetition.
    """
    check_positive("penalty", penalty)
    return logits.where(~seen, (logits * penalty).where(logits < 0, logits / penalty))


@no_type_check
def temperature(logits: Float[Tensor, "*rows vocab"], t: int | float) -> Float[Tensor, "*rows vocab"]:
    """logits / t: below 1 the likely tokens gain, above 1 the unlikely ones."""
    check_positive("temperature", t, "; the limit at 0 is Greedy()")
    return logits / t


@no_type_check
def top_k(logits: Float[Tensor, "*rows vocab"], k: int) -> Float[Tensor, "*rows vocab"]:
    """Keep the k most likely tokens (arXiv:1805.04833, 5.1), and all that tie with the last of them.

    >>> import torch
    >>> top_k(torch.tensor([3.0, 1.0, 2.0, 1.0]), 2)
    tensor([3., -inf, 2., -inf])
    >>> top_k(torch.tensor([3.0, 1.0, 2.0, 1.0]), 3)
    tensor([3., 1., 2., 1.])
    """
    check_count("k", k)
    if k >= logits.shape[-1]:
        return logits
    return logits.masked_fill(logits < logits.topk(k).values[..., -1:], FORBIDDEN)


@no_type_check
def top_p(logits: Float[Tensor, "*rows vocab"], p: int | float) -> Float[Tensor, "*rows vocab"]:
    """Keep the fewest most likely tokens whose probabilities sum to p or more (nucleus, arXiv:1904.09751, eq. 2).

    Said from the other end, as it is computed: a token goes if it and all that are less likely weigh 1 - p or less.
    One token always stays. Which of several equally likely tokens goes first is left to the sort.

    >>> import torch
    >>> top_p(torch.tensor([0.5, 0.2, 0.3]).log(), 0.7)
    tensor([-0.6931,    -inf, -1.2040])
    """
    check_probability("p", p)
    if p == 1:
        return logits
    ascending, order = logits.sort()
    drop = ascending.softmax(-1).cumsum(-1) <= 1 - p
    drop[..., -1:] = False
    return logits.masked_fill(drop.scatter(-1, order, drop), FORBIDDEN)


@no_type_check
def min_p(logits: Float[Tensor, "*rows vocab"], p: int | float) -> Float[Tensor, "*rows vocab"]:
    """Keep the tokens at least p times as likely as the most likely one (arXiv:2407.01082).

    >>> import torch
    >>> min_p(torch.tensor([0.5, 0.1, 0.4]).log(), 0.5)
    tensor([-0.6931,    -inf, -0.9163])
    """
    check_probability("p", p)
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities < p * probabilities.amax(-1, keepdim=True), FORBIDDEN)
