"""How far keys stand from queries: what the encodings of the scores are made of."""

from __future__ import annotations

from typing import no_type_check

from jaxtyping import Int
from torch import Tensor

from attnkit.positions.base import check_positions


@no_type_check
def offsets(
    q_positions: Int[Tensor, "#batch q_len"], k_positions: Int[Tensor, "#batch k_len"]
) -> Int[Tensor, "#batch q_len k_len"]:
    """Key position minus query position: negative for keys in the past.

    >>> import torch
    >>> offsets(torch.tensor([[2, 3]]), torch.tensor([[0, 1, 2, 3]])).tolist()
    [[[-2, -1, 0, 1], [-3, -2, -1, 0]]]
    """
    return k_positions[:, None, :] - q_positions[:, :, None]


@no_type_check
def check_scores(query: Tensor, key: Tensor, q_positions: Tensor, k_positions: Tensor) -> None:
    """ValueError when the positions do not fit the queries or the keys."""
    check_positions(q_positions, query.shape[0], query.shape[2], "q_positions")
    check_positions(k_positions, query.shape[0], key.shape[2], "k_positions")


@no_type_check
def check_heads(query: Tensor, heads: int) -> None:
    """ValueError when there are not as many query heads as the encoding was made for."""
    if query.shape[1] != heads:
        raise ValueError(f"query has shape {tuple(query.shape)}, {query.shape[1]} heads; this encoding has {heads=}")
