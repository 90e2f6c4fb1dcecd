"""Rotary encoding: the properties that define it, parity with Transformers, and its cost on a decode step."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig
from transformers.models.gptj import modeling_gptj as gptj
from transformers.models.llama import modeling_llama as llama

from attnkit.positions import DynamicNTK, Rotary, YaRN, half_to_interleaved, interleaved_to_half

layouts = pytest.mark.parametrize("layout", ["half", "interleaved"])
places = st.integers(-(10**5), 10**5)


def draw(*shape: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def turn(rotary: Rotary, vector: torch.Tensor, position: int) -> torch.Tensor:
    """One vector, turned."""
    return rotary.rotate(vector[None, None, None], torch.tensor([[position]]))[0, 0, 0]


@layouts
@settings(max_examples=30, deadline=None)
@given(position=places, other=places, shift=places, width=st.sampled_from([2, 4, 8]))
def test_a_turn_keeps_norms_and_products_know_only_the_distance(layout, position, other, shift, width) -> None:
    rotary, q, k = Rotary(8, layout=layout, width=width), draw(8, seed=1), draw(8, seed=2)
    assert torch.allclose(turn(rotary, q, position).norm(), q.norm(), rtol=1e-12)
    product = turn(rotary, q, position) @ turn(rotary, k, other)
    moved = turn(rotary, q, position + shift) @ turn(rotary, k, other + shift)
    assert torch.allclose(product, moved, atol=1e-9)
    assert torch.allclose(turn(rotary, turn(rotary, q, position), other), turn(rotary, q, position + other), atol=1e-9)
    assert torch.equal(turn(rotary, q, position)[width:], q[width:])
    assert torch.equal(turn(rotary, q, 0), q)


@layouts
def test_pairs_are_turned_as_complex_numbers_are(layout: str) -> None:
    """Multiplication by e^(i p theta), with theta from the formula: which entries pair up, which way, how far."""
    x, theta = draw(1, 1, 5, 8), 500.0 ** -(torch.arange(4, dtype=torch.float64) / 4)
    angle = torch.arange(5, dtype=torch.float64)[:, None] * theta
    pairs = (x[..., ::2], x[..., 1::2]) if layout == "interleaved" else (x[..., :4], x[..., 4:])
    z = torch.complex(*pairs) * torch.polar(torch.ones_like(angle), angle)
    found = Rotary(8, base=500.0, layout=layout).rotate(x, torch.arange(5)[None])
    again = (found[..., ::2], found[..., 1::2]) if layout == "interleaved" else (found[..., :4], found[..., 4:])
    assert torch.allclose(torch.complex(*again), z, atol=1e-14)


def test_half_is_llama() -> None:
    config = LlamaConfig(
        hidden_size=64, num_attention_heads=4, rope_parameters={"rope_type": "default", "rope_theta": 5e5}
    )
    q, k = draw(2, 4, 90, 16, dtype=torch.float32), draw(2, 2, 90, 16, seed=3, dtype=torch.float32)
    at = torch.stack([torch.arange(90), torch.arange(90) + 31])
    expected = llama.apply_rotary_pos_emb(q, k, *llama.LlamaRotaryEmbedding(config)(q, at))
    rotary = Rotary(16, base=5e5)
    for x, hf in zip((q, k), expected, strict=True):
        assert torch.allclose(rotary.rotate(x, at), hf, atol=3e-5)  # the angles of both are float32


@pytest.mark.parametrize("width", [8, 16])
def test_interleaved_is_gptj(width: int) -> None:
    x, at = draw(1, 4, 70, 16, dtype=torch.float32), torch.arange(70)[None]
    sin, cos = gptj.create_sinusoidal_positions(70, width)[at].chunk(2, dim=-1)
    turned = gptj.apply_rotary_pos_emb(x[..., :width].transpose(1, 2), sin, cos).transpose(1, 2)
    expected = torch.cat([turned, x[..., width:]], dim=-1)
    assert torch.allclose(Rotary(16, layout="interleaved", width=width).rotate(x, at), expected, atol=3e-5)


@pytest.mark.parametrize("width", [4, 8])
def test_converted_projections_give_the_same_scores(width: int) -> None:
    """The error that training hides: pairs split one way and joined the other. So q itself is compared, reordered."""
    x, at = draw(2, 5, 6), torch.arange(5)[None]
    weight, bias = draw(24, 6, seed=1), draw(24, seed=2)

    def project(w: torch.Tensor, b: torch.Tensor, layout: str) -> torch.Tensor:
        q = torch.nn.functional.linear(x, w, b).unflatten(-1, (3, 8)).transpose(1, 2)
        return Rotary(8, layout=layout, width=width).rotate(q, at)

    converted = [interleaved_to_half(p, heads=3, width=width) for p in (weight, bias)]
    original, half = project(weight, bias, "interleaved"), project(*converted, "half")
    assert torch.allclose(original @ original.mT, half @ half.mT, atol=1e-12)
    assert not torch.allclose(original, half)
    front = half[..., :width]
    back = torch.stack([front[..., : width // 2], front[..., width // 2 :]], -1).flatten(-2)
    assert torch.allclose(torch.cat([back, half[..., width:]], dim=-1), original, atol=1e-12)
    assert torch.equal(half_to_interleaved(converted[0], heads=3, width=width), weight)
    assert torch.equal(half_to_interleaved(converted[1], heads=3, width=width), bias)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_once_far_from_the_start(dtype: torch.dtype) -> None:
    """A module cast to half precision turns as one in float32: inverse frequencies in bfloat16 would be radians off."""
    x, at = draw(1, 2, 64, 32, dtype=dtype), torch.arange(4032, 4096)[None]
    cast = Rotary(32).to(dtype)
    assert torch.equal(cast.rotate(x, at), Rotary(32).rotate(x.float(), at).to(dtype))
    exact = Rotary(32).rotate(x.double(), at)
    assert torch.allclose(cast.rotate(x, at).double(), exact, rtol=torch.finfo(dtype).eps, atol=5e-3)


@layouts
def test_gradients_are_those_of_a_rotation(layout: str) -> None:
    rotary, at = Rotary(6, layout=layout, width=4), torch.tensor([[3, 900]])
    assert torch.autograd.gradcheck(lambda x: rotary.rotate(x, at), draw(1, 2, 2, 6).requires_grad_())


class Count(TorchDispatchMode):
    """How often an operator runs."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.times = name, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.times += func.overloadpacket.__name__ == self.name
        return func(*args, **(kwargs or {}))


def test_sines_are_computed_once_for_queries_keys_and_all_layers() -> None:
    rotary, x = Rotary(8), draw(1, 2, 1, 8)
    for step in range(5):
        with Count("sin") as sines:
            for _ in range(6):
                rotary.rotate(x, torch.tensor([[step]]))
        assert sines.times == 1


def test_what_is_remembered_is_never_wrong() -> None:
    """Positions changed in place, another dtype, other rows, another device, the greatest position: each is seen."""
    x = draw(2, 2, 3, 8)
    for scaling in (None, DynamicNTK(factor=2.0, trained_length=4)):
        rotary, at = Rotary(8, scaling=scaling), torch.arange(3)[None].clone()

        def same(values, positions, rotary=rotary, scaling=scaling) -> bool:
            return torch.equal(rotary.rotate(values, positions), Rotary(8, scaling=scaling).rotate(values, positions))

        for inference in (True, False):
            with torch.inference_mode(inference):
                assert same(x, at)
                at += 5
                assert same(x, at)
                assert same(x.float(), at)
                assert same(x, at)
                assert same(x, torch.cat([at, at - 1]))
                assert same(x, at.int())
        assert rotary.to("meta").rotate(x.to("meta"), at.to("meta")).is_meta
        back = rotary.to_empty(device="cpu")
        assert same(x, at, back)


def test_a_table_made_while_evaluating_serves_in_training() -> None:
    rotary, x, at = Rotary(8), draw(1, 1, 4, 8), torch.arange(4)[None]
    with torch.inference_mode():
        rotary.rotate(x, at)
    leaf = x.clone().requires_grad_()
    rotary.rotate(leaf, at).sum().backward()
    assert leaf.grad is not None


def test_token_by_token_is_all_at_once() -> None:
    rotary, x = Rotary(16, scaling=YaRN(factor=4.0, trained_length=16)), draw(2, 2, 40, 16, dtype=torch.float32)
    whole = rotary.rotate(x, torch.arange(40)[None])
    steps = [rotary.rotate(x[:, :, i : i + 1], torch.tensor([[i]])) for i in range(40)]
    assert torch.allclose(torch.cat(steps, dim=2), whole, atol=1e-5)


def test_nothing_that_is_remembered_enters_a_compiled_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be a constant there. (Traced for real, the annotations that tests enforce would break the graph.)"""
    rotary, x, at = Rotary(8), draw(1, 1, 3, 8), torch.arange(3)[None]
    expected = rotary.rotate(x, at)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    for _ in range(2):
        with Count("sin") as sines:
            assert torch.equal(rotary.rotate(x, at), expected)
        assert sines.times == 1


def test_follows_autocast() -> None:
    """Queries are in half precision under autocast; angles stay in float32."""
    x, at = draw(1, 1, 3, 8, dtype=torch.bfloat16), torch.arange(4000, 4003)[None]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = Rotary(8).rotate(x, at)
    assert torch.equal(found, Rotary(8).rotate(x.float(), at).bfloat16())
