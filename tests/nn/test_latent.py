"""Latent attention: equal to DeepSeek's in Transformers, in both of its forms, and cached as its latents alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import DeepseekV2Config, DeepseekV3Config
from transformers.models.deepseek_v2 import modeling_deepseek_v2 as v2
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as v3

from attnkit.masks import Causal, Prefix, Window
from attnkit.nn import CrossCache, DynamicCache, LatentAttention, SlidingCache, StaticCache, causal, recording
from attnkit.positions import ALiBi, Rotary

D, HEADS, LEN = 32, 4, 9
SHAPE = {"d_latent": 12, "d_head": 8, "d_rope": 6, "d_value": 10}
TIGHT = {"rtol": 0, "atol": 1e-12}


def latent(**options) -> LatentAttention:
    torch.manual_seed(1)
    module = LatentAttention(D, HEADS, **(SHAPE | options)).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def tokens(batch: int = 2, length: int = LEN, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, D, generator=generator, dtype=torch.float64)


def deepseek(version: int, d_query_latent: int | None, bias: bool, interleaved: bool = True):
    """Transformers' attention with random weights, and the rotary tables that it wants."""
    config, room = ((DeepseekV2Config, v2), (DeepseekV3Config, v3))[version - 2]
    options = {} if version == 2 else {"rope_interleave": interleaved}
    config = config(
        hidden_size=D,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        q_lora_rank=d_query_latent,
        kv_lora_rank=SHAPE["d_latent"],
        qk_nope_head_dim=SHAPE["d_head"],
        qk_rope_head_dim=SHAPE["d_rope"],
        v_head_dim=SHAPE["d_value"],
        attention_bias=bias,
        attn_implementation="eager",
        **options,
    )
    torch.manual_seed(2)
    module = getattr(room, f"DeepseekV{version}Attention")(config, layer_idx=0).double().eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    tables = getattr(room, f"DeepseekV{version}RotaryEmbedding")(config)
    return module, tables(tokens(), torch.arange(LEN)[None])


def copied(theirs: nn.Module, d_query_latent: int | None, bias: bool, layout: str, absorb: bool) -> LatentAttention:
    """Ours with their weights."""
    rotary = Rotary(SHAPE["d_rope"], layout=layout)
    ours = latent(d_query_latent=d_query_latent, bias=bias, position=rotary, absorb=absorb)
    state = theirs.state_dict()
    names = {"down": "kv_a_proj_with_mqa", "latent_norm": "kv_a_layernorm", "out": "o_proj", "query": "q_b_proj"}
    names |= {"query_down": "q_a_proj", "query_norm": "q_a_layernorm"} if d_query_latent else {"query": "q_proj"}
    own = {f"{name}.weight": state.pop(f"{their}.weight") for name, their in names.items()}
    if bias:
        has = ["down", "out", *(["query_down"] if d_query_latent else [])]
        own |= {f"{name}.bias": state.pop(f"{names[name]}.bias") for name in has}
    up = state.pop("kv_b_proj.weight").view(HEADS, -1, SHAPE["d_latent"])
    own["key_up.weight"] = up[:, : SHAPE["d_head"]].flatten(0, 1)
    own["value_up.weight"] = up[:, SHAPE["d_head"] :].flatten(0, 1)
    assert not state, "every weight of theirs has a place"
    ours.load_state_dict(own | {k: v for k, v in ours.state_dict().items() if k.startswith("position")})
    return ours


@pytest.mark.parametrize("absorb", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("d_query_latent", [None, 7])
@pytest.mark.parametrize(("version", "layout"), [(2, "interleaved"), (3, "interleaved"), (3, "half")])
def test_equals_deepseek_in_transformers(version, layout, d_query_latent, bias, absorb) -> None:
    """Output, weights, and the gradients of the input and of the projections that are not split."""
    theirs, tables = deepseek(version, d_query_latent, bias, layout == "interleaved")
    ours = copied(theirs, d_query_latent, bias, layout, absorb)
    x = tokens().requires_grad_()
    hidden = torch.full((LEN, LEN), float("-inf"), dtype=torch.float64).triu(1)[None, None]
    want, want_weights = theirs(x, position_embeddings=tables, attention_mask=hidden)[:2]
    got, aux = ours(x, mask=Causal(), aux=("weights",))
    # Rotary tables and softmax are computed in float32 there, whatever the dtype.
    close = {"rtol": 0, "atol": 2e-6}
    torch.testing.assert_close(got, want, **close)
    torch.testing.assert_close(aux.weights, want_weights.double(), **close)
    pairs = [(x, x), (ours.down.weight, theirs.kv_a_proj_with_mqa.weight), (ours.out.weight, theirs.o_proj.weight)]
    for mine, other in pairs:
        (grad,), (ideal,) = (
            torch.autograd.grad(y.sum(), leaf, retain_graph=True) for y, leaf in ((got, mine), (want, other))
        )
        torch.testing.assert_close(grad, ideal, rtol=1e-5, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    heads=st.integers(1, 3),
    d_latent=st.integers(1, 9),
    d_head=st.integers(1, 5),
    d_rope=st.sampled_from([2, 4]),
    d_value=st.sampled_from([None, 1, 7]),
    d_query_latent=st.sampled_from([None, 3]),
)
def test_both_forms_are_equal_in_value_and_gradient(heads: int, **shape) -> None:
    torch.manual_seed(0)
    module, x = LatentAttention(D, heads, **shape).double(), tokens().requires_grad_()
    results = []
    for module.absorb in (True, False, None):
        out, aux = module(x, mask=Causal(), aux=("weights", "lse"))
        grads = torch.autograd.grad(out.square().sum(), [x, *module.parameters()])
        results.append([out, aux.weights, aux.lse, *grads])
    for other in results[1:]:
        for got, want in zip(other, results[0], strict=True):
            torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("absorb", [True, False, None])
@pytest.mark.parametrize("size", [1, 2, 3, 5, LEN])
def test_pieces_equal_the_whole_and_only_latents_are_cached(size: int, absorb: bool | None) -> None:
    module, x = latent(absorb=absorb, d_query_latent=7), tokens()
    want = module(x, mask=Causal())
    for cache in (DynamicCache(), StaticCache(LEN)):
        with torch.no_grad():
            got = [module(part, mask=causal(None, part.shape[1], cache), cache=cache) for part in x.split(size, 1)]
        torch.testing.assert_close(torch.cat(got, dim=1), want, **TIGHT)
        assert cache.nbytes == 2 * LEN * (SHAPE["d_latent"] + SHAPE["d_rope"]) * 8
    outs, cache = [], DynamicCache()
    for part in x.split(size, 1):
        outs.append(module(part, mask=causal(None, part.shape[1], cache), cache=cache))
    wanted = torch.autograd.grad(want.square().sum(), module.down.weight)
    torch.testing.assert_close(
        torch.autograd.grad(torch.cat(outs, 1).square().sum(), module.down.weight), wanted, rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("absorb", [True, False])
def test_a_sliding_cache_holds_latents_too(absorb: bool) -> None:
    module, x = latent(absorb=absorb), tokens()
    whole = module(x, mask=Causal() & (Window(2, 0) | Prefix(1)))
    cache, again = SlidingCache(3, 1), SlidingCache(3, 1, reposition=True)
    got = [module(part, mask=causal(None, part.shape[1], cache), cache=cache) for part in x.split([5, 1, 3], 1)]
    torch.testing.assert_close(torch.cat(got, dim=1), whole, **TIGHT)
    assert cache.nbytes == 2 * 4 * (SHAPE["d_latent"] + SHAPE["d_rope"]) * 8
    steps = [module(part, cache=again) for part in x.split(1, 1)]
    torch.testing.assert_close(steps[-1], module(x[:, [0, -3, -2, -1]], mask=Causal())[:, -1:], **TIGHT)


def test_the_cheaper_form_is_taken() -> None:
    """Decoding absorbs, a long input expands; as many multiplications as counted by hand decide."""
    module = LatentAttention(1024, 16, d_latent=512, d_head=128, d_rope=64)
    assert module._absorbs(1, 1000)
    assert not module._absorbs(1000, 1000)
    assert not module._absorbs(1, 1)
    expanded, absorbed = 512 * 256 + 320, 512 * 256 + 2 * 512 + 64
    assert (absorbed < expanded) == module._absorbs(1, 1)


def test_a_memory_is_projected_once() -> None:
    module, x, memory = latent(), tokens(), tokens(length=5, seed=1)
    want, cache, at = module(x, memory), CrossCache(), torch.arange(LEN)[None]
    got = [module(x[:, i : i + 1], memory, positions=at[:, i : i + 1], cache=cache) for i in range(LEN)]
    torch.testing.assert_close(torch.cat(got, dim=1), want, **TIGHT)
    assert cache.nbytes == 2 * 5 * (SHAPE["d_latent"] + SHAPE["d_rope"]) * 8


@pytest.mark.parametrize("absorb", [True, False])
def test_it_can_be_recorded(absorb: bool) -> None:
    module, x = latent(absorb=absorb), tokens()
    with recording(module) as maps:
        out = module(x, mask=Causal())
    torch.testing.assert_close(out, module(x, mask=Causal()), **TIGHT)
    torch.testing.assert_close(maps[""][0], module(x, mask=Causal(), aux=("weights",))[1].weights, **TIGHT)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"d_rope": 5}, "d_head is 5.*even"),
        ({"d_rope": 0}, "d_rope is 0"),
        ({"d_latent": 0}, "d_latent is 0.*at least 1"),
        ({"d_query_latent": 0}, "d_query_latent is 0.*at least 1"),
        ({"d_head": 0}, "d_head is 0"),
        ({"position": ALiBi(HEADS)}, "position is ALiBi.*rotates"),
        ({"dropout": 1}, "dropout is 1.*below 1"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        latent(**options)


def test_wrong_inputs_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"x is.*\(2, 9, 31\).*d_model = 32"):
        latent()(tokens()[..., 1:])
    with pytest.raises(ValueError, match="memory takes a CrossCache"):
        latent()(tokens(), tokens(), cache=DynamicCache())
