"""What the backends share: what can be asked of one, what it answers, and how it declines."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnkit.masks import Mask, Sizes


class BackendUnsupported(NotImplementedError):
    """A backend cannot do what was asked. The message names the backend and the reason."""


@dataclass(frozen=True, slots=True)
class Options:
    """Everything besides query, key and value, already validated by `attnkit.attention`.

    `bias` has four axes that broadcast to (batch, heads, q_len, k_len); `sink` has one entry for each query head.
    `seed` fixes which weights dropout drops. `aux` names the extra results that are wanted.
    """

    mask: Mask | None = None
    bias: Float[Tensor, "#batch #heads #q_len #k_len"] | None = None
    scale: float = 1.0
    softcap: float | None = None
    sink: Float[Tensor, " heads"] | None = None
    dropout: float = 0.0
    seed: int = 0
    aux: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Aux:
    """Extra results. What was not asked for is None.

    `lse` is the logarithm of each row's softmax denominator, in the accumulator's dtype; -inf where a query sees
    nothing. With a sink, the denominator includes it. `weights` are the softmax weights before dropout.
    """

    lse: Float[Tensor, "batch heads q_len"] | None = None
    weights: Float[Tensor, "batch heads q_len k_len"] | None = None


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which sums are kept: float32 for half precision, else the dtype itself."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def sizes_of(query: Tensor, key: Tensor) -> Sizes:
    """The shape of the score matrices: (batch, heads, q_len, k_len)."""
    return Sizes(query.shape[0], query.shape[1], query.shape[2], key.shape[2])


def visible_table(query: Tensor, key: Tensor, options: Options) -> Bool[Tensor, "#batch #heads q_len k_len"] | None:
    """The mask as a table, for backends that hold all scores at once; None when every key is visible."""
    return None if options.mask is None else options.mask.materialize(*sizes_of(query, key), device=query.device)
