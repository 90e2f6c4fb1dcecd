"""What is known of the order of tokens: nothing without positions, a little from a causal mask, a step from a wave."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from attnkit import attention
from attnkit.masks import Causal
from attnkit.nn import Config, Encoder
from attnkit.positions import Rotary, Sinusoidal

F64 = torch.float64


def stack(layers: int) -> Encoder:
    torch.manual_seed(0)
    return Encoder(Config(d_model=16, heads=4, d_hidden=32, layers=layers)).double().eval()


def tokens(length: int = 5) -> torch.Tensor:
    return torch.randn(1, length, 16, dtype=F64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layers", [1, 3])
def test_without_positions_the_order_of_tokens_is_the_order_of_outputs_and_no_more(layers: int) -> None:
    model, x = stack(layers), tokens()
    out = model(x)
    for order in permutations(range(5)):
        torch.testing.assert_close(model(x[:, order]), out[:, order])


def test_with_positions_it_is_more() -> None:
    model, x, at = stack(1), tokens(), torch.arange(5)[None]
    order = [4, 3, 2, 1, 0]
    out, other = (model(Sinusoidal(16).embed(y, at)) for y in (x, x[:, order]))
    assert not torch.allclose(other, out[:, order])


@pytest.mark.parametrize(("layers", "bag"), [(1, True), (2, False)])
def test_under_a_causal_mask_one_layer_sees_a_bag_and_two_see_an_order(layers: int, bag: bool) -> None:
    model, x = stack(layers), tokens()
    ends = torch.stack([model(x[:, [*order, 4]], mask=Causal())[0, -1] for order in permutations(range(4))])
    assert torch.allclose(ends, ends[:1].expand_as(ends)) == bag


def test_a_causal_mask_counts() -> None:
    mark = torch.zeros(1, 1, 50, 1, dtype=F64)
    mark[..., 0, :] = 1
    zero = torch.zeros(1, 1, 50, 4, dtype=F64)
    told = attention(zero, zero, mark, mask=Causal())[0, 0, :, 0]
    torch.testing.assert_close(1 / told, torch.arange(1, 51, dtype=F64))


@pytest.mark.parametrize("layout", ["interleaved", "half"])
@pytest.mark.parametrize("steps", [-7, 1, 30])
def test_a_step_along_the_waves_is_one_rotation_at_every_place(layout: str, steps: int) -> None:
    wave = Sinusoidal(12, base=20.0, layout=layout)  # all hands move visibly, so that the map is well determined
    empty = torch.zeros(1, 60, 12, dtype=F64)
    here, there = (wave.embed(empty, torch.arange(60)[None] + shift)[0] for shift in (0, steps))
    # Twelve places would determine a linear map; one must fit all sixty, and keep lengths.
    step = torch.linalg.lstsq(here, there).solution
    torch.testing.assert_close(here @ step, there)
    torch.testing.assert_close(step @ step.T, torch.eye(12, dtype=F64))


@pytest.mark.parametrize("layout", ["interleaved", "half"])
def test_every_turn_is_a_power_of_the_first(layout: str) -> None:
    rotary = Rotary(8, layout=layout)
    rows = torch.eye(8, dtype=F64)[None, None]

    def turn(position: int) -> torch.Tensor:
        return rotary.rotate(rows, torch.full((1, 8), position))[0, 0].T  # columns: where the unit vectors go

    step = turn(1)
    torch.testing.assert_close(step.T @ step, torch.eye(8, dtype=F64))
    for position in (0, 2, 41, -5):
        torch.testing.assert_close(turn(position), torch.linalg.matrix_power(step, position))
