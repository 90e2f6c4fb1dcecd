"""Batches: nothing lost, nothing doubled, the same order from the same seed, and taken up where they were left."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnkit.training import Buckets, Epochs, Stream, pad

LENGTHS = np.random.default_rng(0).integers(1, 80, 500).tolist()


@given(st.lists(st.lists(st.integers(1, 99), max_size=7), min_size=1, max_size=5), st.booleans(), st.integers(1, 4))
def test_padding_can_be_taken_off_again(rows: list[list[int]], left: bool, multiple: int) -> None:
    ids, lengths = pad(rows, left=left, multiple=multiple)
    assert lengths.tolist() == [len(row) for row in rows]
    assert ids.shape[1] % multiple == 0
    assert ids.shape[1] - max(map(len, rows)) < multiple
    width = ids.shape[1]
    cut = [row[width - n :] if left else row[:n] for row, n in zip(ids.tolist(), lengths.tolist(), strict=True)]
    assert cut == rows
    assert int((ids != 0).sum()) == sum(map(len, rows)), "the rest is padding"


def test_padding_takes_tensors_and_a_value() -> None:
    assert pad([torch.tensor([1, 2]), torch.tensor([3])], value=7).ids.tolist() == [[1, 2], [3, 7]]


@given(tokens=st.integers(2, 90), batch=st.integers(1, 5), length=st.integers(1, 9), seed=st.sampled_from([None, 3]))
@settings(max_examples=60, deadline=None)
def test_a_stream_predicts_every_token_once_from_the_one_before(
    tokens: int, batch: int, length: int, seed: int | None
) -> None:
    """Token i is i here, so that a target must be its input and 1."""
    seen: Counter[int] = Counter()
    for inputs, targets in Stream(range(tokens), batch=batch, length=length, seed=seed, pad=-5):
        assert inputs.shape == targets.shape == (batch, length)
        real = targets != -100
        assert torch.equal(targets[real], inputs[real] + 1)
        assert bool((inputs[~real] == -5).all())
        seen.update(targets[real].tolist())
    assert seen == Counter(range(1, tokens))


def test_the_rows_of_a_stream_continue_each_other() -> None:
    stream = Stream(range(101), batch=4, length=7)
    for row in range(4):
        strand = torch.cat([inputs[row][targets[row] != -100] for inputs, targets in stream])
        assert torch.equal(strand, torch.arange(int(strand[0]), int(strand[0]) + 25))


def test_a_seed_shuffles_the_windows_differently_in_each_epoch() -> None:
    def epochs(seed: int) -> list[list[list[int]]]:
        stream = Stream(range(200), batch=4, length=7, seed=seed)
        return [[row for inputs, _ in stream for row in inputs.tolist()] for _ in range(2)]

    first, second = epochs(1)
    assert first != second
    assert sorted(first) == sorted(second)
    assert epochs(1) == [first, second]
    assert epochs(2) != [first, second]


@pytest.mark.parametrize("how", [{"batch": 8}, {"batch": 7, "pool": 3}, {"tokens": 300}, {"tokens": 80, "pool": 1}])
def test_buckets_give_every_item_once_an_epoch_in_a_seeded_order(how: dict[str, Any]) -> None:
    buckets: Buckets[list[int]] = Buckets(range(500), LENGTHS, seed=5, **how)
    first, second = list(buckets), list(buckets)
    for epoch in (first, second):
        assert sorted(item for batch in epoch for item in batch) == list(range(500))
    assert first != second
    assert list(Buckets(range(500), LENGTHS, seed=5, **how)) == first
    assert list(Buckets(range(500), LENGTHS, seed=6, **how)) != first
    for batch in first:
        if "tokens" in how:
            assert len(batch) * max(LENGTHS[item] for item in batch) <= how["tokens"]
        else:
            assert len(batch) <= how["batch"]


@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=40),
    how=st.sampled_from([{"batch": 3}, {"tokens": 9}, {"tokens": 20, "pool": 1}]),
)
def test_buckets_lose_nothing_whatever_the_lengths(lengths: list[int], how: dict[str, Any]) -> None:
    batches = list(Buckets(range(len(lengths)), lengths, **how))
    assert sorted(item for batch in batches for item in batch) == list(range(len(lengths)))
    assert all(batches)


def test_buckets_waste_far_less_than_batches_at_random() -> None:
    order = np.random.default_rng(1).permutation(500).reshape(-1, 10)
    lengths = np.asarray(LENGTHS)
    at_random = 1 - lengths.sum() / sum(10 * lengths[batch].max() for batch in order)
    buckets: Buckets[list[int]] = Buckets(range(500), LENGTHS, batch=10)
    small: Buckets[list[int]] = Buckets(range(500), LENGTHS, batch=10, pool=5)
    padded = sum(len(batch) * max(LENGTHS[item] for item in batch) for batch in small.plan(0))
    assert small.waste() == 1 - sum(LENGTHS) / padded, "it is what is counted by hand"
    assert buckets.waste() < small.waste() < at_random
    assert buckets.waste() < at_random / 8


def test_batches_of_a_pool_come_in_mixed_order() -> None:
    """Sorted batches in sorted order would teach short sentences first, in every epoch."""
    buckets: Buckets[list[int]] = Buckets(range(500), LENGTHS, batch=10)
    longest = [max(LENGTHS[item] for item in batch) for batch in buckets]
    assert longest != sorted(longest)


def sources() -> dict[str, Any]:
    return {
        "stream": lambda: Stream(range(100), batch=2, length=5),
        "shuffled": lambda: Stream(range(100), batch=2, length=5, seed=1),
        "buckets": lambda: Buckets(range(50), LENGTHS[:50], batch=5, seed=1, collate=torch.tensor),
    }


def draw(source: Epochs[Any], count: int) -> list[Any]:
    """`count` batches, epoch after epoch, as nested lists."""
    found: list[Any] = []
    while len(found) < count:
        for batch in source:
            found.append([part.tolist() for part in batch])
            if len(found) == count:
                break
    return found


@pytest.mark.parametrize("stop", [0, 1, 9, 10, 11, 20, 25])
@pytest.mark.parametrize("name", sources())
def test_an_order_is_taken_up_where_it_was_left(name: str, stop: int) -> None:
    make = sources()[name]
    assert len(make()) == 10
    whole = draw(make(), 30)
    first = make()
    assert draw(first, stop) == whole[:stop]
    second = make()
    second.load_state_dict(first.state_dict())
    assert draw(second, 30 - stop) == whole[stop:]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pad([]), "sequences is empty"),
        (lambda: pad([[[1]]]), "sequences must hold lists of integers"),
        (lambda: pad([[1]], multiple=0), "multiple is 0"),
        (lambda: Stream([1], batch=1, length=1), r"ids has shape \(1,\)"),
        (lambda: Stream([1.5, 2.0], batch=1, length=1), "ids has shape .* torch.float32"),
        (lambda: Stream([1, 2], batch=0, length=1), "batch is 0"),
        (lambda: Stream([1, 2], batch=1, length="a"), "length is 'a'"),
        (lambda: Buckets("ab", [1, 2]), "give either batch"),
        (lambda: Buckets("ab", [1, 2], batch=1, tokens=3), "give either batch"),
        (lambda: Buckets("ab", [1], batch=1), "there are 2 items and 1 lengths"),
        (lambda: Buckets("ab", [1, 9], tokens=8), "tokens is 8; item 1 alone has 9"),
        (lambda: Buckets("ab", [1, 9], batch=8, pool=0), "pool is 0"),
    ],
)
def test_wrong_arguments_are_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
