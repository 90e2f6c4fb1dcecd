"""What is held out is held out: by the item, in every order, language and process."""

from __future__ import annotations

import random
import subprocess
import sys
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnkit.data import Dates, NumberNames, held_out, small_english, toy
from attnkit.data.split import shuffled

END = date(1901, 12, 31)
CORPORA = [NumberNames("en", "de", largest=2999), Dates(["fr", "ja"], first=date(1999, 1, 1), last=date(2002, 6, 1))]


@pytest.mark.parametrize("corpus", CORPORA, ids=["numbers", "dates"])
def test_the_two_splits_share_nothing_and_together_are_everything(corpus) -> None:
    train, test = (list(corpus.indices(split)) for split in ("train", "test"))
    assert not {corpus[i].target for i in train} & {corpus[i].target for i in test}  # the day, the number
    assert sorted(train + test) == list(range(len(corpus)))
    assert sorted(corpus.indices()) == list(range(len(corpus)))
    assert 0.07 < len(test) / len(corpus) < 0.13


def test_a_number_is_held_out_in_every_language_and_a_day_in_every_locale() -> None:
    english, japanese = NumberNames("en", "fr", largest=500), NumberNames("digits", "ja", largest=500)
    assert set(english.indices("test")) == set(japanese.indices("test"))
    days = [
        set(map(corpus.day, corpus.indices("test")))
        for corpus in (Dates("de", last=END), Dates("ko", "en_GB", last=END))
    ]
    assert days[0] == days[1]


def test_the_splits_of_sequences_and_sentences_share_nothing() -> None:
    for task in (toy.copy, toy.recall):
        train, test = (task(500, split=split, seed=0).rows() for split in ("train", "test"))
        assert not {str(source) for source, _ in train} & {str(source) for source, _ in test}
    train, test = (small_english().sentences(1000, split=split) for split in ("train", "test"))
    assert not {sentence.words for sentence in train} & {sentence.words for sentence in test}


@pytest.mark.parametrize(
    "draw", [toy.copy, toy.recall, small_english().sentences, NumberNames().sample, Dates().sample]
)
def test_a_seed_repeats_and_another_gives_others(draw) -> None:
    first, again, other = draw(50, seed=3), draw(50, seed=3), draw(50, seed=4)
    assert str(first) == str(again)
    assert str(first) != str(other)


def test_a_larger_sample_begins_with_the_smaller_and_repeats_nothing() -> None:
    small, large = (NumberNames().sample(count, split="test", seed=1) for count in (20, 200))
    assert large[:20] == small
    assert len(set(large)) == 200
    small, large = (toy.sort(count, split="train", seed=1).rows() for count in (20, 2000))
    assert large[:20] == small


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_holds_out_the_same_and_more(key: str, share: float, other: float) -> None:
    low, high = sorted((share, other))
    assert held_out(key, low) <= held_out(key, high)
    assert held_out(key, 1)
    assert not held_out(key, 0)


def test_the_share_is_what_was_asked() -> None:
    for share in (0.1, 0.5):
        assert sum(held_out(str(n), share) for n in range(5000)) / 5000 == pytest.approx(share, abs=0.02)


@given(st.integers(0, 60), st.integers(0, 9))
def test_a_shuffle_is_a_permutation(count: int, seed: int) -> None:
    assert sorted(shuffled(count, random.Random(seed))) == list(range(count))


def test_every_order_of_a_shuffle_is_equally_likely() -> None:
    rng = random.Random(0)
    seen = [tuple(shuffled(3, rng)) for _ in range(6000)]
    assert {order: round(seen.count(order) / 1000, 0) for order in set(seen)} == dict.fromkeys(set(seen), 1.0)
    assert len(set(seen)) == 6


def test_another_process_gives_the_same_items() -> None:
    """Nothing depends on Python's own hash, which differs from process to process."""
    code = (
        "from attnkit.data import *; print([n for n in range(99) if held_out(str(n))], NumberNames().sample(3, 'test'),"
        "Dates().sample(3, 'train'), copy(3, split='test'), recall(3), small_english().sentences(3, split='test'))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        )
        for seed in ("1", "2")
    ]
    assert runs[0].stdout == runs[1].stdout
    assert "NOUN" in runs[0].stdout


def test_a_split_that_is_used_up_says_how_much_there_is() -> None:
    corpus = NumberNames(largest=99)
    available = len(list(corpus.indices("test")))
    assert len(corpus.sample(available, "test")) == available
    with pytest.raises(ValueError, match=rf"count is {available + 1}.*'test'.*NumberNames has {available}"):
        corpus.sample(available + 1, "test")


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: held_out(3), TypeError, "key is a int; it must be text or bytes"),
        (lambda: held_out("a", 1.5), ValueError, r"share is 1\.5"),
        (lambda: NumberNames().sample(-1), ValueError, "count is -1"),
        (lambda: NumberNames().sample(3, "dev"), ValueError, '\'dev\'; it must be "train", "test", or None'),
        (lambda: NumberNames()[1_000_000], IndexError, "index is 1000000; NumberNames has the items 0 to 999999"),
        (lambda: NumberNames()[-1], IndexError, "index is -1"),
        (lambda: NumberNames()["7"], TypeError, "index is '7'"),
        (lambda: toy.copy(True), ValueError, "count is True"),
        (lambda: small_english().sentences(1, split="all"), ValueError, "split is 'all'"),
    ],
)
def test_wrong_use_is_named(call, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
