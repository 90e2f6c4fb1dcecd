"""Sampling: its distribution by enumeration, its repeatability, and that it needs neither cache nor company."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from attnkit.generation import Sample, draw, generate, sampling
from tests.generation.hf import gpt2, random_prompts


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_each_token_owns_as_much_of_the_unit_interval_as_it_is_likely() -> None:
    """Both ends of every share, in float64; a token of probability 0 is never drawn."""
    shares = torch.tensor([0.0, 0.25, 0.0, 0.5, 0.125, 0.125, 0.0], dtype=torch.float64)
    ends = shares.cumsum(0)
    for token in (1, 3, 4, 5):
        low, high = float(ends[token] - shares[token]), float(ends[token])
        numbers = torch.tensor([low + 1e-12, (low + high) / 2, high - 1e-12], dtype=torch.float64)
        assert draw(shares.log().expand(3, -1), numbers).tolist() == [token] * 3
    edges = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    assert draw(shares.log().expand(2, -1), edges).tolist() == [1, 5]


def test_draw_survives_half_precision_and_a_large_vocabulary() -> None:
    logits = torch.zeros(3, 50_257, dtype=torch.float16)
    numbers = torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert draw(logits, numbers).tolist() == [0, 25_128, 50_256]


FILTERS = {
    "plain": (Sample, {}, []),
    "filtered": (
        Sample,
        {"temperature": 1.5, "top_k": 5, "top_p": 0.9},
        [TemperatureLogitsWarper(1.5), TopKLogitsWarper(5), TopPLogitsWarper(0.9)],
    ),
}


@pytest.mark.parametrize("name", FILTERS)
def test_sequences_come_as_often_as_the_model_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pair of numbers on a grid, one row each: the share of rows is the probability, up to the grid's step.

    Of `side` midpoints an interval of width w holds side * w, give or take one. So the rows of a pair of tokens are
    known to within their borders, and nothing here is left to chance.
    """
    make, options, warpers = FILTERS[name]
    side, prompt, model = 40, [2, 5, 1], gpt2(4, vocab=8)
    grid = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    monkeypatch.setattr(sampling, "uniforms", lambda *given: torch.cartesian_prod(grid, grid))
    drawn = generate(model, prompt, max_new=2, method=make(n=side * side, **options)).hypotheses[0]
    counts = Counter(tuple(h.tokens) for h in drawn)
    assert sum(counts.values()) == side * side

    def chances(tokens: list[int]) -> list[float]:
        with torch.no_grad():
            logits = model.model(torch.tensor([tokens])).logits[:, -1].float()
        return LogitsProcessorList(warpers)(None, logits)[0].double().softmax(-1).tolist()

    for one, first in enumerate(chances(prompt)):
        for two, second in enumerate(chances([*prompt, one])):
            least = max(side * first - 1, 0) * max(side * second - 1, 0)
            most = (side * first + 1) * (side * second + 1) if first * second else 0
            assert least - 1e-6 <= counts[one, two] <= most + 1e-6, (one, two)
    assert len(counts) > 4, "one sequence takes it all: this cannot fail"


def test_the_same_seed_gives_the_same_tokens_and_another_others() -> None:
    model, prompts = gpt2(0), random_prompts(0)

    def tokens(seed: int) -> list[list[int]]:
        return generate(model, prompts, max_new=12, method=Sample(2.0, generator=seeded(seed))).tokens

    assert tokens(1) == tokens(1)
    assert tokens(1) != tokens(2)


def test_without_a_generator_torchs_own_seed_repeats_it() -> None:
    model, prompts = gpt2(0), random_prompts(0)
    runs = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        runs.append(generate(model, prompts, max_new=12, method=Sample(2.0)).tokens)
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("cache", ["dynamic", None])
def test_a_row_is_the_same_in_a_batch_as_in_its_turn_alone(cache) -> None:
    for seed in range(6):
        model, prompts = gpt2(seed), random_prompts(seed, lengths=(5, 2, 7, 5))
        method = Sample(1.5, top_p=0.95, generator=seeded(seed))
        together = generate(model, prompts, max_new=10, method=method, eos=[3, 4], cache=cache).tokens
        in_turn = Sample(1.5, top_p=0.95, generator=seeded(seed))
        alone = [generate(model, prompt, max_new=10, method=in_turn, eos=[3, 4]).tokens[0] for prompt in prompts]
        assert together == alone


def test_rows_do_not_share_their_luck() -> None:
    """The same prompt in every row, and several draws of one prompt: all go their own ways."""
    model = gpt2(0)
    rows = generate(model, [[1, 2]] * 8, max_new=12, method=Sample(3.0, generator=seeded())).tokens
    draws = generate(model, [1, 2], max_new=12, method=Sample(3.0, generator=seeded(), n=8)).hypotheses[0]
    assert rows == [h.tokens for h in draws]
    assert all(a != b for a, b in itertools.combinations(rows, 2))


def test_several_draws_stay_with_their_prompt() -> None:
    model, prompts = gpt2(3), random_prompts(3)
    got = generate(model, prompts, max_new=8, method=Sample(n=3, generator=seeded(9)), eos=3)
    assert [len(best) for best in got.hypotheses] == [3, 3, 3]
    again = Sample(n=3, generator=seeded(9))
    for prompt, best in zip(prompts, got.hypotheses, strict=True):
        alone = generate(model, prompt, max_new=8, method=again, eos=3).hypotheses[0]
        assert [h.tokens for h in alone] == [h.tokens for h in best]


def test_the_narrowest_filters_are_greedy() -> None:
    model, prompts = gpt2(1), random_prompts(1)
    greedy = generate(model, prompts, max_new=10).tokens
    for options in ({"top_k": 1}, {"top_p": 0.0}, {"min_p": 1.0}, {"temperature": 1e-4}):
        assert generate(model, prompts, max_new=10, method=Sample(**options)).tokens == greedy


def test_log_probabilities_are_the_models_own_whatever_the_filters() -> None:
    model, prompt = gpt2(1), [4, 4, 1]
    got = generate(model, prompt, max_new=5, method=Sample(0.7, top_k=3, generator=seeded()))
    with torch.no_grad():
        table = model.model(torch.tensor([prompt + got.tokens[0]])).logits[0].log_softmax(-1)
    assert got.logprobs[0] == pytest.approx([table[2 + i, t].item() for i, t in enumerate(got.tokens[0])], abs=1e-5)


def test_numbers_of_a_row_do_not_depend_on_how_many_rows_there_are() -> None:
    numbers = sampling.uniforms(5, 7, seeded(3))
    assert numbers.dtype == torch.float64
    assert bool(((numbers >= 0) & (numbers < 1)).all())
    one_generator = seeded(3)
    assert torch.equal(numbers, torch.cat([sampling.uniforms(1, 7, one_generator) for _ in range(5)]))
    assert torch.equal(numbers[:, :4], sampling.uniforms(5, 4, seeded(3)))
    assert len(set(numbers.flatten().tolist())) == 35
