"""Beam search against Hugging Face's, token for token, on the very same models."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from attnkit.generation import Beam, generate
from tests.generation.hf import PAD, HFTranslator, bart, gpt2, hf_generate, padded, random_prompts
from tests.generation.tables import TableModel

EOS = [None, [3], [3, 1], [2, 4, 5]]
LENGTHS = [(5, 2, 7), (4,), (3, 3), (1, 8, 2, 6)]


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("length_penalty", [1.0, 0.0, -1.0, 2.0])
def test_hypotheses_and_scores_equal_hugging_faces(length_penalty: float, early_stopping) -> None:
    ends, cut = 0, 0
    for seed in range(12):
        eos, n_best, width, max_new = EOS[seed % 4], 1 + seed % 3, 4 if seed % 3 else 3, 2 + seed
        model = gpt2(seed, vocab=16)
        prompts = random_prompts(seed, vocab=16, lengths=LENGTHS[seed // 3])
        want, scores = hf_generate(
            model, prompts, do_sample=False, num_beams=width, num_return_sequences=n_best, max_new_tokens=max_new,
            length_penalty=length_penalty, early_stopping=early_stopping, eos_token_id=eos,
        )  # fmt: skip
        method = Beam(width, length_penalty=length_penalty, early_stopping=early_stopping, n_best=n_best)
        got = generate(model, prompts, max_new=max_new, method=method, eos=eos)
        found = [hypothesis for best in got.hypotheses for hypothesis in best]
        assert padded([h.tokens for h in found], len(want[0])) == want, seed
        assert [h.score for h in found] == pytest.approx(scores.tolist(), rel=1e-5, abs=1e-5)
        ends += sum(h.finished for h in found)
        cut += sum(not h.finished for h in found)
    assert ends > 4, "the ways to finish are not exercised"
    assert cut > 4, "the way to be cut short is not exercised"


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
def test_an_encoder_decoder_model_equals_hugging_faces(early_stopping) -> None:
    for seed in range(10):
        model = bart(seed)
        source = torch.randint(12, (3, 6), generator=torch.Generator().manual_seed(seed))
        real = (torch.arange(6) < torch.tensor([[6], [2], [4]])).long()
        want = model.generate(
            source, attention_mask=real, do_sample=False, num_beams=4, max_new_tokens=10, eos_token_id=[3, 1],
            pad_token_id=PAD, early_stopping=early_stopping,
        )[:, 1:].tolist()  # fmt: skip
        for cache in ("dynamic", None):
            got = generate(
                HFTranslator(model, source, real), [[0]] * 3, max_new=10, eos=[3, 1], cache=cache,
                method=Beam(4, early_stopping=early_stopping),
            )  # fmt: skip
            assert padded(got.tokens, len(want[0])) == want, (seed, cache)


def test_a_beam_of_one_is_greedy() -> None:
    for seed in range(8):
        model, prompts = gpt2(seed), random_prompts(seed)
        for early_stopping in (False, True, "never"):
            beam = generate(model, prompts, max_new=10, eos=[3], method=Beam(1, 0.0, early_stopping=early_stopping))
            greedy = generate(model, prompts, max_new=10, eos=[3])
            assert beam.tokens == greedy.tokens
            assert beam.scores == pytest.approx(greedy.scores, abs=1e-4)


def test_the_cache_changes_nothing_and_neither_does_the_batch() -> None:
    for seed in range(8):
        model, prompts = gpt2(seed), random_prompts(seed, lengths=(6, 1, 3))
        method = Beam(3, n_best=3)
        cached, uncached = (
            generate(model, prompts, max_new=9, eos=[3, 5], method=method, cache=cache) for cache in ("dynamic", None)
        )
        alone = [generate(model, prompt, max_new=9, eos=[3, 5], method=method).hypotheses[0] for prompt in prompts]
        for other in (uncached.hypotheses, alone):
            for ours, theirs in zip(cached.hypotheses, other, strict=True):
                assert [h.tokens for h in ours] == [h.tokens for h in theirs]
                assert [h.score for h in ours] == pytest.approx([h.score for h in theirs], abs=1e-4)


def every_continuation(model, prompt: list[int], vocab: int, max_new: int, eos: int) -> dict[tuple[int, ...], float]:
    """The sum of log-probabilities of whatever may follow, by a forward pass over each sequence."""
    sums = {}
    for tokens in itertools.product(range(vocab), repeat=max_new):
        end = tokens.index(eos) + 1 if eos in tokens else max_new
        kept = tokens[:end]
        if kept not in sums:
            with torch.no_grad():
                table = model.model(torch.tensor([prompt + list(kept)])).logits[0].double().log_softmax(-1)
            sums[kept] = sum(table[len(prompt) - 1 + i, token].item() for i, token in enumerate(kept))
    return sums


@pytest.mark.parametrize("normalize", ["length", "gnmt"])
def test_a_beam_as_wide_as_the_tree_ranks_everything_there_is(normalize: str) -> None:
    """The true argmax, and all behind it, by brute force under both conventions of the length penalty."""
    firsts = set()
    for seed in range(4):
        model, prompt = gpt2(seed, vocab=4), [1, 2]
        sums = every_continuation(model, prompt, 4, 3, eos=3)
        for alpha in (0.0, 0.8, 4.0):
            by = {"length": lambda n, a=alpha: n**a, "gnmt": lambda n, a=alpha: ((5 + n) / (5 + 1)) ** a}[normalize]
            want = sorted(((s / by(len(t)), list(t)) for t, s in sums.items()), reverse=True)
            method = Beam(64, length_penalty=alpha, normalize=normalize, n_best=64, early_stopping="never")
            got = generate(model, prompt, max_new=3, method=method, eos=3).hypotheses[0]
            assert [h.tokens for h in got] == [tokens for _, tokens in want]
            assert [h.score for h in got] == pytest.approx([score for score, _ in want], rel=1e-4, abs=1e-4)
            firsts.add((seed, tuple(map(tuple, (h.tokens for h in got)))))
    assert len(firsts) > 4, "the penalty never mattered"


def test_scores_are_the_sum_of_the_log_probabilities_over_the_penalty_named() -> None:
    model, prompts = gpt2(5), random_prompts(5)
    for method, by in (
        (Beam(4, 0.6, "gnmt", n_best=4), lambda n: ((5 + n) / 6) ** 0.6),
        (Beam(4, 0.6, n_best=4), lambda n: n**0.6),
    ):
        for best in generate(model, prompts, max_new=8, eos=[3, 4], method=method).hypotheses:
            assert [h.score for h in best] == sorted((h.score for h in best), reverse=True)
            for h in best:
                assert len(h.logprobs) == len(h.tokens)
                assert h.score == pytest.approx(sum(h.logprobs) / by(len(h.tokens)), rel=1e-5)


def test_what_greedy_misses_a_beam_finds() -> None:
    """The likely first step leads to unlikely ones: 0.6 * 0.4 < 0.4 * 0.9."""
    model = TableModel(
        [[0, 0.6, 0.4, 0, 0], [0, 0, 0, 0.4, 0.6 * 0.99], [0, 0, 0, 0.9, 0.1], [0, 0, 0, 0, 1], [0, 0, 0, 0.6, 0.4]]
    )
    assert generate(model, [0], max_new=2).tokens == [[1, 4]]
    best = generate(model, [0], max_new=2, method=Beam(2, 0.0, n_best=2)).hypotheses[0]
    assert [h.tokens for h in best] == [[2, 3], [1, 4]]
    assert best[0].score == pytest.approx(math.log(0.4 * 0.9))


def test_a_hypothesis_that_ended_early_is_compared_by_its_own_length() -> None:
    """It ends at once with p = 0.3, or goes on for 3 tokens with p = 0.7 * 0.5 = 0.35, but 0.35 ** (1 / 3) > 0.3."""
    model = TableModel([[0, 0.7, 0, 0.3], [0, 0, 0.5, 0.5], [0, 0, 0, 1], [0, 0, 0, 1]])
    best = {a: generate(model, [0], max_new=3, eos=3, method=Beam(3, a, n_best=3)).hypotheses[0] for a in (0.0, 1.0)}
    chances = {(1, 2, 3): 0.35, (1, 3): 0.35, (3,): 0.3}
    for alpha, found in best.items():
        for h in found:
            assert h.score == pytest.approx(math.log(chances[tuple(h.tokens)]) / len(h.tokens) ** alpha)
    assert best[1.0][0].tokens == [1, 2, 3]
    assert [h.tokens for h in best[1.0]] == [[1, 2, 3], [1, 3], [3]]
    assert best[0.0][-1].tokens == [3]


def test_early_stopping_settles_when_a_full_pool_is_enough() -> None:
    """Ending now has p = 0.3, then 0.6 * 0.5; going on for ever costs next to nothing, so a long one is better."""
    model = TableModel([[0.7, 0.3], [0, 1]])
    best = {
        how: generate(model, [0], max_new=20, eos=1, method=Beam(1, 1.0, early_stopping=how)) for how in (True, "never")
    }
    assert best["never"].tokens == [[0] * 20]
    wide = {
        how: generate(model, [0], max_new=20, eos=1, method=Beam(2, 1.0, early_stopping=how)) for how in (True, "never")
    }
    assert wide[True].tokens == [[0, 1]]
    assert wide["never"].tokens == [[0] * 20]


def test_a_prompt_that_is_done_costs_no_more() -> None:
    """Rows of the batch at each step: prompts that still run, times the beams."""
    model = TableModel([[0, 0, 1, 0], [0.5, 0.5, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]])
    rows = []
    inner = model.__class__.__call__

    class Watched(TableModel):
        def __call__(self, ids, **rest):
            rows.append(len(ids))
            return inner(self, ids, **rest)

    model.__class__ = Watched
    got = generate(model, [[0], [2]], max_new=6, eos=3, method=Beam(1))
    assert got.tokens == [[2, 3], [3]]
    assert rows == [2, 1]


def test_there_may_be_fewer_hypotheses_than_asked_for() -> None:
    third = [[1 / 3] * 3] * 3
    assert len(generate(TableModel(third), [0], max_new=1, method=Beam(4, n_best=4)).hypotheses[0]) == 3
    certain = TableModel([[0, 1], [0, 1]])
    best = generate(certain, [0], max_new=3, eos=1, method=Beam(4, n_best=4)).hypotheses[0]
    assert [h.tokens for h in best] == [[1]], "what has probability 0 is no hypothesis"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 0}, ["width is 0"]),
        ({"width": 2.0}, ["width is 2.0", "whole number"]),
        ({"width": 2, "n_best": 3}, ["n_best is 3", "width 2"]),
        ({"normalize": "GNMT"}, ["normalize is 'GNMT'", "'gnmt'"]),
        ({"early_stopping": "always"}, ["early_stopping is 'always'", "'never'"]),
        ({"length_penalty": math.nan}, ["length_penalty is nan", "finite"]),
        ({"length_penalty": None}, ["length_penalty is None"]),
    ],
)
def test_what_is_no_beam_is_refused_in_words(options: dict, words: list[str]) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - every word below is required, not one pattern
        Beam(**options)
    assert not [word for word in words if word not in str(error.value)], str(error.value)


def test_beams_do_not_stream() -> None:
    with pytest.raises(ValueError, match="stream does not go with Beam"):
        generate(TableModel([[1.0]]), [0], max_new=1, method=Beam(), stream=print)
