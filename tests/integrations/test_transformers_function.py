"""The attention function by itself: what it refuses, what it must not lose, and what it takes beyond eager."""

from __future__ import annotations

import doctest
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sliding_window_causal_mask_function

import attnkit.integrations.transformers as integration
from attnkit import attention
from attnkit.backends import BackendUnsupported
from attnkit.integrations.transformers import attention_forward, register
from attnkit.masks import Causal
from tests.integrations.zoo import padded, pair, tokens


class Layer(nn.Module):
    """As much of a layer as the function looks at."""

    def __init__(self, is_causal: bool = True) -> None:
        super().__init__()
        self.is_causal = is_causal


def qkv(q_len: int = 6, k_len: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Four query heads over two key heads."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 4, q_len, 8), (2, 2, k_len, 8), (2, 2, k_len, 5))
    query, key, value = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return query, key, value


@pytest.fixture
def names() -> Iterator[None]:
    """Whatever a test registers is forgotten afterwards."""
    mappings = (AttentionInterface._global_mapping, AttentionMaskInterface._global_mapping)
    kept, ours = [dict(mapping) for mapping in mappings], set(integration._registered)
    yield
    for mapping, before in zip(mappings, kept, strict=True):
        mapping.clear()
        mapping.update(before)
    integration._registered.clear()
    integration._registered.update(ours)


@pytest.mark.usefixtures("names")
def test_without_a_mask_function_masks_are_lost_and_attnkit_refuses_to_lose_them() -> None:
    """Transformers makes no mask for an attention function that comes alone, and says nothing."""
    ids, real = padded("left")
    eager, ours = pair("llama", torch.float64)
    with torch.no_grad():
        expected = eager(ids, attention_mask=real.long()).logits[real]
        AttentionInterface.register("alone", sdpa_attention_forward)
        ours.set_attn_implementation("alone")
        lost = ours(ids, attention_mask=real.long()).logits[real]
        assert float((lost - expected).abs().max()) > 0.1

        AttentionInterface.register("alone", attention_forward)
        with pytest.raises(ValueError, match=r"no mask function is registered; call .*register\('alone'\)"):
            ours(ids, attention_mask=real.long())


@pytest.mark.usefixtures("names")
def test_causality_over_a_cache_is_lost_without_a_mask_function() -> None:
    """Two prompts read in turn: without a mask the second's queries would stand at the first one's keys."""
    eager, ours = pair("llama", torch.float64)
    ids = tokens(2, 11)
    AttentionInterface.register("alone", sdpa_attention_forward)
    differs = {}
    with torch.no_grad():
        expected = eager(ids).logits[:, 6:]
        for name in ("alone", "attnkit"):
            ours.set_attn_implementation(name)
            kept = ours(ids[:, :6], use_cache=True).past_key_values
            differs[name] = float((ours(ids[:, 6:], past_key_values=kept).logits - expected).abs().max())
    assert differs["attnkit"] <= 1e-10
    assert differs["alone"] > 0.1


@pytest.mark.usefixtures("names")
def test_a_backend_can_be_named() -> None:
    register("attnkit-online", backend="online")
    register("attnkit-sdpa", backend="sdpa")
    eager, ours = pair("llama", torch.float64)
    ids = tokens()
    ours.set_attn_implementation("attnkit-online")
    assert float((ours(ids).logits - eager(ids).logits).detach().abs().max()) <= 1e-10
    ours.set_attn_implementation("attnkit-sdpa")
    ours(ids)
    with pytest.raises(BackendUnsupported, match="returns no weights"):
        ours(ids, output_attentions=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "sdpa"}, "name is 'sdpa', which Transformers has already"),
        ({"name": "eager"}, "name is 'eager', which Transformers has already"),
        ({"name": "my_flash"}, "name is 'my_flash'; it must be a word without 'flash'"),
        ({"name": "me/attnkit"}, "without 'flash', 'flex'"),
        ({"name": ""}, "name is ''"),
        ({"backend": "fast"}, "backend is 'fast'"),
    ],
)
def test_a_registration_that_would_do_harm_is_refused(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        register(**arguments)


def test_registering_again_is_no_error() -> None:
    register()
    register()


@pytest.mark.parametrize("name", ["indices", "sinks", "cache", "head_mask"])
def test_an_unknown_argument_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"attnkit does not know {name}"):
        attention_forward(Layer(), *qkv(), None, **{name: torch.ones(1)})
    attention_forward(Layer(), *qkv(), None, **{name: None})


def test_packing_by_lengths_is_refused_with_the_way_that_works() -> None:
    lengths = torch.tensor([0, 2, 6])
    with pytest.raises(ValueError, match=r"cu_seq_lens_k, cu_seq_lens_q; packed sequences must be given by position_"):
        attention_forward(Layer(), *qkv(), None, cu_seq_lens_q=lengths, cu_seq_lens_k=lengths)


def test_what_is_ignored_changes_nothing() -> None:
    expected, _ = attention_forward(Layer(), *qkv(), None)
    got, _ = attention_forward(Layer(), *qkv(), None, **dict.fromkeys(integration.IGNORED, True))
    assert torch.equal(got, expected)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(2, 6, dtype=torch.bool), r"attention_mask is \(2, 6\); it must be a tensor of shape \(batch"),
        (torch.ones(2, 1, 6, 6, dtype=torch.long), "attention_mask has dtype torch.int64; it must be bool"),
        ("causal", "attention_mask is str"),
        (torch.ones(2, 1, 6, 5, dtype=torch.bool), "does not broadcast"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(mask: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attention_forward(Layer(), *qkv(), mask)


@pytest.mark.parametrize(
    ("q_len", "k_len", "own", "given", "causal"),
    [
        (6, 6, True, None, True),
        (6, 6, False, None, False),
        (6, 6, True, False, False),
        (6, 6, False, True, True),
        (1, 6, True, None, False),
        (4, 6, True, None, True),
    ],
)
def test_when_no_mask_means_causal(q_len: int, k_len: int, own: bool, given: bool | None, causal: bool) -> None:
    """Without a mask, for more than one query, as is_causal says; query 0 at key 0."""
    query, key, value = qkv(q_len, k_len)
    got, weights = attention_forward(Layer(own), query, key, value, None, is_causal=given)
    expected = attention(query, key, value, mask=Causal("upper_left") if causal else None)
    assert weights is None
    assert got.is_contiguous()
    assert torch.equal(got, expected.transpose(1, 2))


def test_a_given_mask_decides_alone() -> None:
    visible = torch.ones(1, 1, 6, 6, dtype=torch.bool)
    got, _ = attention_forward(Layer(True), *qkv(), visible)
    assert torch.allclose(got, attention(*qkv()).transpose(1, 2), rtol=0, atol=1e-14)


@pytest.mark.parametrize("window", [1, 3, 5, 6, 9])
def test_a_window_without_a_mask_is_that_of_transformers(window: int) -> None:
    place = torch.arange(6)
    visible = sliding_window_causal_mask_function(window)(0, 0, place[:, None], place)[None, None]
    got, _ = attention_forward(Layer(), *qkv(), None, sliding_window=window)
    assert torch.allclose(got, attention_forward(Layer(), *qkv(), visible)[0], rtol=0, atol=1e-14)
    query, key, value = qkv()
    last, _ = attention_forward(Layer(), query[:, :, -1:], key, value, None, sliding_window=window)
    assert torch.allclose(last, got[:, -1:], rtol=0, atol=1e-14)


@pytest.mark.parametrize(("window", "causal", "word"), [(3, False, "seen from both sides"), (0, True, "1 or more")])
def test_a_window_that_cannot_be_read_is_refused(window: int, causal: bool, word: str) -> None:
    with pytest.raises(ValueError, match=f"sliding_window is {window}.*{word}"):
        attention_forward(Layer(causal), *qkv(), None, sliding_window=window)


def test_a_row_that_sees_nothing_gives_zero_in_value_and_gradient() -> None:
    query, key, value = (x.requires_grad_() for x in qkv())
    numbers = torch.zeros(2, 1, 6, 6, dtype=torch.float64)
    numbers[0, 0, 2] = torch.finfo(torch.float64).min
    numbers[1, 0, 4] = float("-inf")
    out, weights = attention_forward(Layer(), query, key, value, numbers, output_attentions=True)
    out.square().sum().backward()
    for b, q in ((0, 2), (1, 4)):
        assert not out[b, q].any()
        assert weights is not None
        assert not weights[b, :, q].any()
        assert query.grad is not None
        assert not query.grad[b, :, q].any()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in (query, key, value))


def test_numbers_of_a_mask_and_a_position_bias_add_up() -> None:
    """Over whatever dtype the mask has; the least number of that dtype hides."""
    numbers, bias = torch.randn(2, 2, 4, 6, 6, generator=torch.Generator().manual_seed(2)).unbind()
    hidden = torch.eye(6, dtype=torch.bool)
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        mask = numbers.to(dtype).masked_fill(hidden, torch.finfo(dtype).min)
        got, _ = attention_forward(Layer(), *qkv(), mask, position_bias=bias)
        expected = attention(*qkv(), bias=numbers.to(dtype) + bias, mask=~hidden)
        assert torch.allclose(got, expected.transpose(1, 2), rtol=0, atol=1e-12)


def test_no_table_is_made_where_position_alone_decides() -> None:
    """Then a backend may skip what is hidden, instead of being told of each score."""
    make = AttentionMaskInterface()["attnkit"]
    assert make(batch_size=2, q_length=6, kv_length=6) is None
    table = make(batch_size=2, q_length=2, kv_length=6, q_offset=4)
    assert table.dtype == torch.bool
    assert table.tolist() == [[[[True] * 5 + [False], [True] * 6]]] * 2


def test_a_learned_bias_gets_its_gradient_even_when_it_is_zero() -> None:
    """As T5's would at its start; a bias of zeros that learns nothing is left out."""
    bias = torch.zeros(1, 4, 6, 6, dtype=torch.float64, requires_grad=True)
    out, _ = attention_forward(Layer(), *qkv(), None, position_bias=bias)
    out.square().sum().backward()
    assert bias.grad is not None
    assert bias.grad.any()


def test_dropout_acts_in_training_and_repeats_by_seed() -> None:
    layer, results = Layer(False), []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(attention_forward(layer.train(), *qkv(), None, dropout=0.5)[0])
    torch.manual_seed(3)
    expected = attention(*qkv(), dropout=0.5).transpose(1, 2)
    still = attention_forward(layer.eval(), *qkv(), None, dropout=0.5)[0]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], expected)
    assert torch.equal(still, attention(*qkv()).transpose(1, 2))


def test_importing_attnkit_neither_loads_nor_changes_transformers() -> None:
    code = (
        "import sys, attnkit.integrations.transformers as t\n"
        "assert 'transformers' not in sys.modules\n"
        "import transformers\n"
        "assert 'attnkit' not in transformers.AttentionInterface()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_transformers_the_way_to_install_it_is_said() -> None:
    code = (
        "import sys\nsys.modules['transformers'] = None\nfrom attnkit.integrations.transformers import register\n"
        "try:\n    register()\nexcept ImportError as error:\n    print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert 'pip install "attnkit[hf]"' in run.stdout


def test_the_example_of_the_docs() -> None:
    assert doctest.testmod(integration).attempted >= 5
    assert doctest.testmod(integration).failed == 0
