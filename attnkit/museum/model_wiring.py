"""The model, second case: wired or started wrongly."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attnkit.museum.base import randn, row, specimen
from attnkit.nn import Embedding, MultiHeadAttention

Rows = Float[Tensor, "rows width"]


@specimen(
    slug="projection-after-residual",
    title="The output projection after the sum",
    room="model",
    seen=("a popular article",),
    chapter="transformer/block#block-stream",
    habit="set one thing to zero",
)
class ProjectionAfterResidual:
    """The residual path is there so that a signal can pass a layer untouched. Here it is multiplied in every one."""

    @staticmethod
    def wrong(x: Rows, attended: Rows, w_out: Float[Tensor, "width width"]) -> Rows:
        return (x + attended) @ w_out

    @staticmethod
    def right(x: Rows, attended: Rows, w_out: Float[Tensor, "width width"]) -> Rows:
        return x + attended @ w_out

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        x = start = randn(4, 64)
        for layer in range(12):
            x = f(x, torch.zeros_like(x), 0.05 * randn(64, 64, seed=layer + 1))
        return {"12 layers that attend to nothing: what is left of x": f"{x.norm() / start.norm():.0%}"}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """With the identity for a projection: x plus what was attended to."""
        x, attended = randn(4, 8), randn(4, 8, seed=1)
        assert torch.allclose(f(x, attended, torch.eye(8).double()), x + attended), "not the sum"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """A projection of zeros leaves x as it was."""
        x, attended = randn(4, 8), randn(4, 8, seed=1)
        out = f(x, attended, torch.zeros(8, 8).double())
        assert torch.equal(out, x), "the stream did not pass: only what is added may be projected"


@specimen(
    slug="tied-init",
    title="A tied table that starts too large",
    room="model",
    seen=("`jsboige/CoursIA#12768`, where the text claims ln V for the first loss",),
    chapter="transformer/training#training-first-loss",
    habit="know one answer beforehand",
)
class TiedInit:
    """N(0, 1) is torch's default for an embedding. Used again as the output layer, each token votes for itself."""

    @staticmethod
    def wrong(vocab: int, d_model: int) -> Embedding:
        table = Embedding(vocab, d_model)
        nn.init.normal_(table.weight)
        return table

    right = staticmethod(Embedding)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        return {
            f"first loss, d_model {d} (ln V = {math.log(100):.1f})": row(first_loss(f(100, d)), 0) for d in (16, 256)
        }

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """Logits have the right shape, and a step of training lowers the loss."""
        table = f(100, 16).double()
        assert table.logits(table(torch.tensor([[3, 1, 4]]))).shape == (1, 3, 100), (
            "the shape is not (batch, len, vocab)"
        )
        before = first_loss(table)
        before.backward()
        with torch.no_grad():
            table.weight -= 1e-3 * table.weight.grad
        assert first_loss(table) < before, "the loss did not fall"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """A model that knows nothing has a loss of ln V."""
        loss, ln_v = first_loss(f(100, 64)).item(), math.log(100)
        assert abs(loss - ln_v) < 0.5, f"the first loss is {loss:.0f}, and ln V is {ln_v:.1f}: start smaller"


def first_loss(table: Embedding) -> Float[Tensor, ""]:
    """The loss of random next tokens, when the stream still holds little but the token that was read."""
    rng = torch.Generator().manual_seed(0)
    ids, following = torch.randint(100, (2, 1, 200), generator=rng)
    return F.cross_entropy(table.logits(table(ids))[0], following[0])


@specimen(
    slug="one-linear-attention",
    title="Self-attention that is one linear layer",
    room="model",
    seen=("a popular article",),
    chapter="idea/why-attention",
    habit="ask who hears of whom",
)
class OneLinearAttention:
    """A class called SelfAttention, with one nn.Linear inside. It trains and it helps a little, as any layer does."""

    class wrong(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.attention = nn.Linear(width, width)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x)

    @staticmethod
    def right(width: int) -> MultiHeadAttention:
        return MultiHeadAttention(width, heads=1)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        x = randn(1, 4, 8, dtype=torch.float32).requires_grad_()
        (heard,) = torch.autograd.grad(f(8)(x)[0, 0].sum(), x)
        return {"tokens that token 0 hears of": f"{int(heard[0].any(-1).sum())} of 4"}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """The shape is right, and every parameter gets a gradient."""
        module = f(8)
        out = module(randn(2, 5, 8, dtype=torch.float32))
        assert out.shape == (2, 5, 8), f"the output has shape {tuple(out.shape)}"
        out.sum().backward()
        assert all(p.grad is not None for p in module.parameters()), "a parameter has no gradient"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """Token 0 hears of token 1."""
        module, x = f(8), randn(1, 2, 8, dtype=torch.float32)
        other = x.clone()
        other[0, 1] += 1
        moved = (module(x) - module(other))[0, 0].abs().max().item()
        assert moved > 0, "token 0 did not hear of token 1: nothing attends here"
