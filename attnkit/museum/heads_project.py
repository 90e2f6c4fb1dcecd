"""Heads, second case: the wrong thing is projected, or kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnkit import attention
from attnkit.museum.base import randn, row, specimen

Matrix = Float[Tensor, "rows width"]
Square = Float[Tensor, "width width"]
Wide = Float[Tensor, "rows heads_times_width"]
Kept = Float[Tensor, "batch heads len d"]


def one_head(query: Matrix, key: Matrix, value: Matrix) -> Matrix:
    """Attention of one head, without the axes of batch and heads."""
    return attention(query[None, None], key[None, None], value[None, None])[0, 0]


@specimen(
    slug="overwritten-query",
    title="A loop that overwrites its input",
    room="heads",
    seen=("`fchollet/deep-learning-with-python-notebooks#261`",),
    chapter="idea/many-heads#heads-formula",
    habit="compare the parts with the whole",
)
class OverwrittenQuery:
    """The name `query` means the input before the first turn of the loop, and the last head's query after it."""

    @staticmethod
    def wrong(x: Matrix, projections: list[Square]) -> Wide:
        query, heads = x, []
        for weight in projections:
            query = query @ weight
            heads.append(one_head(query, x, x))
        return torch.cat(heads, dim=-1)

    @staticmethod
    def right(x: Matrix, projections: list[Square]) -> Wide:
        return torch.cat([one_head(x @ weight, x, x) for weight in projections], dim=-1)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        x, turn = randn(5, 2), torch.tensor([[0.0, 1], [-1, 0]]).double()  # each projection turns by 90 degrees
        heads = f(x, [turn, turn, turn]).split(2, dim=-1)
        return {f"head {h}, whose weights are those of head 0": row(heads[h][0]) for h in (0, 1, 2)}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """The shape is right, and so is the first head."""
        x, weights = randn(5, 4), [randn(4, 4, seed=seed) for seed in range(3)]
        assert f(x, weights).shape == (5, 12), "three heads of 4 are not 12 wide"
        assert torch.allclose(f(x, weights)[:, :4], one_head(x @ weights[0], x, x)), "the first head is wrong"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """The last head among others is what it is alone."""
        x, weights = randn(5, 4), [randn(4, 4, seed=seed) for seed in range(3)]
        alone = f(x, weights[-1:])
        assert torch.allclose(f(x, weights)[:, -4:], alone), "a head depends on the heads before it"


@specimen(
    slug="value-by-key-weights",
    title="Values projected by the keys' weights",
    room="heads",
    seen=("`yflyzhang/AnnotatedTransformer#1`",),
    chapter="idea/many-heads#heads-formula",
    habit="set one thing to zero",
)
class ValueByKeyWeights:
    """Three lines that look alike, copied, and one letter not changed. The model trains, with a matrix to spare."""

    @staticmethod
    def wrong(x: Matrix, w_query: Square, w_key: Square, w_value: Square) -> Matrix:
        query = x @ w_query
        key = x @ w_key
        value = x @ w_key
        return one_head(query, key, value)

    @staticmethod
    def right(x: Matrix, w_query: Square, w_key: Square, w_value: Square) -> Matrix:
        return one_head(x @ w_query, x @ w_key, x @ w_value)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        x, weights = randn(5, 4), [randn(4, 4, seed=seed).requires_grad_() for seed in (1, 2, 3)]
        f(x, *weights).square().sum().backward()
        sizes = [0.0 if w.grad is None else float(w.grad.norm()) for w in weights]
        names = ("query", "key", "value")
        return {f"does the {n} matrix learn?": "yes" if s > 0 else "no" for n, s in zip(names, sizes, strict=True)}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """Matrices that all begin as the identity: plain self-attention."""
        x, one = randn(5, 4), torch.eye(4).double()
        assert torch.allclose(f(x, one, one, one), one_head(x, x, x)), "not plain self-attention"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """A value matrix of zeros gives zeros."""
        out = f(randn(5, 4), randn(4, 4, seed=1), randn(4, 4, seed=2), torch.zeros(4, 4).double())
        assert not out.any(), "a value matrix of zeros did not give zeros: it is not used"


@specimen(
    slug="repeated-cache",
    title="Keys repeated first, cached after",
    room="heads",
    seen=("`datawhalechina/llm-algo-leetcode#146`",),
    chapter="idea/many-heads#heads-share",
    habit="move it, save it, count it",
)
class RepeatedCache:
    """Grouped queries share keys, so that the cache is small. Repeated before it is filled, it is as big as ever."""

    @staticmethod
    def wrong(key: Kept, value: Kept, heads: int) -> tuple[Tensor, Tensor]:
        groups = heads // key.shape[1]
        return key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)

    @staticmethod
    def right(key: Kept, value: Kept, heads: int) -> tuple[Tensor, Tensor]:
        return key, value

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        key = randn(1, 2, 1024, 64, dtype=torch.float16)
        held = sum(x.nbytes for x in f(key, key, 8))
        return {"bytes for 1024 tokens, 8 heads on 2 key heads of 64": f"{held:,}"}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """Attention to what is cached is attention to the keys."""
        query, key, value = randn(1, 8, 3, 4), randn(1, 2, 6, 4, seed=1), randn(1, 2, 6, 4, seed=2)
        out = attention(query, *f(key, value, 8))
        assert torch.allclose(out, attention(query, key, value)), "the output is another"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """The cache has as many bytes as the formula says."""
        key = randn(1, 2, 6, 4, dtype=torch.float16)
        held, formula = sum(x.nbytes for x in f(key, key, 8)), 2 * 1 * 2 * 6 * 4 * 2
        assert held == formula, f"the cache holds {held} bytes; 2 x batch x kv_heads x length x d x 2 is {formula}"
