"""What the appendix says of Hugging Face Transformers: the sense, the tables inside, the window, the empty row."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attnkit.masks import Causal, Prefix, Window

transformers = pytest.importorskip("transformers", reason="needs transformers, of the extra hf")
masking = pytest.importorskip("transformers.masking_utils", reason="needs Transformers 5")


def config(implementation: str, **more: Any) -> Any:
    return transformers.LlamaConfig(
        vocab_size=11,
        hidden_size=16,
        intermediate_size=16,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_hidden_layers=1,
        attn_implementation=implementation,
        **more,
    )


LEFT = torch.tensor([[0, 1, 1, 1]])
NEW = torch.zeros(1, 4, 16)


def test_one_means_keep_and_the_inside_follows_the_implementation() -> None:
    ours = (~Prefix(1) & Causal()).materialize(1, 1, 4, 4)
    kept = masking.create_causal_mask(config("sdpa"), NEW, LEFT, None)
    assert kept.dtype == torch.bool
    assert torch.equal(kept, ours)
    added = masking.create_causal_mask(config("eager"), NEW, LEFT, None)
    assert torch.equal(added == 0, ours)
    assert (added[~ours] == torch.finfo(added.dtype).min).all()


def test_a_table_with_four_axes_is_passed_on_as_it_is() -> None:
    given = torch.randn(1, 1, 4, 4)
    assert masking.create_causal_mask(config("eager"), NEW, given, None) is given


def test_the_window_counts_the_query_itself() -> None:
    for width in (1, 2, 3):
        settings = config("sdpa", sliding_window=width)
        band = masking.create_sliding_window_causal_mask(settings, NEW, None, None)
        assert torch.equal(band, Window(width - 1, 0).materialize(1, 1, 4, 4))


def test_with_a_cache_the_queries_are_the_last_tokens() -> None:
    cache = transformers.DynamicCache()
    held = torch.zeros(1, 1, 3, 8)
    keys, _ = cache.update(held, held, 0)
    assert keys.shape == held.shape  # (batch, key heads, tokens, d)
    table = masking.create_causal_mask(config("eager"), torch.zeros(1, 2, 16), torch.ones(1, 5), cache)
    assert torch.equal(table == 0, Causal("lower_right").materialize(1, 1, 2, 5))


def test_a_row_of_filler_is_averaged_by_eager_and_zero_in_sdpa() -> None:
    torch.manual_seed(0)
    eager = transformers.LlamaModel(config("eager")).eval()
    ids = torch.tensor([[0, 1, 2, 3]])
    with torch.no_grad():
        weights = eager(ids, attention_mask=LEFT, output_attentions=True).attentions[0]
    torch.testing.assert_close(weights[0, :, 0], torch.full((2, 4), 0.25))  # the future included

    other = transformers.LlamaModel(config("sdpa")).eval()
    other.load_state_dict(eager.state_dict())
    found = {}
    for name, model in (("eager", eager), ("sdpa", other)):
        outputs: list[torch.Tensor] = []
        hook = model.layers[0].self_attn.register_forward_hook(lambda m, i, out, seen=outputs: seen.append(out[0]))
        with torch.no_grad():
            model(ids, attention_mask=LEFT)
        hook.remove()
        found[name] = outputs[0][0]
    assert (found["sdpa"][0] == 0).all()
    assert found["eager"][0].abs().max() > 1e-4
    torch.testing.assert_close(found["sdpa"][1:], found["eager"][1:])
