"""Scores, second case: the wrong root, the wrong product, the wrong matrix averaged.

The roots share a case that is done by hand. One query is sqrt(d) in its first component, one key is ln 3 there, the
other key is 0. Divided by sqrt(d) the scores are ln 3 and 0, so the weights are 3/4 and 1/4; the values are 1 and 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnkit import attention
from attnkit.museum.base import Key, Out, Query, Value, randn, row, softmax, specimen

Queries = Float[Tensor, "q_len d"]
Keys = Float[Tensor, "k_len d"]


def by_hand(heads: int, d: int) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value whose output is 3/4 in every head."""
    query, key = torch.zeros(1, heads, 1, d).double(), torch.zeros(1, heads, 2, d).double()
    query[..., 0], key[:, :, 0, 0] = math.sqrt(d), math.log(3)
    return query, key, torch.tensor([[1.0], [0.0]]).double().expand(1, heads, 2, 1)


def shown_by_hand(f: Callable[..., Any], *sizes: tuple[int, int]) -> dict[str, str]:
    """The output of the case done by hand, for some numbers of heads and widths."""
    return {f"the weight 3/4, {h} head{'s' * (h > 1)} of {d}": row(f(*by_hand(h, d))[0, 0], 3) for h, d in sizes}


@specimen(
    slug="root-of-heads",
    title="The root of the number of heads",
    room="scores",
    seen=("a popular article",),
    chapter="idea/scaled-dot-product#attention-scale",
    habit="let no two sizes be equal",
)
class RootOfHeads:
    """One index off: axis 1 of (batch, heads, length, d) has a length too, and its root is a number like any other."""

    @staticmethod
    def wrong(query: Query, key: Key, value: Value) -> Out:
        scores = query @ key.mT / math.sqrt(query.shape[1])
        return scores.softmax(-1) @ value

    right = staticmethod(attention)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        return shown_by_hand(f, (8, 8), (8, 64), (2, 16))

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """Eight heads of eight components: 3/4 comes out."""
        assert torch.allclose(f(*by_hand(heads=8, d=8)), torch.tensor(0.75).double()), "the weight is not 3/4"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """The number of heads has no say in a head's weights."""
        two, eight = (f(*by_hand(heads, d=16))[0, 0] for heads in (2, 8))
        assert torch.allclose(two, eight), "the same head weighs otherwise among more heads"


@specimen(
    slug="root-of-model",
    title="The root of the model's width",
    room="scores",
    seen=("a popular article", "`aladdinpersson/Machine-Learning-Collection#30`"),
    chapter="idea/scaled-dot-product#attention-scale",
    habit="know one answer beforehand",
)
class RootOfModel:
    """`d` was d_model when there was one head, and nobody renamed it when the heads came."""

    @staticmethod
    def wrong(query: Query, key: Key, value: Value) -> Out:
        d_model = query.shape[1] * query.shape[3]
        scores = query @ key.mT / math.sqrt(d_model)
        return scores.softmax(-1) @ value

    right = staticmethod(attention)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        return shown_by_hand(f, (1, 64), (8, 64))

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """One head: equal to torch's attention."""
        query, key, value = randn(2, 1, 5, 8), randn(2, 1, 7, 8, seed=1), randn(2, 1, 7, 8, seed=2)
        right = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        assert torch.allclose(f(query, key, value), right), "differs from torch's attention"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """Two heads of sixteen: the weight that is 3/4 by hand."""
        weight = f(*by_hand(heads=2, d=16))[0, 0].item()
        assert abs(weight - 0.75) < 1e-9, f"the weight is {weight:.3f}, by hand 3/4: divide by the root of one head's d"


@specimen(
    slug="two-roots",
    title="One root for the keys, one more for the queries",
    room="scores",
    seen=("a popular article",),
    chapter="idea/scaled-dot-product#attention-scale",
    habit="state the law",
)
class TwoRoots:
    """It looks fair to tame both factors. But the scores, not the vectors, are to have variance 1: one root does it."""

    @staticmethod
    def wrong(query: Query, key: Key, value: Value) -> Out:
        scores = (query / math.sqrt(query.shape[-1])) @ (key / math.sqrt(key.shape[-1])).mT
        return scores.softmax(-1) @ value

    right = staticmethod(attention)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        query, key, one = randn(1, 1, 200, 64), randn(1, 1, 50, 64, seed=1), torch.eye(50).double()[None, None]
        return shown_by_hand(f, (8, 64)) | {"largest of 50 weights, mean": row([f(query, key, one).amax(-1).mean()], 3)}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """Each query's weights are in the order of its scores."""
        query, key, one = randn(1, 1, 20, 64), randn(1, 1, 9, 64, seed=1), torch.eye(9).double()[None, None]
        order = (query @ key.mT).argsort(-1)
        assert torch.equal(f(query, key, one).argsort(-1), order), "weights are not in the order of the scores"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """Scores of random vectors have variance near 1."""
        query, key, one = randn(1, 1, 200, 64), randn(1, 1, 50, 64, seed=1), torch.eye(50).double()[None, None]
        variance = f(query, key, one).log().var(-1).mean().item()  # the logarithm of a weight is its score, shifted
        assert 0.8 < variance < 1.2, f"the scores' variance is {variance:.2f}: the scale must make it 1"


@specimen(
    slug="integer-root",
    title="A root among integers",
    room="scores",
    seen=("a popular article takes the root of an integer tensor",),
    chapter="idea/scaled-dot-product#attention-scale",
    habit="let no two sizes be equal",
)
class IntegerRoot:
    """d is an integer, so its root is taken among the integers, which is right for 16, 64 and 256."""

    @staticmethod
    def wrong(query: Query, key: Key, value: Value) -> Out:
        scores = query @ key.mT / math.isqrt(query.shape[-1])
        return scores.softmax(-1) @ value

    right = staticmethod(attention)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        return shown_by_hand(f, (1, 64), (1, 128), (1, 8))

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """Heads of 16, 64 and 256 components: 3/4 comes out."""
        for d in (16, 64, 256):
            assert torch.allclose(f(*by_hand(1, d)), torch.tensor(0.75).double()), f"the weight is not 3/4 for d = {d}"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """Eight components, whose root is no integer: 3/4 comes out."""
        weight = f(*by_hand(heads=1, d=8)).item()
        assert abs(weight - 0.75) < 1e-9, f"the weight is {weight:.3f}, by hand 3/4: the root of 8 is not 2"


@specimen(
    slug="key-as-value",
    title="The keys are averaged, not the values",
    room="scores",
    seen=("a popular article never weighs the values", "`fchollet/deep-learning-with-python-notebooks#261`"),
    chapter="idea/scaled-dot-product#attention-values",
    habit="set one thing to zero",
)
class KeyAsValue:
    """In a first demonstration query, key and value are all x. Then it makes no difference which one is averaged."""

    @staticmethod
    def wrong(query: Query, key: Key, value: Value) -> Float[Tensor, "batch heads q_len d"]:
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        return scores.softmax(-1) @ key

    right = staticmethod(attention)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        query, key, value = by_hand(1, 4)
        four = value.expand(1, 1, 2, 4)
        return {"values 1 and 0 come out as": row(f(query, key, four)), "values 0 and 0": row(f(query, key, 0 * four))}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """Self-attention of x with x and x: equal to torch's."""
        x = randn(2, 2, 5, 8)
        right = torch.nn.functional.scaled_dot_product_attention(x, x, x)
        assert torch.allclose(f(x, x, x), right), "differs from torch's attention"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """Values of zero give zero."""
        query, key = randn(1, 1, 5, 8), randn(1, 1, 7, 8, seed=1)
        out = f(query, key, torch.zeros(1, 1, 7, 8).double())
        assert not out.any(), "values of zero gave something else: what is averaged must be the values"


@specimen(
    slug="outer-product",
    title="An outer product in place of QK^T",
    room="scores",
    seen=("a popular article",),
    chapter="idea/scaled-dot-product#attention-formula",
    habit="let no two sizes be equal",
)
class OuterProduct:
    """'Every element of Q with every element of K', taken at its word: each pair of numbers becomes a score."""

    @staticmethod
    def wrong(query: Queries, key: Keys) -> Float[Tensor, "rows columns"]:
        scores = torch.outer(query.flatten(), key.flatten()) / math.sqrt(query.shape[-1])
        return softmax(scores)

    @staticmethod
    def right(query: Queries, key: Keys) -> Float[Tensor, "rows columns"]:
        return softmax(query @ key.mT / math.sqrt(query.shape[-1]))

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        return {
            f"shape for 3 queries, 4 keys, d = {d}": str(tuple(f(randn(3, d), randn(4, d)).shape)) for d in (1, 2, 64)
        }

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """Vectors of one component: softmax of their products."""
        query, key = randn(3, 1), randn(4, 1, seed=1)
        assert torch.allclose(f(query, key), softmax(query * key.T)), "differs from the softmax of the products"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """One weight for each query and key, however wide they are."""
        shape = tuple(f(randn(3, 2), randn(4, 2, seed=1)).shape)
        assert shape == (3, 4), f"the weights have shape {shape}: one for each query and key is (3, 4)"
