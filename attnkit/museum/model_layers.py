"""The model, first case: norms that are nearly right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attnkit.museum.base import randn, row, specimen

Rows = Float[Tensor, "*rows width"]
Sublayer = Callable[[Tensor], Tensor]


def layer_norm(x: Rows, eps: float = 1e-5) -> Rows:
    """torch's own, without weight and bias: (x - mean) / sqrt(variance + eps), over the last axis."""
    return F.layer_norm(x, x.shape[-1:], eps=eps)


@specimen(
    slug="norm-placement",
    title="Says post-norm, computes pre-norm",
    room="model",
    seen=(
        "a well-known line-by-line commentary: `harvardnlp/annotated-transformer#92`",
        "`harvardnlp/annotated-transformer#110`",
    ),
    chapter="transformer/block#block-order",
    habit="state the law",
)
class NormPlacement:
    """The paper prints norm(x + f(x)). Much code that quotes it computes x + f(norm(x)). Both train; they differ."""

    @staticmethod
    def wrong(x: Rows, sublayer: Sublayer) -> Rows:
        """norm(x + sublayer(x)), as in equation so-and-so."""
        return x + sublayer(layer_norm(x))

    @staticmethod
    def right(x: Rows, sublayer: Sublayer) -> Rows:
        return layer_norm(x + sublayer(x))

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        x = 5 * randn(4, 8)
        for layer in range(6):
            weight = randn(8, 8, seed=layer + 1)
            x = f(x, lambda y, weight=weight: y @ weight)
        return {"spread of a row after 6 layers": row(x.std(-1, correction=0).mean())}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """A layer that adds nothing leaves a normalised stream alone."""
        x = layer_norm(randn(4, 8), eps=0.0)
        assert torch.allclose(f(x, torch.zeros_like), x, atol=1e-4), "a layer that adds nothing changed the stream"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """What leaves a post-norm layer has mean 0 and variance 1."""
        out = f(5 * randn(4, 8), lambda y: y @ randn(8, 8, seed=1))
        variance = out.var(-1, correction=0).mean().item()
        assert abs(variance - 1) < 0.01, f"rows leave with variance {variance:.0f}: post-norm normalises the sum"


@specimen(
    slug="eps-outside-root",
    title="Epsilon outside the root",
    room="model",
    seen=("a well-known line-by-line commentary",),
    chapter="transformer/block#block-norm",
    habit="go to extremes",
)
class EpsOutsideRoot:
    """`/ (std + eps)` where the definition has `/ sqrt(variance + eps)`. At eps = 1e-5 nobody sees it."""

    @staticmethod
    def wrong(x: Rows, eps: float) -> Rows:
        mean, std = x.mean(-1, keepdim=True), x.std(-1, correction=0, keepdim=True)
        return (x - mean) / (std + eps)

    @staticmethod
    def right(x: Rows, eps: float) -> Rows:
        return layer_norm(x, eps)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        x = torch.tensor([-1.0, 1.0]).double()
        return {
            "the row -1, 1 with eps 1e-5": row(f(x, 1e-5), 3),
            "the row -1, 1 with eps 0.1": row(f(x, 0.1), 3),
            "the row -0.001, 0.001 with eps 1e-5": row(f(x / 1000, 1e-5), 3),
        }

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """Ordinary rows and the usual eps: torch's layer norm, to four digits."""
        x = randn(4, 64)
        assert torch.allclose(f(x, 1e-5), F.layer_norm(x, (64,), eps=1e-5), atol=1e-4), "not torch's layer norm"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """With eps = 0.1, where one can see it: torch's layer norm."""
        x = randn(4, 64)
        off = (f(x, 0.1) - F.layer_norm(x, (64,), eps=0.1)).abs().max().item()
        assert off < 1e-6, f"off by {off:.2f} when eps is large: it belongs under the root"


@specimen(
    slug="unbiased-std",
    title="The statistician's standard deviation",
    room="model",
    seen=("a well-known line-by-line commentary", "whoever calls `x.std()`"),
    chapter="transformer/block#block-norm",
    habit="know one answer beforehand",
)
class UnbiasedStd:
    """`x.std()` divides by n - 1, as one does to estimate from a sample. A layer norm estimates nothing: n."""

    @staticmethod
    def wrong(x: Rows) -> Rows:
        return (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)

    @staticmethod
    def right(x: Rows) -> Rows:
        return layer_norm(x)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        return {f"mean square of a row, width {d}": row([f(randn(1, d)).square().mean()], 3) for d in (512, 16, 2)}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """Rows 512 wide: torch's layer norm, to two digits."""
        x = randn(4, 512)
        assert torch.allclose(f(x), F.layer_norm(x, (512,)), atol=1e-2), "not torch's layer norm"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """Rows of two numbers come out as -1 and 1."""
        out = f(torch.tensor([[3.0, 7.0]]).double())
        assert torch.allclose(out, torch.tensor([[-1.0, 1.0]]).double(), atol=1e-4), (
            f"3, 7 became {row(out)}, not -1, 1: divide the sum of squares by n, not n - 1"
        )
