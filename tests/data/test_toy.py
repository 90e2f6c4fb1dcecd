"""The toy tasks: targets follow from sources by the rule, and no symbol takes a special id."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from attnkit.data import toy

RULES = {
    toy.copy: lambda source: source,
    toy.reverse: lambda source: [source[-1 - i] for i in range(len(source))],
    toy.sort: lambda source: sorted(source),
    toy.recall: lambda source: [dict(zip(source[:-1:2], source[1:-1:2], strict=True))[source[-1]]],
}


@pytest.mark.parametrize("task", RULES)
@pytest.mark.parametrize("split", ["train", "test", None])
def test_the_target_follows_from_the_source(task, split) -> None:
    examples = task(300, split=split, seed=5)
    assert len(examples.rows()) == 300
    assert all(target == RULES[task](source) for source, target in examples.rows())


@pytest.mark.parametrize("task", RULES)
def test_padding_is_zero_and_nothing_else_is_a_special_id(task) -> None:
    source, target, source_lengths, target_lengths = task(200, seed=1)
    for ids, lengths in ((source, source_lengths), (target, target_lengths)):
        real = torch.arange(ids.shape[1]) < lengths[:, None]
        assert (ids[real] >= toy.FIRST).all()
        assert (ids[~real] == 0).all()
        assert ids.shape[1] == lengths.max()


def test_lengths_and_symbols_are_equally_likely_and_both_ends_occur() -> None:
    examples = toy.copy(4000, lengths=(3, 6), symbols=4, seed=0)
    sizes = Counter(examples.source_lengths.tolist())
    assert sorted(sizes) == [3, 4, 5, 6]
    assert all(abs(count / 4000 - 1 / 4) < 0.03 for count in sizes.values())
    symbols = Counter(examples.source[examples.source > 0].tolist())
    assert sorted(symbols) == [5, 6, 7, 8]
    assert all(abs(count / symbols.total() - 1 / 4) < 0.03 for count in symbols.values())


def test_recall_asks_for_every_place_and_never_repeats_a_key() -> None:
    rows = toy.recall(2000, pairs=(3, 3), symbols=5, seed=2).rows()
    assert all(len({*source[:-1:2]}) == 3 and {*source[1:-1:2]} <= {*range(10, 15)} for source, _ in rows)
    places = Counter(source.index(source[-1]) for source, _ in rows)
    assert sorted(places) == [0, 2, 4]
    assert all(abs(count / 2000 - 1 / 3) < 0.05 for count in places.values())


def test_no_examples_are_empty_tables() -> None:
    assert toy.sort(0).source.shape == (0, 0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: toy.copy(-1), "count is -1"),
        (lambda: toy.copy(1, lengths=0), "lengths is 0; it must be a number from 1"),
        (lambda: toy.reverse(1, lengths=(5, 4)), r"lengths is \(5, 4\)"),
        (lambda: toy.sort(1, symbols=0), "symbols is 0"),
        (lambda: toy.recall(1, pairs=(1, 4), symbols=3), r"pairs is \(1, 4\); keys do not repeat"),
        (lambda: toy.copy(1, lengths=1, symbols=1, split="test"), "no sequence of the split 'test' in 25,600 draws"),
    ],
)
def test_wrong_use_is_named(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
