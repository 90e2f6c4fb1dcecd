"""The feed-forward against its formulas in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from attnkit.nn import FeedForward
from tests.nn.copies import assert_near, lively, noise


def phi(x: Tensor) -> Tensor:
    return (1 + torch.erf(x / math.sqrt(2))) / 2


def tanh_phi(x: Tensor) -> Tensor:
    return (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


FORMULAS = {
    "relu": lambda x, gate: x.clamp(min=0),
    "gelu": lambda x, gate: x * phi(x),
    "gelu_tanh": lambda x, gate: x * tanh_phi(x),
    "silu": lambda x, gate: x / (1 + torch.exp(-x)),
    "swiglu": lambda x, gate: gate / (1 + torch.exp(-gate)) * x,
    "geglu": lambda x, gate: gate * phi(gate) * x,
}


@pytest.mark.parametrize("activation", FORMULAS)
@pytest.mark.parametrize("bias", [True, False])
def test_each_activation_is_its_formula(activation: str, bias: bool) -> None:
    module, x = lively(FeedForward(8, 24, activation=activation, bias=bias)), noise(2, 5, 8)

    def project(linear: torch.nn.Linear | None, x: Tensor) -> Tensor:
        out = x if linear is None else x @ linear.weight.T
        return out if linear is None or linear.bias is None else out + linear.bias

    hidden = FORMULAS[activation](project(module.up, x), project(module.gate, x))
    assert_near(module(x), project(module.down, hidden))
    assert len(list(module.parameters())) == (3 if "glu" in activation else 2) * (2 if bias else 1)


def test_the_two_gelus_differ() -> None:
    """The tanh form is off by up to about 5e-4, enough to spoil parity with GPT-2."""
    exact, approximate = FeedForward(8, 24, activation="gelu"), FeedForward(8, 24, activation="gelu_tanh")
    approximate.load_state_dict(exact.state_dict())
    x = 4 * torch.randn(2, 50, 8, generator=torch.Generator().manual_seed(0))
    assert 1e-5 < float((exact(x) - approximate(x)).detach().abs().max()) < 1e-2


def test_each_position_is_for_itself() -> None:
    module, x = FeedForward(8, 24, activation="swiglu").double(), noise(2, 5, 8)
    assert_near(torch.cat([module(x[:, i : i + 1]) for i in range(5)], 1), module(x))


def test_dropout_falls_on_the_hidden_vector() -> None:
    module = FeedForward(8, 24, dropout=0.999999)
    torch.manual_seed(0)
    assert torch.equal(module(torch.ones(1, 4, 8)), module.down.bias.expand(1, 4, 8))
    assert bool(module.eval()(torch.ones(1, 4, 8)).any())


def test_an_unknown_activation_is_named() -> None:
    with pytest.raises(ValueError, match=r"activation is 'swish'.*'silu'"):
        FeedForward(8, 24, activation="swish")
