"""BERT's corruption: how many, which, and what stands there; whole words; never a special token."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnkit.training import corrupt

MASK, PAD, START = 3, 0, 1


def tokens(batch: int, length: int, vocab: int = 100, seed: int = 0) -> Tensor:
    """Rows that start with START, end in padding of different length, and hold a MASK now and then."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, vocab, (batch, length), generator=generator)
    ids[:, :1] = START
    ends = torch.randint(1, length + 1, (batch, 1), generator=generator)
    return ids.where(torch.arange(length) < ends, PAD)


@given(seed=st.integers(0, 999), length=st.integers(1, 40), rate=st.sampled_from([0.01, 0.15, 0.5, 1.0]))
@settings(max_examples=60, deadline=None)
def test_the_right_number_is_chosen_and_only_there_is_anything_changed(seed: int, length: int, rate: float) -> None:
    ids = tokens(4, length, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    changed, targets = corrupt(ids, mask=MASK, vocab=100, special=[PAD, START], rate=rate, generator=generator)
    chosen = targets != -100
    ordinary = (ids != PAD) & (ids != START) & (ids != MASK)
    assert not bool((chosen & ~ordinary).any()), "a special token was chosen"
    assert torch.equal(targets[chosen], ids[chosen])
    assert torch.equal(changed[~chosen], ids[~chosen])
    put_in = changed[(changed != ids) & (changed != MASK)]
    assert not bool(torch.isin(put_in, torch.tensor([PAD, START])).any())
    for row, could in zip(chosen.sum(1).tolist(), ordinary.sum(1).tolist(), strict=True):
        assert row == (max(1, round(rate * could)) if could else 0)


def test_of_the_chosen_80_10_10() -> None:
    ids = torch.randint(4, 1000, (400, 500), generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    changed, targets = corrupt(ids, mask=MASK, vocab=1000, special=[PAD, START], generator=generator)
    chosen = targets != -100
    n = int(chosen.sum())
    assert n == 400 * 75
    masked, kept = (changed[chosen] == MASK), (changed[chosen] == ids[chosen])
    for share, expected in ((masked, 0.8), (kept, 0.1), (~masked & ~kept, 0.1)):
        error = (expected * (1 - expected) / n) ** 0.5
        assert abs(float(share.double().mean()) - expected) < 5 * error
    drawn = changed[chosen][~masked & ~kept]
    assert drawn.min() == 2, "2 is an ordinary token that does not occur in ids: any may be put in"
    assert len(drawn.unique()) > 900
    assert abs(float(chosen.double().mean(0).std()) - (0.15 * 0.85 / 400) ** 0.5) < 0.003, "every place is as likely"


def test_a_generator_repeats_it_and_torch_s_own_is_used_without_one() -> None:
    ids = tokens(8, 30)

    def once(seed: int) -> list[Any]:
        generator = torch.Generator().manual_seed(seed)
        return [part.tolist() for part in corrupt(ids, mask=MASK, vocab=100, special=[PAD], generator=generator)]

    assert once(0) == once(0) != once(1)
    torch.manual_seed(0)
    first = corrupt(ids, mask=MASK, vocab=100).targets
    second = corrupt(ids, mask=MASK, vocab=100).targets
    torch.manual_seed(0)
    assert torch.equal(corrupt(ids, mask=MASK, vocab=100).targets, first)
    assert not torch.equal(first, second)


@given(seed=st.integers(0, 999), rate=st.sampled_from([0.05, 0.15, 0.4]))
@settings(max_examples=40, deadline=None)
def test_words_are_chosen_whole(seed: int, rate: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    ids = tokens(5, 30, seed=seed)
    words = (torch.rand(5, 30, generator=generator) < 0.5).long().cumsum(1).clamp(max=29)
    targets = corrupt(
        ids, mask=MASK, vocab=100, special=[PAD, START], rate=rate, words=words, generator=generator
    ).targets
    chosen, ordinary = targets != -100, (ids != PAD) & (ids != START) & (ids != MASK)
    for row in range(5):
        sizes = []
        for word in words[row].unique():
            of_word = (words[row] == word) & ordinary[row]
            if of_word.any():
                assert len(chosen[row][of_word].unique()) == 1, "all of a word or none of it"
                if chosen[row][of_word].any():
                    sizes.append(int(of_word.sum()))
        wanted = max(1, round(rate * int(ordinary[row].sum()))) if ordinary[row].any() else 0
        assert sum(sizes) >= wanted
        assert sum(sizes) - max(sizes, default=0) < max(wanted, 1), "it stops with the word that reaches the share"


def test_a_row_of_special_tokens_is_left_as_it_is() -> None:
    ids = torch.tensor([[START, PAD, PAD], [START, 7, PAD]])
    changed, targets = corrupt(ids, mask=MASK, vocab=10, special=[PAD, START])
    assert (targets != -100).tolist() == [[False, False, False], [False, True, False]]
    assert changed[0].tolist() == ids[0].tolist()
    assert corrupt(ids[:, :0], mask=MASK, vocab=10).targets.shape == (2, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": torch.zeros(3, dtype=torch.long)}, r"ids has shape \(3,\)"),
        ({"ids": torch.zeros(3, 2)}, "ids has .* torch.float32"),
        ({"mask": 10}, "mask holds 10"),
        ({"special": [0, -1]}, "special holds -1"),
        ({"rate": 0.0}, "rate is 0.0"),
        ({"words": torch.zeros(2, 4, dtype=torch.long)}, r"words has shape \(2, 4\)"),
        ({"words": torch.full((2, 3), 3)}, "number the words of each sequence from 0"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        corrupt(**{"ids": torch.ones(2, 3, dtype=torch.long), "mask": MASK, "vocab": 10, **change})
