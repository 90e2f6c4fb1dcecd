"""Additive attention against its formula, one query and key at a time."""

from __future__ import annotations

import doctest
import math

import pytest
import torch

from attnkit.masks import Causal, Padding
from attnkit.variants import AdditiveAttention, additive


def by_hand(attend: AdditiveAttention, query, key, value, visible) -> torch.Tensor:
    """Loops over batch, queries and keys, with math's own exp and tanh."""
    query = query.detach()
    out = torch.zeros(*query.shape[:2], value.shape[-1], dtype=value.dtype)
    w, b, u, v = (
        p.detach() for p in (attend.query.weight, attend.query.bias, attend.key.weight, attend.score.weight[0])
    )
    for n in range(len(query)):
        for i in range(query.shape[1]):
            seen = [j for j in range(key.shape[1]) if visible[n][i][j]]
            hidden = [w @ query[n, i] + b + u @ key[n, j] for j in seen]
            scores = [sum(float(v[c]) * math.tanh(float(h[c])) for c in range(len(v))) for h in hidden]
            whole = sum(math.exp(score) for score in scores)
            for j, score in zip(seen, scores, strict=True):
                out[n, i] += math.exp(score) / whole * value[n, j]
    return out


@pytest.fixture
def case():
    attend = AdditiveAttention(d_query=6, d_key=4, d_hidden=5).double()
    return attend, torch.randn(2, 3, 6).double(), torch.randn(2, 7, 4).double(), torch.randn(2, 7, 2).double()


def test_it_is_its_formula(case) -> None:
    attend, query, key, value = case
    out, weights = attend(query, key, value)
    torch.testing.assert_close(out, by_hand(*case, torch.ones(2, 3, 7)))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3).double())


def test_masks_hide_exactly_and_rows_without_a_key_get_nothing(case) -> None:
    attend, query, key, value = case
    query.requires_grad_()
    out, weights = attend(query, key, value, mask=Padding([4, 0]))
    visible = [[[j < n for j in range(7)] for _ in range(3)] for n in (4, 0)]
    torch.testing.assert_close(out, by_hand(attend, query, key, value, visible))
    assert (weights[0, :, 4:] == 0).all()
    assert (out[1] == 0).all()
    out.sum().backward()
    assert query.grad.isfinite().all()
    assert (query.grad[1] == 0).all()


def test_a_table_is_as_good_as_a_mask(case) -> None:
    attend, _, key, value = case
    query = torch.randn(2, 7, 6).double()
    by_mask, _ = attend(query, key, value, mask=Causal())
    by_table, _ = attend(query, key, value, mask=torch.ones(7, 7, dtype=torch.bool).tril()[None])
    assert torch.equal(by_mask, by_table)


def test_inputs_that_do_not_fit_are_named(case) -> None:
    attend, query, _, value = case
    with pytest.raises(ValueError, match=r"key has shape \(2, 7, 6\); its last axis must be d_key = 4"):
        attend(query, torch.randn(2, 7, 6).double(), value)
    with pytest.raises(ValueError, match="d_hidden is 0"):
        AdditiveAttention(4, 4, 0)


def test_the_example_in_the_docstring_is_right() -> None:
    found = doctest.testmod(additive)
    assert found.attempted
    assert not found.failed
