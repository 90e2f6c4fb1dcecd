"""The way through the weight is another for a few rows; the result is the same."""

from __future__ import annotations

import doctest

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attnkit.models import GPT, GPTConfig
from attnkit.nn import Linear, linear


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("d_out", [1, 47, 48, 96, 101, 768])
@pytest.mark.parametrize("shape", [(4,), (8,), (2, 3), (1, 5, 1), (0,)])
def test_blocks_give_what_the_formula_gives(shape: tuple[int, ...], d_out: int, bias: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(*shape, 33, generator=rng, dtype=torch.float64)
    weight, shift = (torch.randn(*s, generator=rng, dtype=torch.float64) for s in ((d_out, 33), (d_out,)))
    added = shift if bias else None
    torch.testing.assert_close(linear.in_blocks(x, weight, added), F.linear(x, weight, added), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("rows", "taken"), [(1, False), (3, False), (4, True), (8, True), (9, False), (64, False)])
def test_it_is_taken_for_a_few_rows_of_a_large_weight(rows: int, taken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(linear, "in_blocks", lambda *given: calls.append(given) or F.linear(*given))
    large, small = Linear(512, 512), Linear(16, 16)
    with torch.no_grad():
        large(torch.ones(rows, 1, 512))
        small(torch.ones(rows, 1, 16))
    assert len(calls) == taken


@pytest.mark.parametrize("why", ["gradient", "float64", "autocast", "meta", "transposed"])
def test_everything_else_is_left_to_torch(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "in_blocks", lambda *_: pytest.fail("not for this"))
    layer, x = Linear(512, 512), torch.ones(4, 512)
    if why == "transposed":
        layer.weight.data = layer.weight.data.t()
    if why in ("float64", "meta"):
        layer, x = (y.to(why if why == "meta" else torch.float64) for y in (layer, x))
    with torch.set_grad_enabled(why == "gradient"), torch.autocast("cpu", enabled=why == "autocast"):
        assert layer(x).shape == (4, 512)


def test_parameters_and_names_are_those_of_torch() -> None:
    ours, theirs = Linear(5, 3), nn.Linear(5, 3)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(7, 5)
    assert torch.equal(ours(x), theirs(x))


def test_a_model_says_the_same_to_four_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of decoding through whole layers, with the blocks and without."""
    model = GPT(GPTConfig(vocab=1000, context=8, d_model=512, heads=4, layers=1, d_hidden=1024)).eval()
    ids = torch.arange(4)[:, None]
    with torch.no_grad():
        several = model(ids)
        monkeypatch.setattr(linear, "FEW", range(0))
        torch.testing.assert_close(several, model(ids), rtol=1e-4, atol=1e-4)


def test_the_example_in_the_docstring() -> None:
    assert doctest.testmod(linear).failed == 0
