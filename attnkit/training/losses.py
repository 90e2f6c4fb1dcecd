"""Token cross-entropy as a sum and a number of tokens, so that batches of unequal length can be averaged rightly.

The mean over a large batch is not the mean of the means over its parts, unless the parts hold equally many tokens.
So a loss here returns `Total(sum, tokens)`: totals add up, and whoever needs the mean divides once, at the end.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

IGNORE = -100  # the target that does not count, as in torch

Smoothing = Literal["all", "others"]


class Total(NamedTuple):
    """The sum of a loss over `tokens` tokens. Two totals add up to the total of both batches.

    >>> print(Total(torch.tensor(6.0), torch.tensor(3)).mean)
    tensor(2.)
    """

    sum: Float[Tensor, ""]
    tokens: Int[Tensor, ""] | int

    @property
    def mean(self) -> Float[Tensor, ""]:
        """The loss per token; 0 when there is none, since nothing was lost."""
        tokens = self.tokens
        return self.sum / (tokens.clamp(min=1) if isinstance(tokens, Tensor) else max(tokens, 1))


@no_type_check
def cross_entropy(
    logits: Float[Tensor, "*batch vocab"],
    targets: Int[Tensor, "*batch"],
    *,
    smoothing: float = 0.0,
    spread: Smoothing = "all",
    ignore: int = IGNORE,
) -> Total:
    """Cross-entropy of `targets` under softmax(logits), summed over every target that is not `ignore`.

    With `smoothing` = eps the target distribution q is softened, in one of two conventions, which differ the more the
    smaller the vocabulary:

    - `spread="all"`: q = (1 - eps) one-hot + eps / V on *every* class, the right one too (Szegedy et al. 2016,
      arXiv:1512.00567, section 7; `F.cross_entropy(label_smoothing=eps)`).
    - `spread="others"`: q = 1 - eps on the right class and eps / (V - 1) on each of the *others* (tensor2tensor, the
      code of Vaswani et al. 2017, arXiv:1706.03762, whose section 5.4 has eps = 0.1).

    They are one family: "others" with eps is "all" with eps V / (V - 1). Half precision is summed in float32. The
    smoothed loss has a floor above 0, the entropy of q, so perplexity is measured without smoothing.

    Raises ValueError when the shapes do not fit, or when a target is neither `ignore` nor a class.

    >>> total = cross_entropy(torch.zeros(2, 3, 7), torch.tensor([[1, 2, -100], [4, -100, -100]]))
    >>> print(total.tokens, torch.isclose(total.mean, torch.tensor(7.0).log()))  # knowing nothing costs ln V
    tensor(3) tensor(True)
    """
    vocab = _check(logits, targets, smoothing, spread, ignore)
    if spread == "others" and smoothing:
        smoothing = smoothing * vocab / (vocab - 1)
    kept = targets != ignore
    log_p = (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)
    loss = -log_p.gather(-1, targets.where(kept, 0).long()[..., None])[..., 0]
    if smoothing:
        loss = (1 - smoothing) * loss - smoothing * log_p.mean(-1)
    return Total(loss.masked_fill(~kept, 0.0).sum(), kept.sum())


def perplexity(total: Total) -> float:
    """exp(loss per token): the number of equally likely tokens that would be as hard to guess. inf when it overflows.

    >>> round(perplexity(cross_entropy(torch.zeros(5, 7), torch.arange(5))), 4)
    7.0
    """
    try:
        return math.exp(float(total.mean))
    except OverflowError:
        return math.inf


class CrossEntropy:
    """The loss of a model on a batch `(*inputs, targets)`: `cross_entropy(model(*inputs), targets)`.

    This is the form that `Trainer` wants, `(model, batch) -> Total`; any function of that form will do as well.
    """

    smoothing: float
    spread: Smoothing
    ignore: int

    @no_type_check
    def __init__(self, *, smoothing: float = 0.0, spread: Smoothing = "all", ignore: int = IGNORE) -> None:
        _check_smoothing(smoothing, spread)
        self.smoothing, self.spread, self.ignore = smoothing, spread, ignore

    def __call__(self, model: nn.Module, batch: Any) -> Total:
        *inputs, targets = batch
        return cross_entropy(model(*inputs), targets, smoothing=self.smoothing, spread=self.spread, ignore=self.ignore)

    def __repr__(self) -> str:
        return f"CrossEntropy(smoothing={self.smoothing}, spread={self.spread!r}, ignore={self.ignore})"


@no_type_check
def _check_smoothing(smoothing: float, spread: str) -> None:
    if not isinstance(smoothing, (int, float)) or not 0 <= smoothing < 1:
        raise ValueError(f"smoothing is {smoothing!r}; it is a share of the target's mass, so it must be in [0, 1)")
    if spread not in ("all", "others"):
        raise ValueError(f"spread is {spread!r}; it must be 'all' (eps / V on every class) or 'others' (eps / (V - 1))")


@no_type_check
def _check(logits: Tensor, targets: Tensor, smoothing: float, spread: str, ignore: int) -> int:
    """The size of the vocabulary, when everything fits."""
    _check_smoothing(smoothing, spread)
    if not logits.is_floating_point() or logits.ndim < 1 or logits.shape[:-1] != targets.shape:
        raise ValueError(
            f"logits has shape {tuple(logits.shape)} and dtype {logits.dtype}, targets {tuple(targets.shape)}; "
            "logits must be floats of the shape of targets and one axis more, the vocabulary"
        )
    if targets.is_floating_point() or targets.dtype == torch.bool:
        raise ValueError(f"targets has dtype {targets.dtype}; it must hold integers, the number of the right class")
    vocab = logits.shape[-1]
    if smoothing and spread == "others" and vocab < 2:
        raise ValueError(f"spread='others' spreads over the other classes; logits has {vocab} in all")
    if targets.device.type == "cpu":  # elsewhere looking would make the CPU wait for the device
        wrong = targets[(targets != ignore) & ((targets < 0) | (targets >= vocab))]
        if wrong.numel():
            raise ValueError(f"targets holds {wrong[0].item()}; it must hold 0 to {vocab - 1}, or {ignore} to ignore")
    return vocab
