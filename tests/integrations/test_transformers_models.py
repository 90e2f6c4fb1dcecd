"""Whole models of Transformers with attn_implementation="attnkit" against their own "eager": values and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.integrations.zoo import DECODERS, ENCODER_DECODERS, ZOO, cast, inputs, padded, pair, tokens

PRECISIONS = [(torch.float32, 1e-5), (torch.float64, 1e-10)]
MASKED = [name for name in ZOO if name != "vit"]


def furthest(ours: Tensor, eager: Tensor) -> float:
    assert ours.shape == eager.shape
    return float((ours - eager).detach().abs().max())


@pytest.mark.parametrize(("dtype", "bound"), PRECISIONS, ids=["float32", "float64"])
@pytest.mark.parametrize("name", ZOO)
def test_logits_and_loss_are_those_of_eager(name: str, dtype: torch.dtype, bound: float) -> None:
    eager, ours = pair(name, dtype)
    arguments = cast(inputs(name), dtype)
    with torch.no_grad():
        expected, got = eager(**arguments), ours(**arguments)
    assert expected.logits.std() > 0.1, "a model that says nothing proves nothing"
    assert furthest(got.logits, expected.logits) <= bound
    assert furthest(got.loss, expected.loss) <= bound


@pytest.mark.parametrize("name", ZOO)
def test_every_parameter_gets_the_gradient_of_eager(name: str) -> None:
    eager, ours = (model.train() for model in pair(name, torch.float64))
    arguments = cast(inputs(name), torch.float64)
    for model in (eager, ours):
        model(**arguments).loss.backward()
    gradients = {key: parameter.grad for key, parameter in ours.named_parameters()}
    for key, parameter in eager.named_parameters():
        if parameter.grad is None:
            assert gradients[key] is None
        else:
            assert furthest(gradients[key], parameter.grad) <= 1e-10, key


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", MASKED)
def test_padding_is_hidden_as_eager_hides_it(name: str, side: str) -> None:
    """At real tokens. At padding eager averages over padding, and attnkit gives 0."""
    eager, ours = pair(name, torch.float64)
    ids, real = padded(side)
    arguments: dict[str, Any] = {"input_ids": ids, "attention_mask": real.long()}
    if name in ENCODER_DECODERS:
        arguments |= {"decoder_input_ids": tokens(3, 5, seed=2)}
    with torch.no_grad():
        expected, got = (model(**arguments).logits for model in (eager, ours))
    seen = torch.ones(got.shape[:2], dtype=torch.bool) if name in ENCODER_DECODERS else real
    assert furthest(got[seen], expected[seen]) <= 1e-10


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_a_padded_target_is_hidden_as_eager_hides_it(name: str) -> None:
    eager, ours = pair(name, torch.float64)
    ids, real = padded("right")
    arguments = {"input_ids": tokens(3, 5), "decoder_input_ids": ids, "decoder_attention_mask": real.long()}
    with torch.no_grad():
        expected, got = (model(**arguments).logits for model in (eager, ours))
    assert furthest(got[real], expected[real]) <= 1e-10


@pytest.mark.parametrize("name", DECODERS)
def test_packed_sequences_know_nothing_of_each_other(name: str) -> None:
    """Positions that start again say where a sequence starts: as eager has it, and as each sequence has it alone."""
    eager, ours = pair(name, torch.float64)
    ids, lengths = tokens(1, 11), [5, 2, 4]
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    with torch.no_grad():
        got = ours(ids, position_ids=positions, use_cache=False).logits
        expected = eager(ids, position_ids=positions, use_cache=False).logits
        alone = torch.cat([ours(part).logits for part in ids.split(lengths, dim=1)], dim=1)
    assert furthest(got, expected) <= 1e-10
    if name != "gpt_oss":  # its mask is made without the positions, by Transformers, for eager too
        assert furthest(got, alone) <= 1e-10


@pytest.mark.parametrize("name", MASKED)
def test_weights_are_those_of_eager(name: str) -> None:
    eager, ours = pair(name, torch.float64)
    ids, real = padded("right")
    arguments: dict[str, Any] = {"input_ids": ids, "attention_mask": real.long(), "output_attentions": True}
    if name in ENCODER_DECODERS:
        arguments |= {"decoder_input_ids": tokens(3, 5, seed=2)}
    with torch.no_grad():
        expected, got = eager(**arguments), ours(**arguments)
    fields = [field for field in expected if field.endswith("attentions") and expected[field]]
    assert len(fields) == (3 if name in ENCODER_DECODERS else 1)
    for field in fields:
        assert len(got[field]) == len(expected[field]) == 2
        for mine, theirs in zip(got[field], expected[field], strict=True):
            seen = real if mine.shape[2] == real.shape[1] else torch.ones(mine.shape[::2], dtype=torch.bool)
            assert furthest(mine.transpose(1, 2)[seen], theirs.transpose(1, 2)[seen]) <= 1e-10


def test_weights_of_an_image() -> None:
    eager, ours = pair("vit")
    pixels = inputs("vit")["pixel_values"]
    expected, got = (model(pixels, output_attentions=True).attentions for model in (eager, ours))
    assert furthest(torch.stack(got), torch.stack(expected)) <= 1e-5
    assert ours(pixels).attentions is None


@pytest.mark.parametrize("kind", ["bool", "float"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "bert"])
def test_a_mask_of_four_axes_is_taken_as_given(name: str, kind: str) -> None:
    """True = may attend, or numbers to add to the scores; each batch element has its own table here."""
    eager, ours = pair(name, torch.float64)
    generator = torch.Generator().manual_seed(3)
    visible = (torch.rand(3, 1, 9, 9, generator=generator) < 0.5) | torch.eye(9, dtype=torch.bool)
    added = torch.randn(3, 1, 9, 9, generator=generator, dtype=torch.float64)
    least = torch.finfo(torch.float64).min
    numbers = torch.where(visible, added if kind == "float" else torch.zeros_like(added), least)
    arguments = {"input_ids": tokens()}
    with torch.no_grad():
        expected = eager(**arguments, attention_mask=numbers).logits
        got = ours(**arguments, attention_mask=numbers if kind == "float" else visible).logits
        assert furthest(got, expected) <= 1e-10
        assert furthest(got, ours(**arguments).logits) > 1e-3


def test_a_decoder_that_is_told_to_look_both_ways_does() -> None:
    eager, ours = pair("llama", torch.float64, is_causal=False)
    ids = tokens()
    with torch.no_grad():
        expected, got = eager(ids).logits, ours(ids).logits
        assert furthest(got, expected) <= 1e-10
        causal = pair("llama", torch.float64)[1](ids).logits
    assert furthest(got, causal) > 1e-3


def test_a_cross_attending_decoder_gets_its_memory() -> None:
    """GPT-2 with cross-attention, whose memory is padded."""
    eager, ours = pair("gpt2", torch.float64, add_cross_attention=True)
    memory = torch.randn(3, 6, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    real = torch.arange(6) < torch.tensor([6, 3, 1])[:, None]
    arguments = {"input_ids": tokens(), "encoder_hidden_states": memory, "encoder_attention_mask": real.long()}
    with torch.no_grad():
        expected = eager(**arguments, output_attentions=True)
        got = ours(**arguments, output_attentions=True)
    assert furthest(got.logits, expected.logits) <= 1e-10
    assert furthest(torch.stack(got.cross_attentions), torch.stack(expected.cross_attentions)) <= 1e-10
