"""What torch.compile makes of the fused backend, without a graph break: one "ok" for each call. See test_ops.py."""

from __future__ import annotations

import torch
import torch._dynamo.testing
from torch import Tensor

from attnkit import attention
from attnkit.kernels import tiles
from attnkit.masks import Causal, Document, Padding, Prefix, Window
from attnkit.positions import LinearBias

CALLS = {
    "plain": lambda n: {},
    "causal": lambda n: {"mask": Causal()},
    "window": lambda n: {"mask": Window(3, 0)},
    "padding and causal": lambda n: {"mask": Causal() & Padding(torch.tensor([n - 2, 3]))},
    "prefix": lambda n: {"mask": Prefix([2, 3]) | Causal()},
    "documents": lambda n: {"mask": Document([0] * 3 + [1] * (n - 3)) & Causal()},
    "linear bias": lambda n: {"bias": LinearBias(torch.tensor([0.5, 0.25]))},
    "softcap": lambda n: {"softcap": 5.0, "mask": Causal()},
}


def qkv(length: int) -> list[Tensor]:
    return [torch.randn(2, 2, length, 8).requires_grad_() for _ in range(3)]


def step(q: Tensor, k: Tensor, v: Tensor, options: dict) -> Tensor:
    return attention(q, k, v, backend="fused", **options)


def check(name: str) -> None:
    """Forward and backward at three lengths; the second may make a graph for all lengths, the third may not."""
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(step, backend=counter, fullgraph=True, dynamic=True)
    for length in (9, 17, 12):
        tensors, options = qkv(length), CALLS[name](length)
        want, got = step(*tensors, options), compiled(*tensors, options)
        up = torch.randn_like(want)
        pairs = zip(*(torch.autograd.grad(x, tensors, up) for x in (want, got)), strict=True)
        assert torch.equal(want, got), name
        assert all(torch.equal(a, b) for a, b in pairs), name
    assert counter.frame_count <= 2, f"{name}: a new length made a new graph, {counter.frame_count} in all"


def check_dropout() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda *x: attention(*x, dropout=0.5, backend="fused"), backend="aot_eager", fullgraph=True
    )
    tensors, draws = qkv(16), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(compiled(*tensors))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


if __name__ == "__main__":
    tiles.choose = lambda *a, **k: tiles.Tile(8, 8, 4, 1)
    torch.manual_seed(0)
    for call in CALLS:
        check(call)
        print("ok", flush=True)
    check_dropout()
    print("ok")
