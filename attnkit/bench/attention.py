"""Attention beside PyTorch's own: dispatch cost, the blocked backend's speed and memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attnkit.attention import attention
from attnkit.bench.measure import interleaved, peak_extra_megabytes
from attnkit.bench.report import Row
from attnkit.masks import Causal

PEER = "F.scaled_dot_product_attention"


def suite(rounds: int = 21, long: int = 16_384) -> list[Row]:
    """Every row, in one run. `long` is the length of the memory measurement."""
    return [
        *dispatch(rounds),
        *online(rounds),
        memory(long),
    ]


def _inputs(*shape: int, grad: bool = False) -> list[Float[Tensor, "batch heads length d"]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator).requires_grad_(grad) for _ in range(3)]


def dispatch(rounds: int) -> list[Row]:
    """What the front door costs: `attention(backend="auto")` over the call that it ends in."""
    qkv = _inputs(4, 8, 512, 64)
    rows = []
    for name, mask in (("plain", None), ("causal", Causal())):
        ours = partial(attention, *qkv, mask=mask)
        peer = partial(_sdpa, *qkv, is_causal=mask is not None)
        samples = interleaved(ours, peer, 6 * rounds)
        rows.append(Row(f"auto, {name}, B4 H8 L512 D64 float32", *samples, PEER, goal=1.03))
    return rows


def online(rounds: int) -> list[Row]:
    """The blocked backend against the fused CPU kernel of PyTorch."""
    rows = []
    for length in (1024, 2048):
        for name, mask in (("plain", None), ("causal", Causal())):
            for what, goal, step in (("forward", 1.5, _forward), ("forward + backward", 2.0, _forward_backward)):
                qkv = _inputs(1, 8, length, 64, grad=step is _forward_backward)
                ours = step(partial(attention, mask=mask, backend="online"), qkv)
                peer = step(partial(_sdpa, is_causal=mask is not None), qkv)
                samples = interleaved(ours, peer, rounds if step is _forward_backward else 3 * rounds)
                rows.append(Row(f"online, {what}, {name}, B1 H8 L{length} D64", *samples, PEER, goal=goal))
    return rows


def _sdpa(query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, is_causal=is_causal)


def _forward(function: Callable[..., Tensor], qkv: list[Tensor]) -> Callable[[], object]:
    def run() -> object:
        with torch.no_grad():
            return function(*qkv)

    return run


def _forward_backward(function: Callable[..., Tensor], qkv: list[Tensor]) -> Callable[[], object]:
    def run() -> object:
        return torch.autograd.grad(function(*qkv).sum(), qkv)

    return run


def memory(length: int) -> Row:
    """Peak extra memory of a forward and backward pass, one head of width 64."""
    return Row(
        f"online, peak extra memory, forward + backward, L{length} D64",
        [peak_extra_megabytes("online", length)],
        [peak_extra_megabytes("naive", length)],
        "naive",
        unit="MB",
        goal=100.0,
        against_peer=False,
    )
