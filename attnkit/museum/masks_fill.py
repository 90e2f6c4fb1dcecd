"""Masks, first case: what is done to a score that is hidden."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnkit.backends.naive import softmax_rows
from attnkit.museum.base import randn, row, softmax, specimen

Scores = Float[Tensor, "queries keys"]
Visible = Bool[Tensor, "queries keys"]


def masked_softmax(scores: Scores, visible: Visible) -> Scores:
    """The right one: hidden scores become -inf before the softmax, and a row that sees nothing gets zeros."""
    return softmax_rows(scores.masked_fill(~visible, float("-inf"))[None, None])[0][0, 0]


def two_of_four(queries: int) -> Visible:
    """Padding: of four keys the first two are real."""
    return (torch.arange(4) < 2).expand(queries, 4)


def one_blind() -> Visible:
    """Two queries and four keys. The second query may see none."""
    return torch.stack([torch.ones(4), torch.zeros(4)]).bool()


@specimen(
    slug="finite-sentinel",
    title="A number that is surely low enough",
    room="masks",
    seen=(
        "five well-known courses, with -1e5 to -9e15 for the number",
        "`NVIDIA/apex#1052`",
        "`bentrevett/pytorch-seq2seq#191`, mended there with -1e4",
    ),
    chapter="idea/scaled-dot-product#attention-mask",
    habit="go to extremes",
)
class FiniteSentinel:
    """-1e9 does not fit into float16, so it becomes -1e4, which does. So do scores of -2e4."""

    @staticmethod
    def wrong(scores: Scores, visible: Visible) -> Scores:
        return softmax(scores.masked_fill(~visible, -1e4))

    right = staticmethod(masked_softmax)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        scores = torch.tensor([[2.0, 1.0, 0.0, 0.0]])
        return {f"weights, scores {shift:+,.0f}": row(f(scores + shift, two_of_four(1))) for shift in (0, -9_999, -2e4)}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """Ordinary scores: hidden weights are exactly 0, rows sum to 1."""
        weights = f(randn(5, 4, dtype=torch.float16), two_of_four(5))
        assert not weights[:, 2:].any(), "a hidden key has a weight"
        assert torch.allclose(weights.float().sum(-1), torch.ones(5), atol=1e-2), "a row does not sum to 1"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """A hidden weight is exactly 0, however low the visible scores are."""
        leak = f(randn(5, 4) - 2e4, two_of_four(5))[:, 2:].sum(-1).max().item()
        assert leak == 0, f"hidden keys got {leak:.2f} of a row: a hidden weight must be exactly 0"


@specimen(
    slug="masked-row-nan",
    title="Minus infinity everywhere, and a row of NaN",
    room="masks",
    seen=("`pytorch/pytorch#103749`", "`pytorch/pytorch#103963`", "`allenai/OLMo#322`"),
    chapter="idea/masks#masks-empty",
    habit="go to extremes",
)
class MaskedRowNaN:
    """Right for every row that sees something. A row that sees nothing computes 0/0, and NaN spreads from there."""

    @staticmethod
    def wrong(scores: Scores, visible: Visible) -> Scores:
        return softmax(scores.masked_fill(~visible, float("-inf")))

    right = staticmethod(masked_softmax)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        weights, values = f(randn(2, 4), one_blind()), randn(4, 1).requires_grad_()
        (gradient,) = torch.autograd.grad((weights @ values).square().sum(), values)
        return {"weights of the blind row": row(weights[1]), "gradient of the four values": row(gradient)}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """A causal mask, under which every row sees itself: torch's softmax."""
        scores, visible = randn(6, 6), torch.ones(6, 6).tril().bool()
        right = torch.softmax(scores.masked_fill(~visible, float("-inf")), -1)
        assert torch.allclose(f(scores, visible), right), "differs from torch.softmax"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """A row that sees nothing: weights 0, and no NaN on the way back."""
        scores = randn(2, 4).requires_grad_()
        weights = f(scores, one_blind())
        assert not weights[1].any(), f"a row that sees nothing has weights {row(weights[1])}: they must be 0"
        (gradient,) = torch.autograd.grad(weights.square().sum(), scores)
        assert not gradient[1].any(), "the gradient of a row that sees nothing is not 0"


@specimen(
    slug="masked-row-average",
    title="A row that sees nothing averages the padding",
    room="masks",
    seen=("`d2l-ai/d2l-en#2423`, a mending that was not merged",),
    chapter="idea/masks#masks-empty",
    habit="go to extremes",
)
class MaskedRowAverage:
    """The usual cure for the NaN. Where all scores are the lowest number, all are equal: a plain mean of padding."""

    @staticmethod
    def wrong(scores: Scores, visible: Visible) -> Scores:
        return softmax(scores.masked_fill(~visible, torch.finfo(scores.dtype).min))

    right = staticmethod(masked_softmax)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        weights = f(randn(2, 4), one_blind())
        values = torch.tensor([3.0, 1, 4, 1]).double()
        return {
            "weights of the blind row": row(weights[1]),
            "it makes of the values 3, 1, 4, 1": row([weights[1] @ values]),
        }

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """A row that sees nothing gives no NaN, and one that sees something leaks nothing."""
        assert f(randn(2, 4), one_blind()).isfinite().all(), "a weight is not finite"
        assert not f(randn(5, 4) - 1e4, two_of_four(5))[:, 2:].any(), "a hidden key has a weight"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """What is hidden from a row has no influence on it."""
        out = f(randn(2, 4), one_blind())[1] @ torch.tensor([3.0, 1, 4, 1]).double()
        assert out == 0, f"a row that sees nothing returned {out:.2f}: it must be 0"


@specimen(
    slug="mask-added",
    title="Zeros and ones, added",
    room="masks",
    seen=("`bkitano/llama-from-scratch#6`",),
    chapter="idea/scaled-dot-product#attention-mask",
    habit="state the law",
)
class MaskAdded:
    """A mask that is added must hold 0 and -inf. This one holds 1 and 0: it lifts the visible scores a little."""

    @staticmethod
    def wrong(scores: Scores, visible: Visible) -> Scores:
        return softmax(scores + visible.to(scores.dtype))

    right = staticmethod(masked_softmax)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        return {"weights of 0, 0 and hidden 0, 0": row(f(torch.zeros(1, 4), two_of_four(1)))}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """Nothing hidden: torch's softmax; something hidden: its weights fall."""
        scores = randn(5, 4)
        assert torch.allclose(f(scores, torch.ones(5, 4).bool()), torch.softmax(scores, -1)), "not torch's softmax"
        falls = f(scores, two_of_four(5))[:, 2:] < torch.softmax(scores, -1)[:, 2:]
        assert falls.all(), "a hidden key did not lose weight"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """A hidden weight is exactly 0."""
        leak = f(torch.zeros(1, 4), two_of_four(1))[0, 2:].sum().item()
        assert leak == 0, f"hidden keys got {leak:.2f} of the row: a hidden weight must be exactly 0"


@specimen(
    slug="mask-after-softmax",
    title="The mask after the softmax",
    room="masks",
    seen=("`huggingface/pytorch-image-models#2236`",),
    chapter="idea/scaled-dot-product#attention-mask",
    habit="state the law",
)
class MaskAfterSoftmax:
    """The hidden weights are exactly 0, as they should be. The visible ones have paid for them already."""

    @staticmethod
    def wrong(scores: Scores, visible: Visible) -> Scores:
        return softmax(scores) * visible

    right = staticmethod(masked_softmax)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        low, high = torch.zeros(1, 4), torch.tensor([[0.0, 0, 5, 5]])
        return {
            "weights of 0, 0 and hidden 0, 0": row(f(low, two_of_four(1))),
            "weights of 0, 0 and hidden 5, 5": row(f(high, two_of_four(1)), 3),
        }

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """Hidden weights are exactly 0, also in a row that sees nothing."""
        assert not f(randn(5, 4), two_of_four(5))[:, 2:].any(), "a hidden key has a weight"
        assert not f(randn(2, 4), one_blind())[1].any(), "a row that sees nothing has a weight"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """Each row that sees something sums to 1."""
        least = f(randn(5, 4), two_of_four(5)).sum(-1).min().item()
        assert abs(least - 1) < 1e-6, f"a row sums to {least:.2f}: the visible weights share the whole unit"
