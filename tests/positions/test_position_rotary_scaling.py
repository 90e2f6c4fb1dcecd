"""Scalings of rotary encoding: parity with Transformers, and what each promises."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama import modeling_llama as llama

from attnkit.positions import NTK, DynamicNTK, Linear, Llama3, Rotary, Scaling, YaRN

L = 256  # the trained length

# Each scaling, and the same in the words of Transformers.
CASES: list[tuple[Scaling, dict]] = [
    (Linear(4.0), {"rope_type": "linear", "factor": 4.0}),
    (DynamicNTK(2.0, L), {"rope_type": "dynamic", "factor": 2.0}),
    (YaRN(4.0, L), {"rope_type": "yarn", "factor": 4.0}),
    (
        YaRN(16.0, L, beta_fast=20.0, beta_slow=2.0),
        {"rope_type": "yarn", "factor": 16.0, "beta_fast": 20.0, "beta_slow": 2.0},
    ),
    (YaRN(4.0, L, attention_factor=1.5), {"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.5}),
    (
        YaRN(40.0, L, mscale=0.7, mscale_all_dim=1.1),
        {"rope_type": "yarn", "factor": 40.0, "mscale": 0.7, "mscale_all_dim": 1.1},
    ),
    (YaRN(8.0, L, truncate=False), {"rope_type": "yarn", "factor": 8.0, "truncate": False}),
    (YaRN(1.0, L), {"rope_type": "yarn", "factor": 1.0}),
    (YaRN(4.0, L, beta_fast=64.0), {"rope_type": "yarn", "factor": 4.0, "beta_fast": 64.0}),  # no pair is so fast
    (YaRN(40.0, L, mscale=0.7), {"rope_type": "yarn", "factor": 40.0, "mscale": 0.7}),
    (Llama3(8.0, 1.0, 4.0, L), {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}),
    (
        Llama3(32.0, 0.5, 9.0, L),
        {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 0.5, "high_freq_factor": 9.0},
    ),
]
both = pytest.mark.parametrize(("scaling", "words"), CASES, ids=lambda x: str(x) if isinstance(x, Scaling) else "")


def config(words: dict, base: float, d_head: int) -> LlamaConfig:
    extra = {"original_max_position_embeddings": L} if words["rope_type"] in ("yarn", "llama3") else {}
    return LlamaConfig(
        hidden_size=2 * d_head,
        num_attention_heads=2,
        max_position_embeddings=L,
        rope_parameters=words | extra | {"rope_theta": base},
    )


@both
@pytest.mark.parametrize(("base", "d_head"), [(10_000.0, 64), (500_000.0, 16), (20.0, 16)])
def test_frequencies_and_magnitude_are_huggingface(scaling: Scaling, words: dict, base: float, d_head: int) -> None:
    rotary = Rotary(d_head, base=base, scaling=scaling)
    for length in (1, L, L + 1, 5 * L) if scaling.by_length else (L,):
        hf, magnitude = ROPE_INIT_FUNCTIONS[words["rope_type"]](config(words, base, d_head), "cpu", seq_len=length)
        found = rotary._frequencies(torch.tensor([[0, length - 1]]))
        assert torch.allclose(found, hf.double(), rtol=1e-5, atol=0)
        assert math.isclose(scaling.magnitude, magnitude, rel_tol=1e-12)


@both
def test_turned_queries_are_huggingface(scaling: Scaling, words: dict) -> None:
    """Whole and far beyond the trained length, with the attention factor in it."""
    q = torch.randn(2, 2, 3 * L, 16, generator=torch.Generator().manual_seed(0))
    at = torch.arange(3 * L)[None]
    cos, sin = llama.LlamaRotaryEmbedding(config(words, 10_000.0, 16))(q, at)
    expected, _ = llama.apply_rotary_pos_emb(q, q, cos, sin)
    assert torch.allclose(Rotary(16, scaling=scaling).rotate(q, at), expected, atol=5e-4)  # float32 angles up to 768


def test_a_larger_base_is_what_ntk_means() -> None:
    for growth, d in ((2.0, 16), (7.5, 64)):
        larger = Rotary(d, base=10_000.0 * growth ** (d / (d - 2)))
        assert torch.allclose(Rotary(d, scaling=NTK(growth)).inv_freq, larger.inv_freq, rtol=1e-12)
    plain, scaled = Rotary(16).inv_freq, Rotary(16, scaling=NTK(4.0)).inv_freq
    assert scaled[0] == plain[0], "the fastest pair, which tells neighbours apart, is kept"
    assert torch.allclose(scaled[-1], plain[-1] / 4), "the slowest is interpolated"
    assert Rotary(2, scaling=NTK(4.0)).inv_freq.tolist() == [1.0]


def test_linear_divides_positions() -> None:
    x, at = torch.randn(1, 1, 9, 8, dtype=torch.float64), torch.arange(9)[None]
    assert torch.allclose(Rotary(8, scaling=Linear(3.0)).rotate(x, 3 * at), Rotary(8).rotate(x, at), atol=1e-12)


@pytest.mark.parametrize("scaling", [YaRN(8.0, L), Llama3(8.0, 1.0, 4.0, L)], ids=["YaRN", "Llama3"])
def test_fast_pairs_are_kept_and_slow_ones_interpolated(scaling: Scaling) -> None:
    plain, scaled = Rotary(64).inv_freq, Rotary(64, scaling=scaling).inv_freq
    ratio = plain / scaled
    assert ratio[0] == 1
    assert math.isclose(ratio[-1], 8, rel_tol=1e-12)
    assert (ratio.diff() > -1e-12).all(), "and between them it rises"
    assert ((ratio > 1.01) & (ratio < 7.99)).any()


@pytest.mark.parametrize("scaling", [Linear(1), NTK(1.0), DynamicNTK(1.0, L), YaRN(1.0, L), Llama3(1.0, 1.0, 4.0, L)])
def test_a_factor_of_one_changes_nothing(scaling: Scaling) -> None:
    x, at = torch.randn(1, 1, L, 16), torch.arange(L)[None]
    assert torch.allclose(Rotary(16, scaling=scaling).rotate(x, at), Rotary(16).rotate(x, at), atol=1e-6)


def test_the_dynamic_one_waits_for_the_trained_length() -> None:
    x, rotary = torch.randn(1, 1, 2, 8), Rotary(8, scaling=DynamicNTK(2.0, L))
    assert torch.equal(rotary.rotate(x, torch.tensor([[0, L - 1]])), Rotary(8).rotate(x, torch.tensor([[0, L - 1]])))
    assert not torch.allclose(rotary.rotate(x, torch.tensor([[5, L]])), Rotary(8).rotate(x, torch.tensor([[5, L]])))
    assert torch.equal(rotary.rotate(x, torch.tensor([[0, 9]])), Rotary(8).rotate(x, torch.tensor([[0, 9]])))


def test_a_scaling_is_a_value() -> None:
    """Frozen, equal by what it holds, and rebuilt from JSON-able fields, so that a configuration can keep it."""
    scaling = YaRN(4.0, L)
    assert scaling == YaRN(**dataclasses.asdict(scaling))
    with pytest.raises(dataclasses.FrozenInstanceError):
        scaling.factor = 2.0
