"""The experiment that reads a mask off an unknown attention: right for known ones, and not fooled by wrong ones."""

from __future__ import annotations

import doctest

import pytest
import torch
from torch import Tensor

from attnkit import attention
from attnkit.masks import Causal, Dense, Mask, Padding, Prefix, Window
from attnkit.testing import conventions
from attnkit.testing.conventions import row_kind, same_as, visible, weights_of

MASKS: dict[str, Mask] = {
    "upper left": Causal("upper_left"),
    "lower right": Causal("lower_right"),
    "window": Window(1, 0, "lower_right"),
    "padding": Padding([3]),
    "left padding": ~Prefix(2) & Causal("lower_right"),
}


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(conventions).failed == 0


@pytest.mark.parametrize("backend", ["naive", "online", "sdpa"])
@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize(("q_len", "k_len"), [(3, 5), (5, 5), (5, 3)])
def test_the_mask_that_was_given_is_found(name: str, q_len: int, k_len: int, backend: str) -> None:
    mask = MASKS[name]
    weights = weights_of(lambda q, k, v: attention(q, k, v, mask=mask, backend=backend), q_len=q_len, k_len=k_len)
    table = mask.materialize(1, 1, q_len, k_len)[0, 0]
    assert torch.equal(visible(weights), table)
    equal = [n for n, m in MASKS.items() if torch.equal(m.materialize(1, 1, q_len, k_len)[0, 0], table)]
    assert same_as(weights, MASKS) == equal


def by_hand(query: Tensor, key: Tensor, value: Tensor, added: Tensor, after: Tensor | None = None) -> Tensor:
    weights = (query @ key.mT + added).softmax(-1)
    return (weights if after is None else weights * after) @ value


def test_a_mask_that_leaks_or_does_not_renormalise_is_no_mask() -> None:
    seen = Causal().materialize(1, 1, 4, 4)
    for added, after in ((seen.float(), None), (torch.zeros(4, 4), seen.float())):
        weights = weights_of(lambda q, k, v, added=added, after=after: by_hand(q, k, v, added, after), q_len=4, k_len=4)
        assert same_as(weights, {"causal": Causal()}) == []


def test_rows_that_see_nothing_are_told_apart() -> None:
    hidden = torch.full((1, 4), -torch.inf)
    assert row_kind(weights_of(lambda q, k, v: by_hand(q, k, v, hidden), q_len=1, k_len=4)[0]) == "nan"
    low = torch.full((1, 4), torch.finfo(torch.float32).min)
    assert row_kind(weights_of(lambda q, k, v: by_hand(q, k, v, low), q_len=1, k_len=4)[0]) == "mean of all"
    nobody = Dense(torch.zeros(1, 1, dtype=torch.bool))
    weights = weights_of(lambda q, k, v: attention(q, k, v, mask=nobody), q_len=1, k_len=4)
    assert row_kind(weights[0]) == "nothing"
    assert same_as(weights, {"nobody": nobody}) == ["nobody"]
    assert row_kind(torch.tensor([0.5, 0.5, 0.0])) == "some"
    assert not visible(torch.tensor([[torch.nan, torch.nan]])).any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"q_len": 0, "k_len": 4}, "q_len is 0"),
        ({"q_len": 2, "k_len": True}, "k_len is True"),
        ({"q_len": 2, "k_len": 17}, "width is 16; each of the k_len = 17"),
    ],
)
def test_sizes_that_cannot_be_are_refused(options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        weights_of(attention, **options)


def test_an_output_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"attend returned shape \(1, 2, 1, 16\); it should be \(1, 1, 2, 16\)"):
        weights_of(lambda q, k, v: attention(q, k, v).transpose(1, 2), q_len=2, k_len=2)
