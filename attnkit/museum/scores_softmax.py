"""Scores, first case: weights that are no softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnkit import attention
from attnkit.museum.base import randn, row, softmax, specimen

Rows = Float[Tensor, "*rows keys"]
Query = Float[Tensor, "q_len d"]
Key = Float[Tensor, "k_len d"]
Value = Float[Tensor, "k_len d_v"]
Out = Float[Tensor, "q_len d_v"]


@specimen(
    slug="minimum-shift",
    title="Softmax that subtracts the minimum",
    room="scores",
    seen=("a popular article",),
    chapter="idea/softmax#softmax-minimum",
    habit="go to extremes",
)
class MinimumShift:
    """Any shift of the scores is harmless on paper, and the minimum looks tidy. The large scores stay large."""

    @staticmethod
    def wrong(scores: Rows) -> Rows:
        lifted = torch.exp(scores - scores.amin(-1, keepdim=True))
        return lifted / lifted.sum(-1, keepdim=True)

    right = staticmethod(softmax)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        return {
            "weights of 0, 1, 2": row(f(torch.tensor([0.0, 1, 2]))),
            "weights of 0, 50, 100": row(f(torch.tensor([0.0, 50, 100]))),
        }

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """Small scores give torch's softmax."""
        scores = randn(4, 7)
        assert torch.allclose(f(scores), torch.softmax(scores, -1)), "differs from torch.softmax"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """Weights stay finite when scores lie far apart."""
        weights = f(torch.tensor([0.0, 50, 100]))
        assert weights.isfinite().all(), "a weight is not finite: the largest exponent must be 0"


@specimen(
    slug="no-max",
    title="Softmax that subtracts nothing",
    room="scores",
    seen=("the flash tests of a university course, which let it pass", "the handout of another, which asks for it"),
    chapter="idea/softmax#softmax-overflow",
    habit="go to extremes",
)
class NoMax:
    """The formula as it stands in the book. On paper exp has no largest argument; in float32 it ends near 88."""

    @staticmethod
    def wrong(scores: Rows) -> Rows:
        powers = torch.exp(scores)
        return powers / powers.sum(-1, keepdim=True)

    right = staticmethod(softmax)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        scores = torch.tensor([0.0, 1, 2])
        return {f"weights of 0, 1, 2, all {shift:+d}": row(f(scores + shift)) for shift in (0, 100, -200)}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """Standard normal scores give torch's softmax."""
        scores = randn(128, 64)
        assert torch.allclose(f(scores), torch.softmax(scores, -1)), "differs from torch.softmax"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """The same number added to all scores changes nothing."""
        scores = randn(4, 7, dtype=torch.float32)
        for shift in (100.0, -200.0):
            assert torch.allclose(f(scores + shift), f(scores), atol=1e-4), "a shift of all scores changed the weights"


@specimen(
    slug="whole-array",
    title="Softmax over the whole array",
    room="scores",
    seen=("a popular article", "a summer school's notebook"),
    chapter="idea/softmax#softmax-axis",
    habit="let no two sizes be equal",
)
class WholeArray:
    """`.max()` and `.sum()` without an axis. Written and tested on one row, where the row is the whole array."""

    @staticmethod
    def wrong(scores: Rows) -> Rows:
        powers = torch.exp(scores - scores.max())
        return powers / powers.sum()

    right = staticmethod(softmax)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        weights = f(randn(3, 4))
        return {"sum of each of 3 rows": row(weights.sum(-1)), "sum of all": row([weights.sum()])}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """One row of scores gives torch's softmax."""
        scores = randn(7)
        assert torch.allclose(f(scores), torch.softmax(scores, -1)), "differs from torch.softmax"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """Each of two rows sums to 1."""
        sums = f(randn(2, 3)).sum(-1)
        assert torch.allclose(sums, torch.ones(2).double()), f"rows sum to {row(sums)}: each query has a whole unit"


@specimen(
    slug="wrong-axis",
    title="Softmax over axis 1, whatever axis 1 is",
    room="scores",
    seen=("a popular article",),
    chapter="idea/softmax#softmax-axis",
    habit="compare the parts with the whole",
)
class WrongAxis:
    """Axis 1 holds the keys, until a batch axis comes in front. Then it holds the queries."""

    @staticmethod
    def wrong(scores: Rows) -> Rows:
        return torch.softmax(scores, dim=1)

    right = staticmethod(softmax)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        single, batch = f(randn(3, 4)), f(randn(1, 3, 4))
        return {"row sums of (3, 4)": row(single.sum(-1)), "row sums of (1, 3, 4)": row(batch.sum(-1))}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """A matrix of scores gives torch's softmax."""
        scores = randn(5, 7)
        assert torch.allclose(f(scores), torch.softmax(scores, -1)), "differs from torch.softmax"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """A batch of one gives what the one gives."""
        scores = randn(5, 7)
        assert torch.allclose(f(scores[None])[0], f(scores)), "a batch axis in front changed the weights"


@specimen(
    slug="plain-sums",
    title="Weights that are scores over their sum",
    room="scores",
    seen=("a popular article",),
    chapter="idea/scaled-dot-product#attention-values",
    habit="go to extremes",
)
class PlainSums:
    """Dividing by the sum makes anything sum to 1. Scores have signs, so their sum may be anything, also near 0."""

    @staticmethod
    def wrong(scores: Rows) -> Rows:
        return scores / scores.sum(-1, keepdim=True)

    right = staticmethod(softmax)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        return {f"weights of {row(s, 1)}": row(f(torch.tensor(s))) for s in ([1.0, 2.0, 5.0], [1.0, 2.0, -2.9])}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """Positive scores: rows sum to 1, and a higher score has a higher weight."""
        scores = randn(4, 7).abs()
        weights = f(scores)
        assert torch.allclose(weights.sum(-1), torch.ones(4).double()), "a row does not sum to 1"
        assert (weights.argsort(-1) == scores.argsort(-1)).all(), "weights are not in the order of the scores"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """No weight is negative."""
        least = f(torch.tensor([1.0, 2.0, -2.9])).min()
        assert least >= 0, f"a weight is {least:.0f}: a weight is a share, from 0 to 1"


@specimen(
    slug="softmax-of-output",
    title="Softmax of the output",
    room="scores",
    seen=("a popular article",),
    chapter="idea/scaled-dot-product#attention-values",
    habit="state the law",
)
class SoftmaxOfOutput:
    """All the right pieces, one bracket off: softmax(QK^T V) in place of softmax(QK^T) V."""

    @staticmethod
    def wrong(query: Query, key: Key, value: Value) -> Out:
        scores = query @ key.mT / query.shape[-1] ** 0.5
        return torch.softmax(scores @ value, dim=-1)

    @staticmethod
    def right(query: Query, key: Key, value: Value) -> Out:
        return attention(query[None, None], key[None, None], value[None, None])[0, 0]

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        query, key = randn(1, 4), randn(3, 4, seed=1)
        values = torch.tensor([[70.0, 0], [20, 10], [50, 20]]).double()
        return {"values 70, 20, 50 come out as": row([f(query, key, values)[0, 0]], 1)}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """Values that are distributions give distributions."""
        out = f(randn(5, 4), randn(7, 4, seed=1), softmax(randn(7, 3, seed=2)))
        assert out.min() >= 0, "a probability is negative"
        assert torch.allclose(out.sum(-1), torch.ones(5).double()), "a row does not sum to 1"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """Ten times the values give ten times the output."""
        query, key, value = randn(5, 4), randn(7, 4, seed=1), randn(7, 3, seed=2)
        once, ten_times = f(query, key, value), f(query, key, 10 * value)
        assert torch.allclose(ten_times, 10 * once), "the output is not linear in the values: it is no average of them"
