"""Greedy decoding against Hugging Face's, on the very same models."""

from __future__ import annotations

import pytest
import torch

from attnkit.generation import Greedy, generate
from tests.generation.hf import PAD, HFTranslator, bart, gpt2, hf_generate, padded, random_prompts
from tests.generation.tables import TableModel

SEEDS = range(12)


@pytest.mark.parametrize("cache", ["dynamic", "static", None])
@pytest.mark.parametrize("eos", [None, 3, [3, 1, 9]], ids=str)
def test_tokens_equal_hugging_faces(eos, cache) -> None:
    lengths = {True: (5, 2, 7), False: (4, 4)}
    for seed in SEEDS:
        model = gpt2(seed)
        prompts = random_prompts(seed, lengths=lengths[seed % 2 == 0])
        want, _ = hf_generate(model, prompts, do_sample=False, max_new_tokens=14, eos_token_id=eos)
        got = generate(model, prompts, max_new=14, eos=eos, cache=cache)
        assert padded(got.tokens, len(want[0])) == want, seed


def test_scores_are_the_log_probabilities_of_the_tokens() -> None:
    """Of a plain forward pass over prompt and continuation, in the order of the tokens."""
    model, prompts = gpt2(1), random_prompts(1)
    got = generate(model, prompts, max_new=8, eos=11)
    assert any(got.finished)
    assert not all(got.finished)
    for prompt, tokens, logprobs, score in zip(prompts, got.tokens, got.logprobs, got.scores, strict=True):
        with torch.no_grad():
            table = model.model(torch.tensor([prompt + tokens])).logits[0].log_softmax(-1)
        want = [table[len(prompt) - 1 + i, token].item() for i, token in enumerate(tokens)]
        assert logprobs == pytest.approx(want, abs=1e-5)
        assert score == pytest.approx(sum(want), abs=1e-5)


def test_a_row_ends_with_its_own_eos_and_says_so() -> None:
    model = TableModel([[0, 1, 0, 0], [0, 0, 1, 0], [0.1, 0.2, 0.3, 0.4], [0, 0, 0, 1]])
    got = generate(model, [[0], [1], [3], [2]], max_new=3, eos=2)
    assert got.tokens == [[1, 2], [2], [3, 3, 3], [3, 3, 3]]
    assert got.finished == [True, True, False, False]


def test_decoding_stops_when_every_row_has_ended() -> None:
    model = TableModel([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    assert generate(model, [[0], [1]], max_new=50, eos=2).tokens == [[1, 2], [2]]
    assert model.calls == 2


def test_a_step_reads_one_token_with_a_cache_and_all_of_them_without() -> None:
    model = gpt2(0)
    generate(model, random_prompts(0, lengths=(5, 3)), max_new=4)
    assert model.fed == [(2, 5), (2, 1), (2, 1), (2, 1)]
    model.fed.clear()
    generate(model, random_prompts(0, lengths=(5, 3)), max_new=4, cache=None)
    assert model.fed == [(2, 5), (2, 6), (2, 7), (2, 8)]


def test_rows_of_a_batch_are_what_they_are_alone() -> None:
    for seed in SEEDS:
        model, prompts = gpt2(seed), random_prompts(seed, lengths=(1, 8, 4, 4, 2))
        together = generate(model, prompts, max_new=12, eos=[3, 5])
        for prompt, tokens, logprobs in zip(prompts, together.tokens, together.logprobs, strict=True):
            alone = generate(model, prompt, max_new=12, eos=[3, 5])
            assert alone.tokens == [tokens]
            assert alone.logprobs[0] == pytest.approx(logprobs, abs=1e-4)


@pytest.mark.parametrize("penalty", [1.3, 3.0, 0.5])
def test_repetition_penalty_equals_hugging_faces(penalty: float) -> None:
    changed = 0
    for seed in SEEDS:
        model, prompts = gpt2(seed), random_prompts(seed, lengths=(6, 6))
        options = {"do_sample": False, "max_new_tokens": 12, "eos_token_id": 3}
        want, _ = hf_generate(model, prompts, repetition_penalty=penalty, **options)
        got = generate(model, prompts, max_new=12, eos=3, method=Greedy(repetition_penalty=penalty))
        assert padded(got.tokens, len(want[0])) == want, seed
        changed += got.tokens != generate(model, prompts, max_new=12, eos=3).tokens
    assert changed


def test_repetition_penalty_does_not_see_padding() -> None:
    model, prompts = gpt2(2), random_prompts(2, lengths=(7, 2))
    method = Greedy(repetition_penalty=4.0)
    alone = [generate(model, prompt, max_new=10, method=method).tokens[0] for prompt in prompts]
    for pad in range(12):
        assert generate(model, prompts, max_new=10, method=method, pad=pad).tokens == alone


def test_an_encoder_decoder_model_equals_hugging_faces() -> None:
    for seed in SEEDS:
        model = bart(seed)
        source = torch.randint(12, (3, 6), generator=torch.Generator().manual_seed(seed))
        real = (torch.arange(6) < torch.tensor([[6], [2], [4]])).long()
        want = model.generate(
            source, attention_mask=real, do_sample=False, max_new_tokens=10, eos_token_id=[3, 1], pad_token_id=PAD
        )[:, 1:].tolist()
        for cache in ("dynamic", None):
            got = generate(HFTranslator(model, source, real), [[0]] * 3, max_new=10, eos=[3, 1], cache=cache)
            assert padded(got.tokens, len(want[0])) == want, seed
