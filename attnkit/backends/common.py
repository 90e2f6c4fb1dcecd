"""What the backends share: what can be asked of one, what it answers, and how it declines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import no_type_check

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attnkit.masks import Mask, Sizes
from attnkit.positions.linear_bias import LinearBias

# score_mod(score, b, h, q, k) -> score: FlexAttention's signature. The indices are integer tensors.
ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


class BackendUnsupported(NotImplementedError):
    """A backend cannot do what was asked. The message names the backend and the reason."""


class Rows:
    """Chosen queries whose weights are wanted: `attention(..., aux=(Rows([0, 7]),))` gives `Aux.row_weights`.

    Indices count from 0; negative ones from the end, so Rows([-1]) is the last query. They may repeat.
    """

    indices: tuple[int, ...]

    @no_type_check  # wrong arguments are refused in words
    def __init__(self, indices: Sequence[int] | Int[Tensor, " n"]) -> None:
        listed = indices.tolist() if isinstance(indices, Tensor) else indices
        whole = isinstance(listed, list | tuple | range) and all(type(index) is int for index in listed)
        if not whole:
            raise ValueError(f"Rows got {indices!r}; it takes a list of integers, the queries whose weights are wanted")
        self.indices = tuple(listed)

    def within(self, q_len: int, device: torch.device) -> Int[Tensor, " n"]:
        """The indices, counted from 0, as a tensor. ValueError when one is not among the queries."""
        beyond = [index for index in self.indices if not -q_len <= index < q_len]
        if beyond:
            raise ValueError(f"aux has {self!r}; with {q_len} queries, {beyond[0]} is not one of them")
        return torch.tensor([index % q_len for index in self.indices], dtype=torch.int64, device=device)

    def __repr__(self) -> str:
        return f"Rows({list(self.indices)})"


@dataclass(frozen=True, slots=True)
class Options:
    """Everything besides query, key and value, already validated by `attnkit.attention`.

    `bias` has four axes that broadcast to (batch, heads, q_len, k_len); `linear` is a bias told by its slopes
    instead, of which `with_table` makes the other. `sink` has one entry for each query head. `seed` fixes which
    weights dropout drops; it stands on the query's device. `aux` names the fields of Aux that are wanted; `rows` are
    the queries that "row_weights" means, counted from 0.
    """

    mask: Mask | None = None
    bias: Float[Tensor, "#batch #heads #q_len #k_len"] | None = None
    linear: LinearBias | None = None
    scale: float = 1.0
    softcap: float | None = None
    score_mod: ScoreMod | None = None
    sink: Float[Tensor, " heads"] | None = None
    dropout: float = 0.0
    seed: Int[Tensor, ""] | None = None
    aux: tuple[str, ...] = ()
    rows: Int[Tensor, " n"] | None = None


@dataclass(frozen=True, slots=True)
class Aux:
    """Extra results. What was not asked for is None.

    - `lse`: the logarithm of each row's softmax denominator, in the accumulator's dtype; -inf where a query sees
      nothing. With a sink, the denominator includes it. Has a gradient.
    - `weights`: the softmax weights before dropout, in the query's dtype. Have a gradient where the backend gives one.

    Those that follow are for reading, so they carry no gradient. All are of the weights before dropout.

    - `entropy`: -sum_k p log p of each row's weights, in nats, in the accumulator's dtype. A sink's share is no key's,
      and is not in the sum.
    - `column_sums`: how much weight each key gets from all queries together, in the accumulator's dtype.
    - `row_weights`: the weights of the queries named by `Rows`, in the query's dtype.
    """

    lse: Float[Tensor, "batch heads q_len"] | None = None
    weights: Float[Tensor, "batch heads q_len k_len"] | None = None
    entropy: Float[Tensor, "batch heads q_len"] | None = None
    column_sums: Float[Tensor, "batch heads k_len"] | None = None
    row_weights: Float[Tensor, "batch heads n k_len"] | None = None


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which sums are kept: float32 for half precision, else the dtype itself."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def sizes_of(query: Tensor, key: Tensor) -> Sizes:
    """The shape of the score matrices: (batch, heads, q_len, k_len)."""
    return Sizes(query.shape[0], query.shape[1], query.shape[2], key.shape[2])


def visible_table(query: Tensor, key: Tensor, options: Options) -> Bool[Tensor, "#batch #heads q_len k_len"] | None:
    """The mask as a table, for backends that hold all scores at once; None when every key is visible."""
    if options.mask is None:
        return None
    sizes = sizes_of(query, key)
    if torch.compiler.is_compiling():  # a mask makes tiles of ranges, and so would make constants of the lengths
        table = options.mask.rule(*indices(sizes, query.device), sizes)
        return table.expand(*table.shape[:2], sizes.q_len, sizes.k_len)
    return options.mask.materialize(*sizes, device=query.device)


def indices(sizes: Sizes, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Batch element, head, query and key of each score, as four tensors that broadcast over the table of scores."""
    b, h, q, k = (torch.arange(n, device=device) for n in sizes)
    return b.view(-1, 1, 1, 1), h.view(1, -1, 1, 1), q.view(1, 1, -1, 1), k.view(1, 1, 1, -1)


def slopes_of(options: Options) -> Float[Tensor, " heads"] | None:
    """The slopes of the linear bias, if there is one: what may want a gradient of it."""
    return None if options.linear is None else options.linear.slopes


def with_table(options: Options, query: Tensor, key: Tensor) -> Options:
    """The options with a linear bias written out as a table, for backends that hold all scores at once."""
    if options.linear is None:
        return options
    table = options.linear.table(sizes_of(query, key), accumulator(query.dtype))
    return replace(options, linear=None, bias=table if options.bias is None else options.bias + table)
