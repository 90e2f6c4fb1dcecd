"""`generate` of Transformers with attnkit's attention: token for token what eager attention generates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.integrations.zoo import DECODERS, ENCODER_DECODERS, padded, pair, tokens

GENERATIVE = [*DECODERS, *ENCODER_DECODERS]
METHODS: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "beams": {"do_sample": False, "num_beams": 3, "num_return_sequences": 2},
    "sampling": {"do_sample": True, "temperature": 1.3, "top_k": 12},
}


def generated(model: Any, ids: Tensor, **options: Any) -> Tensor:
    torch.manual_seed(7)
    with torch.no_grad():
        return model.generate(ids, max_new_tokens=8, min_new_tokens=8, use_cache=True, **options)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", GENERATIVE)
def test_left_padded_prompts_are_continued_as_eager_continues_them(name: str, method: str, cache: str) -> None:
    eager, ours = pair(name, torch.float64)
    ids, real = padded("left")
    options = METHODS[method] | {"attention_mask": real.long(), "cache_implementation": cache}
    options |= {"disable_compile": True}
    options |= {"no_repeat_ngram_size": 1}  # or random models say the same word again, which proves little
    expected, got = (generated(model, ids, **options) for model in (eager, ours))
    assert all(len(set(row)) == 8 for row in expected[:, -8:].tolist())
    assert torch.equal(got, expected)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("name", GENERATIVE)
def test_weights_are_returned_at_every_step(name: str, cache: str) -> None:
    """With a cache of fixed length the table is as wide as the cache, and 0 where nothing is written yet."""
    eager, ours = pair(name, torch.float64)
    wish = {"output_attentions": True, "return_dict_in_generate": True, "do_sample": False}
    options = wish | {"cache_implementation": cache, "disable_compile": True}
    expected, got = (generated(model, tokens(2, 6), **options) for model in (eager, ours))
    fields = [f for f in expected if f.endswith("attentions")]
    assert len(fields) == (3 if name in ENCODER_DECODERS else 1)
    for field in fields:
        steps = zip(got[field], expected[field], strict=True)
        for mine, theirs in steps if field != "encoder_attentions" else [(got[field], expected[field])]:
            assert len(mine) == len(theirs) == 2
            for x, y in zip(mine, theirs, strict=True):
                assert x.shape == y.shape
                assert float((x - y).abs().max()) <= 1e-10


@pytest.mark.parametrize("name", DECODERS)
def test_a_prompt_read_in_two_parts_is_one_prompt(name: str) -> None:
    """Several queries over a cache that already holds something: the mask must stand lower right."""
    eager, ours = pair(name, torch.float64)
    ids = tokens(2, 11)
    with torch.no_grad():
        whole = ours(ids).logits[:, 6:]
        first = ours(ids[:, :6], use_cache=True)
        rest = ours(ids[:, 6:], past_key_values=first.past_key_values).logits
        expected = eager(ids).logits[:, 6:]
    assert float((whole - expected).abs().max()) <= 1e-10
    assert float((rest - expected).abs().max()) <= 1e-10


def test_half_precision_generates() -> None:
    """bfloat16, in which rounding differs: each of our logits is within eager's rounding of the float32 model's."""
    exact = pair("llama")[0]
    eager, ours = pair("llama", torch.bfloat16)
    ids, real = padded("left")
    with torch.no_grad():
        truth = exact(ids, attention_mask=real.long()).logits[real]
        theirs = eager(ids, attention_mask=real.long()).logits[real].float()
        mine = ours(ids, attention_mask=real.long()).logits[real].float()
    assert float((mine - truth).square().mean()) <= 1.5 * float((theirs - truth).square().mean())
    assert generated(ours, ids, attention_mask=real.long(), do_sample=False).shape == (3, 17)
