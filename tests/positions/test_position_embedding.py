"""Encodings that are added to the embedding."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.gptj.modeling_gptj import create_sinusoidal_positions

from attnkit.positions import Learned, OneHot, Sinusoidal


def vectors(encoding, positions: torch.Tensor, d_model: int, dtype=torch.float64) -> torch.Tensor:
    """What the encoding adds: (len, d_model)."""
    return encoding.embed(torch.zeros(1, len(positions), d_model, dtype=dtype), positions[None])[0]


@settings(max_examples=30, deadline=None)
@given(st.integers(-(10**6), 10**6), st.sampled_from([2, 6, 16]), st.sampled_from([10.0, 10_000.0]))
def test_sinusoidal_is_the_formula_at_any_position(position: int, d_model: int, base: float) -> None:
    pe = [(math.sin if i % 2 == 0 else math.cos)(position / base ** ((i - i % 2) / d_model)) for i in range(d_model)]
    found = vectors(Sinusoidal(d_model, base), torch.tensor([position]), d_model)
    assert torch.allclose(found[0], torch.tensor(pe, dtype=torch.float64), atol=1e-9)


def test_sinusoidal_in_halves_is_huggingface() -> None:
    found = vectors(Sinusoidal(16, layout="half"), torch.arange(200), 16, torch.float32)
    assert torch.allclose(found, create_sinusoidal_positions(200, 16), atol=3e-5)  # its angles are float32, as ours


def test_the_layouts_of_sinusoidal_hold_the_same() -> None:
    interleaved, half = (vectors(Sinusoidal(8, layout=x), torch.arange(9), 8) for x in ("interleaved", "half"))
    assert torch.equal(torch.cat([interleaved[:, ::2], interleaved[:, 1::2]], dim=1), half)


def test_products_of_sinusoids_know_only_the_distance() -> None:
    """The property the paper chose them for (section 3.5)."""
    table = vectors(Sinusoidal(16), torch.arange(300), 16)
    gram = table @ table.T
    for distance in (0, 1, 7, 100):
        diagonal = gram.diagonal(distance)
        assert torch.allclose(diagonal, diagonal[0].expand_as(diagonal), atol=1e-10)
    assert gram[0, 1] < gram[0, 0] - 0.1


def test_sinusoidal_in_half_precision_is_the_float64_table_rounded() -> None:
    """Angles are not computed in half precision, in which 4,095 is not even a number (bfloat16)."""
    at = torch.arange(4000, 4096)
    exact = vectors(Sinusoidal(32), at, 32)
    for dtype in (torch.float16, torch.bfloat16):
        found = vectors(Sinusoidal(32).to(dtype), at, 32, dtype)
        assert (found.double() - exact).abs().max() <= torch.finfo(dtype).eps / 2 + 4096 * torch.finfo(
            torch.float32
        ).eps


def test_learned_adds_its_row_and_learns_only_that() -> None:
    learned = Learned(length=10, d_model=4, offset=2)
    assert learned.table.weight.shape == (12, 4)
    x = torch.randn(2, 2, 4)
    out = learned.embed(x, torch.tensor([[3, 9]]))
    assert torch.equal(out, x + learned.table.weight[[5, 11]])
    out.sum().backward()
    assert learned.table.weight.grad.abs().sum(1).nonzero()[:, 0].tolist() == [5, 11]


def test_one_hot_adds_a_unit_vector() -> None:
    x = torch.randn(2, 3, 7)
    out = OneHot(5).embed(x, torch.tensor([[0, 4, 2], [1, 1, 3]]))
    assert torch.equal(out, x + torch.eye(7)[torch.tensor([[0, 4, 2], [1, 1, 3]])])
