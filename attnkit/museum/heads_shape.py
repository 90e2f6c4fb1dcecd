"""Heads, first case: split, transpose, merge. Every one of these has the right shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnkit import attention
from attnkit.museum.base import randn, row, specimen

Project = Callable[[Tensor], Tensor]
Tokens = Float[Tensor, "batch len width"]
HeadsInside = Float[Tensor, "batch len heads d"]
Heads = Float[Tensor, "batch heads len d"]


@specimen(
    slug="split-before-projection",
    title="Heads are cut before the projection",
    room="heads",
    seen=("a popular article", "`aladdinpersson/Machine-Learning-Collection#3`"),
    chapter="idea/many-heads#heads-reshape",
    habit="ask who hears of whom",
)
class SplitBeforeProjection:
    """Each head gets its own slice of the features, and all share one small matrix. No head sees the whole token."""

    @staticmethod
    def wrong(d_model: int, heads: int) -> Project:
        small = randn(d_model // heads, d_model // heads)
        return lambda x: (x.unflatten(-1, (heads, -1)) @ small).transpose(1, 2)

    @staticmethod
    def right(d_model: int, heads: int) -> Project:
        whole = randn(d_model, d_model)
        return lambda x: (x @ whole).unflatten(-1, (heads, -1)).transpose(1, 2)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        x = randn(1, 1, 16).requires_grad_()
        (seen,) = torch.autograd.grad(f(16, 4)(x)[0, 0].sum(), x)
        return {"4 heads of 4: features that head 0 reads": f"{int((seen != 0).sum())} of 16"}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """Four heads of the right shape; one head is one matrix."""
        assert f(16, 4)(randn(2, 5, 16)).shape == (2, 4, 5, 4), "the shape is not (batch, heads, length, d)"
        x = randn(2, 5, 16)
        assert torch.allclose(f(16, 1)(x)[:, 0], x @ randn(16, 16)), "one head is not x W"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """Every head hears of every feature."""
        project, x = f(16, 4), randn(1, 1, 16)
        other = x.clone()
        other[..., -1] += 1  # the last feature
        changed = (project(x) != project(other)).any(-1)
        assert changed.all(), f"{int((~changed).sum())} of 4 heads did not notice: each head must read the whole token"


@specimen(
    slug="heads-meet-heads",
    title="Heads attend to heads",
    room="heads",
    seen=("a popular article",),
    chapter="idea/many-heads#heads-reshape",
    habit="ask who hears of whom",
)
class HeadsMeetHeads:
    """Without the transpose the heads stand where positions should: each token mixes its own heads, and no other."""

    @staticmethod
    def wrong(query: HeadsInside, key: HeadsInside, value: HeadsInside) -> HeadsInside:
        scores = query @ key.mT / query.shape[-1] ** 0.5
        return scores.softmax(-1) @ value

    @staticmethod
    def right(query: HeadsInside, key: HeadsInside, value: HeadsInside) -> HeadsInside:
        q, k, v = (x.transpose(1, 2) for x in (query, key, value))
        return attention(q, k, v).transpose(1, 2)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        values = torch.arange(3).double().view(1, 3, 1, 1).expand(1, 3, 2, 4)  # token i has the value i
        out = f(randn(1, 3, 2, 4), randn(1, 3, 2, 4, seed=1), values)
        return {"tokens with values 0, 1, 2 get": row(out[0, :, 0, 0])}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """The shape is right, and values of 1 average to 1."""
        out = f(randn(2, 5, 4, 8), randn(2, 5, 4, 8, seed=1), torch.ones(2, 5, 4, 8).double())
        assert out.shape == (2, 5, 4, 8), f"the output has shape {tuple(out.shape)}"
        assert torch.allclose(out, torch.ones(1).double()), "an average of ones is not 1"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """The first token's output changes with the last token."""
        query, key, value = (randn(1, 5, 4, 8, seed=seed) for seed in range(3))
        other = value.clone()
        other[:, -1] += 1
        moved = (f(query, key, value) - f(query, key, other))[:, 0].abs().max()
        assert moved > 0, "the first token did not hear of the last one: positions never met"


@specimen(
    slug="reshape-without-transpose",
    title="Reshaped into heads, without the transpose",
    room="heads",
    seen=("`reczoo/FuxiCTR#30`",),
    chapter="idea/many-heads#heads-reshape",
    habit="compare the parts with the whole",
)
class ReshapeWithoutTranspose:
    """A reshape never moves a number. It cuts the sequence into as many pieces as there are heads."""

    @staticmethod
    def wrong(x: Tokens, heads: int) -> Heads:
        batch, length, width = x.shape
        return x.reshape(batch, heads, length, width // heads)

    @staticmethod
    def right(x: Tokens, heads: int) -> Heads:
        batch, length, width = x.shape
        return x.reshape(batch, length, heads, width // heads).transpose(1, 2)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        tokens = torch.arange(4).double().view(1, 4, 1).expand(1, 4, 2)  # token i holds i in both its features
        return {"tokens that head 0 sees": row(f(tokens, 2)[0, 0], 0), "head 1": row(f(tokens, 2)[0, 1], 0)}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """The shape is right, no number is lost, and one token or one head is right."""
        x = randn(2, 6, 8)
        assert f(x, 4).shape == (2, 4, 6, 2), "the shape is not (batch, heads, length, d)"
        assert torch.equal(f(x, 4).flatten().sort().values, x.flatten().sort().values), "a number is lost"
        assert torch.equal(f(x, 1)[:, 0], x), "one head is not x itself"
        assert torch.equal(f(x[:, :1], 4)[:, :, 0].flatten(1), x[:, 0]), "the heads of one token are not its features"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """Head h holds the features of slice h, at every position."""
        x = randn(2, 6, 8)
        for h, features in enumerate(x.split(2, dim=-1)):
            assert torch.equal(f(x, 4)[:, h], features), f"head {h} holds numbers of other features or positions"


@specimen(
    slug="merge-without-permute",
    title="Merged again, without the transpose",
    room="heads",
    seen=("`jsbaan/transformer-from-scratch#6`, where the copy task was still learned",),
    chapter="idea/many-heads#heads-reshape",
    habit="compare the parts with the whole",
)
class MergeWithoutPermute:
    """The way in was right. On the way out, `reshape` runs on (batch, heads, length, d), and tokens are shuffled."""

    @staticmethod
    def wrong(x: Heads) -> Tokens:
        batch, heads, length, d = x.shape
        return x.reshape(batch, length, heads * d)

    @staticmethod
    def right(x: Heads) -> Tokens:
        batch, heads, length, d = x.shape
        return x.transpose(1, 2).reshape(batch, length, heads * d)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        came_from = torch.arange(4).double().view(1, 1, 4, 1).expand(1, 2, 4, 1)  # token i holds i in each head
        return {f"token {i} is made of tokens": row(f(came_from)[0, i], 0) for i in range(4)}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """The shape is right, no number is lost, and one head is right."""
        x = randn(2, 4, 6, 2)
        assert f(x).shape == (2, 6, 8), "the shape is not (batch, length, width)"
        assert torch.equal(f(x).flatten().sort().values, x.flatten().sort().values), "a number is lost"
        assert torch.equal(f(x[:, :1]), x[:, 0]), "one head is not itself"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """Merged heads are the heads side by side, token by token."""
        x = randn(2, 4, 6, 2)
        side_by_side = torch.cat(x.unbind(1), dim=-1)
        assert torch.equal(f(x), side_by_side), "a token was put together from the heads of other tokens"
