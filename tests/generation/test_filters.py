"""The filters against Hugging Face's processors: the same values, the same tokens kept, at the edges too."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from attnkit.generation import Sample, filters, min_p, penalize_repetition, temperature, top_k, top_p

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def logits(kind: str, dtype: torch.dtype) -> Tensor:
    """Rows of logits of one kind: (rows, vocab)."""
    rng = torch.Generator().manual_seed(3)
    x = torch.randn(5, 11, generator=rng) * 3
    if kind == "ties":
        x = x.round()
    if kind == "forbidden":
        x[x < 0] = -math.inf
        x[:, 4] = 1.0
    if kind == "equal":
        x = torch.zeros(2, 11)
    if kind == "sharp":
        x *= 100
    if kind == "one token":
        x = x[:, :1]
    return x.to(dtype)


KINDS = ["plain", "ties", "forbidden", "equal", "sharp", "one token"]
PROBABILITIES = [0.0, 1e-6, 0.1, 0.5, 0.9, 0.999]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_each_filter_equals_hugging_faces(kind: str, dtype: torch.dtype) -> None:
    x = logits(kind, dtype)
    for k in (1, 2, 5, 10, 11, 50):
        assert torch.equal(top_k(x, k), TopKLogitsWarper(k)(None, x)), k
    for p in PROBABILITIES:
        assert torch.equal(top_p(x, p), TopPLogitsWarper(p)(None, x)), p
    for p in [*PROBABILITIES, 1.0]:
        assert torch.equal(min_p(x, p), MinPLogitsWarper(p)(None, x)), p
    for t in (0.3, 1.0, 2.5):
        assert torch.equal(temperature(x, t), TemperatureLogitsWarper(t)(None, x)), t


@pytest.mark.parametrize("penalty", [1.0, 1.3, 2.0, 0.5])
@pytest.mark.parametrize("kind", ["plain", "ties", "forbidden"])
def test_repetition_penalty_equals_hugging_faces(kind: str, penalty: float) -> None:
    x = logits(kind, torch.float32)
    ids = torch.randint(11, (5, 4), generator=torch.Generator().manual_seed(1))
    seen = torch.zeros_like(x, dtype=torch.bool).scatter_(1, ids, True)
    want = RepetitionPenaltyLogitsProcessor(penalty)(ids, x.clone())
    assert torch.equal(penalize_repetition(x, seen, penalty), want)


def test_what_each_filter_keeps_at_its_edges() -> None:
    x = logits("plain", torch.float32)
    assert torch.equal(top_p(x, 1.0), x)
    assert torch.equal(top_p(x, 1), x)
    assert torch.equal(min_p(x, 0.0), x)
    for narrow in (top_k(x, 1), top_p(x, 0.0), top_p(x, 1e-9), min_p(x, 1.0)):
        kept = narrow > -math.inf
        assert kept.sum(1).tolist() == [1] * 5
        assert torch.equal(kept.int().argmax(1), x.argmax(1))
        assert torch.equal(narrow[kept], x.amax(1))


def test_top_p_keeps_the_smallest_set_that_is_heavy_enough() -> None:
    """By brute force: of the most likely tokens, no fewer would do."""
    x = logits("plain", torch.float64)
    for p in (0.05, 0.3, 0.62, 0.9, 0.99):
        for row, kept in zip(x.softmax(1).tolist(), (top_p(x, p) > -math.inf).tolist(), strict=True):
            ranked = sorted(range(11), key=lambda i: -row[i])
            fewest = next(n for n in range(1, 12) if sum(row[i] for i in ranked[:n]) >= p)
            assert {i for i in range(11) if kept[i]} == set(ranked[:fewest])


def test_filters_leave_their_argument_alone_and_take_any_leading_axes() -> None:
    x = logits("plain", torch.float32)
    before = x.clone()
    for f in (lambda y: top_k(y, 3), lambda y: top_p(y, 0.5), lambda y: min_p(y, 0.2), lambda y: temperature(y, 2.0)):
        assert torch.equal(f(x[0]), f(x)[0])
        assert torch.equal(f(x[None, None])[0, 0], f(x))
        assert torch.equal(x, before)


@pytest.mark.parametrize("kind", ["plain", "ties", "forbidden"])
def test_sample_composes_them_in_hugging_faces_order(kind: str) -> None:
    x = logits(kind, torch.float32)
    want = LogitsProcessorList(
        [TemperatureLogitsWarper(1.7), TopKLogitsWarper(6), TopPLogitsWarper(0.8), MinPLogitsWarper(0.3)]
    )(None, x)
    assert torch.equal(Sample(temperature=1.7, top_k=6, top_p=0.8, min_p=0.3).filtered(x), want)
    # The order tells: another one keeps other tokens.
    other = filters.top_p(filters.min_p(filters.top_k(x, 6), 0.3), 0.8)
    assert not torch.equal(other > -math.inf, want > -math.inf)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: top_k(x, 0), ["k is 0", "1 or more"]),
        (lambda x: top_k(x, 2.5), ["k is 2.5", "whole number"]),
        (lambda x: top_k(x, True), ["k is True"]),
        (lambda x: top_p(x, 1.5), ["p is 1.5", "from 0 to 1"]),
        (lambda x: top_p(x, math.nan), ["p is nan"]),
        (lambda x: min_p(x, -0.1), ["p is -0.1", "probability"]),
        (lambda x: temperature(x, 0), ["temperature is 0", "Greedy()"]),
        (lambda x: temperature(x, -1.0), ["temperature is -1.0", "above 0"]),
        (lambda x: penalize_repetition(x, x > 0, 0.0), ["penalty is 0.0", "above 0"]),
        (lambda x: Sample(temperature=0), ["temperature is 0", "Greedy()"]),
        (lambda x: Sample(top_k=0), ["top_k is 0"]),
        (lambda x: Sample(top_p=2), ["top_p is 2"]),
        (lambda x: Sample(min_p="a"), ["min_p is 'a'"]),
        (lambda x: Sample(n=0), ["n is 0"]),
        (lambda x: Sample(repetition_penalty=math.inf), ["repetition_penalty is inf"]),
    ],
)
def test_what_is_no_filter_is_refused_in_words(call, words: list[str]) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - every word below is required, not one pattern
        call(torch.zeros(2, 3))
    assert not [word for word in words if word not in str(error.value)], str(error.value)
