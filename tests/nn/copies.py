"""What the tests of the layers share: torch's modules with lively weights, and their gradients in our layout."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

EXACT = 1e-12  # the greatest absolute difference to torch.nn, in float64


def lively(module: nn.Module) -> Any:
    """The module in float64, with no bias left at zero and no norm at one."""
    rng = torch.Generator().manual_seed(1)
    module.double()
    with torch.no_grad():
        for p in module.parameters():
            p += 0.1 * torch.randn(p.shape, generator=rng, dtype=torch.float64)
    return module


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers in float64 that want a gradient."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=rng, dtype=torch.float64, requires_grad=True)


def assert_same(own: nn.Module, other: Any, out: Tensor, want: Tensor, inputs: list[Tensor]) -> None:
    """Outputs are the same, and after a backward pass the gradients of all inputs and of every parameter."""
    assert out.shape == want.shape
    assert_near(out, want)
    slope = noise(*out.shape, seed=9).detach()
    for got, expected in zip(
        torch.autograd.grad(out, inputs, slope, retain_graph=True),
        torch.autograd.grad(want, inputs, slope, retain_graph=True),
        strict=True,
    ):
        assert_near(got, expected)
    out.backward(slope, inputs=list(own.parameters()))
    want.backward(slope, inputs=list(other.parameters()))
    expected = gradients_as_ours(type(own), other)
    got = {name: p.grad for name, p in own.named_parameters()}
    assert got.keys() == expected.keys()
    for name, gradient in got.items():
        assert_near(gradient, expected[name])
    assert any(g.abs().max() > 0.1 for g in got.values())


def assert_near(got: Tensor, want: Tensor) -> None:
    assert float((got - want).detach().abs().max()) <= EXACT


def gradients_as_ours(kind: Any, other: nn.Module) -> dict[str, Tensor]:
    """Torch's gradients under our names: a module whose weights are the gradients, copied as weights are."""
    stand_in = copy.deepcopy(other)
    with torch.no_grad():
        for p, q in zip(stand_in.parameters(), other.parameters(), strict=True):
            p.copy_(q.grad)
    return dict(kind.from_torch(stand_in).named_parameters())
