"""What the appendix says of PyTorch's three attentions, line by line, and what it does not show: gradients."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.bias import causal_lower_right, causal_upper_left
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from attnkit import attention
from attnkit.masks import Causal, Document, Mask, Padding, Window
from attnkit.testing.conventions import row_kind, same_as, visible, weights_of

KEEP = torch.tensor([[True, True, False, False]])
NOBODY = torch.zeros(1, 4, dtype=torch.bool)
Call = Callable[[Tensor, Tensor, Tensor], Tensor]


def sdpa(**options: Any) -> Call:
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **options)


def identity_module() -> nn.MultiheadAttention:
    """The module, with projections that change nothing."""
    module = nn.MultiheadAttention(16, 1, bias=False, batch_first=True)
    with torch.no_grad():
        module.in_proj_weight.copy_(torch.eye(16).repeat(3, 1))
        module.out_proj.weight.copy_(torch.eye(16))
    return module


def module(**options: Any) -> Call:
    return lambda q, k, v: identity_module()(q[0], k[0], v[0], **options)[0][None]


def flex(mask: Mask, q_len: int, k_len: int) -> Call:
    """FlexAttention under a mask's table: its rule would do as well, but here carries checks that cannot be traced."""
    table = mask.materialize(1, 1, q_len, k_len)[0, 0]
    block = create_block_mask(lambda b, h, q, k: table[q, k], 1, 1, q_len, k_len, device="cpu")

    def call(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        with warnings.catch_warnings():  # not compiled, so slow; that is not asked here
            warnings.simplefilter("ignore")
            return flex_attention(query, key, value, block_mask=block)

    return call


def first_row(call: Call) -> Tensor:
    return weights_of(call, q_len=1, k_len=4)[0]


def test_the_function_keeps_what_is_true_and_the_module_hides_it() -> None:
    assert torch.equal(visible(first_row(sdpa(attn_mask=KEEP))[None]), KEEP)
    for name in ("key_padding_mask", "attn_mask"):
        assert torch.equal(visible(first_row(module(**{name: KEEP}))[None]), ~KEEP)


def test_float_masks_are_added() -> None:
    expected = KEEP.float().softmax(-1)[0]
    for call in (sdpa(attn_mask=KEEP.float()), module(attn_mask=KEEP.float()), module(key_padding_mask=KEEP.float())):
        torch.testing.assert_close(first_row(call), expected)


@pytest.mark.parametrize(("q_len", "k_len"), [(2, 4), (4, 2), (1, 5)])
def test_causal_alignments(q_len: int, k_len: int) -> None:
    upper, lower = {"upper": Causal("upper_left")}, {"lower": Causal("lower_right")}
    sizes = {"q_len": q_len, "k_len": k_len}
    assert same_as(weights_of(sdpa(is_causal=True), **sizes), upper) == ["upper"]
    assert same_as(weights_of(sdpa(attn_mask=causal_upper_left(q_len, k_len)), **sizes), upper) == ["upper"]
    if q_len <= k_len:  # for more queries than keys PyTorch's own bias warns that rows are empty
        assert same_as(weights_of(sdpa(attn_mask=causal_lower_right(q_len, k_len)), **sizes), lower) == ["lower"]


def test_rows_that_see_nothing() -> None:
    low = torch.full((1, 4), torch.finfo(torch.float32).min)
    assert row_kind(first_row(sdpa(attn_mask=NOBODY))) == "nothing"
    assert row_kind(first_row(sdpa(attn_mask=torch.full((1, 4), -math.inf)))) == "nothing"
    assert row_kind(first_row(sdpa(attn_mask=low))) == "mean of all"
    assert row_kind(first_row(module(attn_mask=~NOBODY))) == "nan"
    assert row_kind(first_row(module(attn_mask=~NOBODY, need_weights=False))) == "nothing"
    assert row_kind(first_row(flex(Padding([0]), 1, 4))) == "nothing"
    assert row_kind(first_row(lambda q, k, v: attention(q, k, v, mask=NOBODY))) == "nothing"


def test_gradients_of_rows_that_see_nothing() -> None:
    """0 in attnkit and in SDPA; nan from the module that computes its own weights."""
    calls: dict[str, Call] = {
        "attnkit": lambda q, k, v: attention(q, k, v, mask=NOBODY),
        "sdpa": sdpa(attn_mask=NOBODY),
        "module": module(attn_mask=~NOBODY),
    }
    for name, call in calls.items():
        query, key, value = (torch.randn(1, 1, n, 16, requires_grad=True) for n in (1, 4, 4))
        call(query, key, value).sum().backward()
        grads = [x.grad for x in (query, key, value)]
        if name == "module":
            assert any(bool(g.isnan().any()) for g in grads)
        else:
            assert all(bool((g == 0).all()) for g in grads)


def test_what_the_function_refuses() -> None:
    q, table = torch.zeros(1, 1, 4, 8), torch.ones(4, 4, dtype=torch.bool)
    with pytest.raises(RuntimeError):
        F.scaled_dot_product_attention(q, q, q, attn_mask=table.long())
    with sdpa_kernel(SDPBackend.MATH), pytest.raises(RuntimeError):
        F.scaled_dot_product_attention(q, q, q, attn_mask=table, is_causal=True)


def test_a_mask_and_is_causal_are_joined_where_they_are_not_refused() -> None:
    """It depends on the kernel that PyTorch picks, which is why the page says: give one of the two."""
    both = Causal() & Window(1, 1)
    table = Window(1, 1).materialize(1, 1, 4, 4)
    try:
        weights = weights_of(sdpa(attn_mask=table, is_causal=True), q_len=4, k_len=4)
    except RuntimeError:
        return
    assert same_as(weights, {"both": both}) == ["both"]


def test_the_function_drops_whenever_it_is_told_to_the_module_only_in_training() -> None:
    q, ones = torch.zeros(1, 1, 64, 16), torch.ones(1, 1, 64, 16)
    with torch.no_grad():
        assert not torch.equal(F.scaled_dot_product_attention(q, q, ones, dropout_p=0.5), ones)
    attend = nn.MultiheadAttention(16, 4, dropout=0.5, batch_first=True)
    x = torch.randn(2, 9, 16)
    assert torch.equal(attend.eval()(x, x, x)[0], attend(x, x, x)[0])
    attend.train()
    assert not torch.equal(attend(x, x, x)[0], attend(x, x, x)[0])


def test_is_causal_is_a_hint_to_the_module() -> None:
    x = torch.randn(1, 5, 16)
    attend = identity_module()
    with pytest.raises(RuntimeError):
        attend(x, x, x, is_causal=True)
    causal = nn.Transformer.generate_square_subsequent_mask(5)
    assert torch.equal(causal == 0, Causal().materialize(1, 1, 5, 5)[0, 0])
    hinted = attend(x, x, x, attn_mask=causal, is_causal=True, need_weights=False)[0]
    torch.testing.assert_close(hinted, attend(x, x, x, attn_mask=causal)[0])
    # A wrong hint is believed: the mask that was given is not looked at.
    believed = attend(x, x, x, attn_mask=torch.zeros(5, 5), is_causal=True, need_weights=False)[0]
    torch.testing.assert_close(believed, hinted)


def test_shapes_of_the_module() -> None:
    attend = nn.MultiheadAttention(16, 4)
    x = torch.randn(7, 3, 16)  # the length first
    mean, each = attend(x, x, x)[1], attend(x, x, x, average_attn_weights=False)[1]
    assert mean.shape == (3, 7, 7)
    assert each.shape == (3, 4, 7, 7)
    torch.testing.assert_close(mean, each.mean(1))
    per_head = torch.zeros(3 * 4, 7, 7, dtype=torch.bool)
    per_head[5, :, 0] = True  # batch element 1, head 1
    hidden = attend(x, x, x, attn_mask=per_head, average_attn_weights=False)[1]
    assert (hidden[1, 1, :, 0] == 0).all()
    assert (hidden[1, 2, :, 0] > 0).all()
    assert (hidden[0, 1, :, 0] > 0).all()


@pytest.mark.parametrize(
    "mask", [Causal("lower_right"), Window(1, 1, "upper_left"), Padding([3]), Document([0, 0, 1, 1], [0, 1, 1, 1, 2])]
)
def test_a_mask_mod_keeps_what_is_true(mask: Mask) -> None:
    weights = weights_of(flex(mask, 4, 5), q_len=4, k_len=5)
    assert same_as(weights, {"it": mask}) == ["it"]


def test_grouped_heads_that_share_are_neighbours() -> None:
    q, k, v = torch.randn(1, 6, 5, 8), torch.randn(1, 2, 5, 8), torch.randn(1, 2, 5, 8)
    expected = torch.cat([F.scaled_dot_product_attention(q[:, h], k[:, h // 3], v[:, h // 3]) for h in range(6)])
    torch.testing.assert_close(F.scaled_dot_product_attention(q, k, v, enable_gqa=True)[0], expected)
    torch.testing.assert_close(attention(q, k, v)[0], expected)
