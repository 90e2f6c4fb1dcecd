"""What does somebody else's attention hide, and from whom? Asked by experiment, not by its manual.

Give every query and every key the same zeros, so that all scores are equal, and let key j hand over the j-th unit
vector. Then the output *is* the table of weights: an entry above 0 was visible, and an empty row shows what the
library makes of one.

>>> import torch.nn.functional as F
>>> from attnkit.masks import Causal
>>> weights = weights_of(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), q_len=2, k_len=4)
>>> weights
tensor([[1.0000, 0.0000, 0.0000, 0.0000],
        [0.5000, 0.5000, 0.0000, 0.0000]])
>>> same_as(weights, {"upper left": Causal("upper_left"), "lower right": Causal("lower_right")})
['upper left']
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, no_type_check

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnkit.masks import Mask

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
Row = Literal["nothing", "nan", "mean of all", "some"]


@no_type_check  # what an unknown library returns is checked by hand, in words
def weights_of(attend: Attend, *, q_len: int, k_len: int, width: int = 16) -> Float[Tensor, "q_len k_len"]:
    """The weights of `attend` where all scores are equal: one batch element, one head.

    - `attend`: takes query (1, 1, q_len, width), key and value (1, 1, k_len, width) and returns (1, 1, q_len, width).
      Wrap a library that has its axes in another order. What it masks, and how, is its own business.
    - `width`: components of a query, of a key and of a value; at least k_len.

    Raises ValueError when `width` is too small, or when the output has another shape.
    """
    for name, length in (("q_len", q_len), ("k_len", k_len)):
        if isinstance(length, bool) or not isinstance(length, int) or length < 1:
            raise ValueError(f"{name} is {length!r}; it must be a whole number, 1 or more")
    if width < k_len:
        raise ValueError(f"width is {width}; each of the k_len = {k_len} keys needs a unit vector of its own")
    query, key = torch.zeros(1, 1, q_len, width), torch.zeros(1, 1, k_len, width)
    with torch.no_grad():
        out = attend(query, key, torch.eye(k_len, width)[None, None])
    if tuple(out.shape) != (1, 1, q_len, width):
        raise ValueError(f"attend returned shape {tuple(out.shape)}; it should be (1, 1, {q_len}, {width})")
    return out[0, 0, :, :k_len].float()


def visible(weights: Float[Tensor, "q_len k_len"]) -> Bool[Tensor, "q_len k_len"]:
    """Which keys had any weight. A row of nan saw nothing that can be named, so it counts as seeing none."""
    return weights.nan_to_num(0.0) > 0


def same_as(weights: Float[Tensor, "q_len k_len"], masks: Mapping[str, Mask]) -> list[str]:
    """The names of those masks that let through exactly what was seen, each row sharing its weight alike.

    Rows in which a mask hides everything must have weight 0. An empty list: it is none of these.
    """
    found = []
    for name, mask in masks.items():
        seen = mask.materialize(1, 1, *weights.shape)[0, 0].float()
        expected = seen / seen.sum(-1, keepdim=True).clamp(min=1)
        if torch.allclose(weights, expected, atol=1e-4):
            found.append(name)
    return found


def row_kind(row: Float[Tensor, " k_len"]) -> Row:
    """What one row of weights amounts to: "nothing" (zeros), "nan", the "mean of all" keys, or of "some" of them."""
    if bool(row.isnan().any()):
        return "nan"
    if bool((row == 0).all()):
        return "nothing"
    return "mean of all" if torch.allclose(row, torch.full_like(row, 1 / len(row)), atol=1e-4) else "some"
