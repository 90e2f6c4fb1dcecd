"""What the appendix says of JAX and Flax. They are no dependency of attnkit's: run where they happen to be installed.

A full JAX would add about half a gigabyte to the test environment for one column of a table. Last run with JAX 0.10.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from attnkit import attention
from attnkit.masks import Causal, Padding, Window
from attnkit.testing.conventions import Attend, row_kind, same_as, visible, weights_of

jax = pytest.importorskip("jax", reason="JAX is no dependency: half a gigabyte for one column of a table")
jnp = jax.numpy

KEEP = np.array([[True, True, False, False]])


def by_jax(**options: Any) -> Attend:
    """jax.nn.dot_product_attention, with its axes (batch, length, heads, d) turned to ours."""

    def call(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        turned = (jnp.asarray(x.transpose(1, 2).numpy()) for x in (query, key, value))
        out = jax.nn.dot_product_attention(*turned, **options)
        return torch.tensor(np.asarray(out)).transpose(1, 2)

    return call


def first_row(call: Attend) -> Tensor:
    return weights_of(call, q_len=1, k_len=4)[0]


def test_true_is_kept_and_only_bool_is_taken() -> None:
    seen = visible(first_row(by_jax(mask=jnp.asarray(KEEP)[None, None]))[None])
    assert torch.equal(seen, torch.tensor(KEEP))
    with pytest.raises(ValueError, match="bool"):
        first_row(by_jax(mask=jnp.asarray(KEEP)[None, None].astype(int)))


@pytest.mark.parametrize(("q_len", "k_len"), [(2, 4), (4, 2)])
def test_is_causal_aligns_upper_left(q_len: int, k_len: int) -> None:
    masks = {"upper": Causal("upper_left"), "lower": Causal("lower_right")}
    assert same_as(weights_of(by_jax(is_causal=True), q_len=q_len, k_len=k_len), masks) == ["upper"]


def test_scale_and_axes() -> None:
    query, key, value = torch.randn(2, 3, 5, 16), torch.randn(2, 3, 7, 16), torch.randn(2, 3, 7, 16)
    torch.testing.assert_close(by_jax()(query, key, value), attention(query, key, value))


def test_lengths_and_windows() -> None:
    padded = weights_of(by_jax(key_value_seq_lengths=jnp.array([3], jnp.int32)), q_len=2, k_len=4)
    assert same_as(padded, {"padding": Padding([3])}) == ["padding"]
    band = weights_of(by_jax(local_window_size=(1, 0)), q_len=2, k_len=4)
    assert same_as(band, {"window": Window(1, 0, "upper_left")}) == ["window"]
    cut = weights_of(by_jax(query_seq_lengths=jnp.array([1], jnp.int32)), q_len=2, k_len=4)
    assert row_kind(cut[0]) == "mean of all"
    assert row_kind(cut[1]) == "nothing"


def test_an_empty_row_is_the_mean_of_all_values() -> None:
    nobody = jnp.zeros((1, 1, 1, 4), bool)
    assert row_kind(first_row(by_jax(mask=nobody))) == "mean of all"
    assert row_kind(first_row(by_jax(key_value_seq_lengths=jnp.array([0], jnp.int32)))) == "mean of all"


def test_grouped_heads_that_share_are_neighbours() -> None:
    q, k, v = (np.random.default_rng(0).normal(size=(1, 5, heads, 8)).astype("float32") for heads in (6, 2, 2))
    shared = jax.nn.dot_product_attention(*map(jnp.asarray, (q, k, v)))
    written_out = jax.nn.dot_product_attention(jnp.asarray(q), *(jnp.repeat(jnp.asarray(x), 3, axis=2) for x in (k, v)))
    np.testing.assert_allclose(shared, written_out, atol=1e-6)


def test_masks_of_flax_are_floats_in_which_one_means_keep() -> None:
    linen = pytest.importorskip("flax.linen", reason="Flax is no dependency")
    causal = linen.make_causal_mask(jnp.ones((1, 3)))
    assert causal.shape == (1, 1, 3, 3)
    assert causal.dtype == jnp.float32
    assert np.array_equal(np.asarray(causal)[0, 0] > 0, Causal().materialize(1, 1, 3, 3)[0, 0].numpy())
    padding = linen.make_attention_mask(jnp.ones((1, 2)), jnp.array([[1, 1, 1, 0]]))
    assert np.array_equal(np.asarray(padding)[0, 0] > 0, Padding([3]).materialize(1, 1, 2, 4)[0, 0].numpy())
    with pytest.raises(ValueError, match="bool"):
        first_row(by_jax(mask=linen.make_attention_mask(jnp.ones((1, 1)), jnp.array([[1, 1, 0, 0]]))))
