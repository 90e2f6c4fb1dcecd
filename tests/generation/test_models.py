"""Our own models through the front door: every cache gives the same, and batches are what their rows are alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from attnkit.generation import Beam, Greedy, LanguageModel, Sample, generate
from attnkit.models import GPT, GPTConfig, Llama, LlamaConfig, Translator, TranslatorConfig
from attnkit.positions import YaRN

pytestmark = pytest.mark.slow  # together they take a while

VOCAB, CONTEXT = 13, 40


def peaked(model: nn.Module) -> nn.Module:
    """Large random weights: the next token is far from uniform."""
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 2:
                p.normal_(std=0.5)
    return model.eval()


def gpt(seed: int) -> GPT:
    torch.manual_seed(seed)
    return peaked(GPT(GPTConfig(vocab=VOCAB, context=CONTEXT, d_model=16, heads=2, layers=2, d_hidden=32)))


def llama(seed: int) -> Llama:
    torch.manual_seed(seed)
    scaling = YaRN(4.0, 16) if seed % 2 else None
    return peaked(
        Llama(LlamaConfig(vocab=VOCAB, d_model=16, heads=4, kv_heads=2, layers=2, d_hidden=32, scaling=scaling))
    )


def conditioned(seed: int, sources: int):
    torch.manual_seed(seed)
    config = TranslatorConfig(source_vocab=11, target_vocab=VOCAB, d_model=16, heads=2, layers=2, d_hidden=32)
    model = peaked(Translator(config))
    source = torch.randint(11, (sources, 6))
    lengths = [6, 2, 4, 1][:sources]
    with torch.no_grad():
        return model, model.conditioned(source, lengths), (source, lengths)


MODELS = {"GPT": gpt, "Llama": llama}
METHODS = {
    "greedy": lambda: Greedy(),
    "repetition": lambda: Greedy(repetition_penalty=1.5),
    "beam": lambda: Beam(3, n_best=2),
    "sample": lambda: Sample(1.3, top_p=0.95, n=2, generator=torch.Generator().manual_seed(1)),
}
PROMPTS = [[1, 2, 3, 4, 5], [6], [7, 8, 9]]


def everything(got) -> tuple[list, list]:
    """All tokens, and all log-probabilities, in one list each."""
    found = [h for best in got.hypotheses for h in best]
    return [h.tokens for h in found], [x for h in found for x in h.logprobs]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MODELS)
def test_every_cache_that_forgets_nothing_gives_the_same(name: str, method: str) -> None:
    for seed in range(2):
        model = MODELS[name](seed)
        runs = [
            everything(generate(model, PROMPTS, max_new=8, eos=[0], method=METHODS[method](), cache=cache, **options))
            for cache, options in [
                ("dynamic", {}),
                ("static", {}),
                (None, {}),
                ("sliding", {"window": 20}),
                (model.new_cache("static", length=15), {}),
            ]
        ]
        for tokens, logprobs in runs[1:]:
            assert tokens == runs[0][0]
            assert logprobs == pytest.approx(runs[0][1], abs=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MODELS)
def test_rows_of_a_batch_are_what_they_are_alone(name: str, method: str) -> None:
    for seed in range(2):
        model, in_turn = MODELS[name](seed), METHODS[method]()
        tokens, logprobs = everything(generate(model, PROMPTS, max_new=7, eos=[0], method=METHODS[method]()))
        alone = [everything(generate(model, prompt, max_new=7, eos=[0], method=in_turn)) for prompt in PROMPTS]
        assert tokens == [row for one, _ in alone for row in one]
        assert logprobs == pytest.approx([x for _, many in alone for x in many], abs=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_a_sliding_cache_is_a_window_over_all_tokens(name: str) -> None:
    """A step of a one-layer model sees the last `window` tokens: those that it would be given with nothing else.

    Positions count on, so the tokens are given with theirs; keys of one layer know nothing of what was forgotten.
    """
    torch.manual_seed(0)
    sizes = {"vocab": VOCAB, "d_model": 16, "heads": 2, "layers": 1, "d_hidden": 32}
    model = peaked(GPT(GPTConfig(context=CONTEXT, **sizes)) if name == "GPT" else Llama(LlamaConfig(**sizes)))
    got = generate(model, [1, 2, 3, 4, 5], max_new=12, cache="sliding", window=4)
    said = [1, 2, 3, 4, 5]
    for token in got.tokens[0]:
        at = torch.arange(len(said))[None, -4:]
        with torch.no_grad():
            assert model(torch.tensor([said[-4:]]), positions=at)[0, -1].argmax().item() == token
        said.append(token)
    full = generate(model, [1, 2, 3, 4, 5], max_new=12)
    assert got.logprobs[0] != pytest.approx(full.logprobs[0], abs=1e-4), "the window hid nothing"


def test_prompts_of_different_length_slide_together_unless_there_are_sinks() -> None:
    model = llama(0)
    together = generate(model, PROMPTS, max_new=12, cache="sliding", window=4).tokens
    assert together == [generate(model, p, max_new=12, cache="sliding", window=4).tokens[0] for p in PROMPTS]
    with pytest.raises(ValueError, match=r"lengths \[5, 1, 3\] cannot share a sliding cache with sinks"):
        generate(model, PROMPTS, max_new=12, cache="sliding", window=4, sinks=1)
    assert len(generate(model, [1, 2], max_new=12, cache="sliding", window=4, sinks=1).tokens[0]) == 12


def test_a_cache_goes_on_where_it_ended() -> None:
    """It holds all but the last token; so the next prompt begins with that."""
    model = gpt(1)
    cache, want = model.new_cache(), generate(model, [1, 2, 3], max_new=12).tokens[0]
    first = generate(model, [1, 2, 3], max_new=5, cache=cache).tokens[0]
    assert cache.length == 7
    assert first + generate(model, first[-1:], max_new=7, cache=cache).tokens[0] == want
    with pytest.raises(ValueError, match=r"after the 14 in the cache that takes 41 positions"):
        generate(model, [1], max_new=27, cache=cache)
    with pytest.raises(ValueError, match=r"lengths \[1, 2\] cannot continue a cache that holds 14 tokens"):
        generate(model, [[1], [1, 2]], max_new=2, cache=cache)


def test_a_stream_without_end_needs_positions_that_begin_anew() -> None:
    """Rotary positions counted within the cache stay small however long the stream."""
    model = llama(0)
    cache = model.new_cache("sliding", window=6, sinks=2, reposition=True)
    assert len(generate(model, [1, 2, 3], max_new=60, cache=cache).tokens[0]) == 60
    assert cache.nbytes == 2 * 2 * (6 + 2) * 2 * 4 * 4  # layers, keys and values, tokens, kv_heads, d_head, bytes


def test_the_context_of_a_gpt_is_its_limit_and_a_llama_has_none() -> None:
    assert len(generate(gpt(0), [1], max_new=CONTEXT).tokens[0]) == CONTEXT
    with pytest.raises(ValueError, match="context is 40; max_new may be 40 at most"):
        generate(gpt(0), [1], max_new=CONTEXT + 1)
    assert len(generate(llama(0), [1], max_new=CONTEXT + 9).tokens[0]) == CONTEXT + 9


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_has_generated_can_be_trained(name: str) -> None:
    """No table that grew meanwhile is left behind in inference mode."""
    model = MODELS[name](0).train()
    generate(model, [1, 2, 3], max_new=30)
    assert model.training
    model(torch.arange(12)[None]).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_a_translator_gives_the_same_with_and_without_a_cache_and_batch(method: str) -> None:
    for seed in range(2):
        model, reader, (source, lengths) = conditioned(seed, 4)
        start = [[1]] * 4
        runs = [
            everything(generate(reader, start, max_new=9, eos=[0, 2], method=METHODS[method](), cache=cache))
            for cache in ("dynamic", "static", None)
        ]
        in_turn = METHODS[method]()
        rows = []
        for i in range(4):
            with torch.no_grad():
                one = model.conditioned(source[i : i + 1, : lengths[i]])
            rows.append(everything(generate(one, [1], max_new=9, eos=[0, 2], method=in_turn)))
        runs.append(([t for row, _ in rows for t in row], [x for _, many in rows for x in many]))
        for tokens, logprobs in runs[1:]:
            assert tokens == runs[0][0]
            assert logprobs == pytest.approx(runs[0][1], abs=1e-4)
        assert len({round(many[0], 2) for _, many in rows}) > 1, "the source does not matter"


def test_a_translator_in_training_does_not_drop_while_it_generates() -> None:
    model, reader, _ = conditioned(1, 3)
    want = generate(reader, [[1]] * 3, max_new=9)
    model.train()
    assert generate(reader, [[1]] * 3, max_new=9) == want
    assert all(m.training for m in model.modules())


def test_a_translator_that_has_generated_can_be_trained() -> None:
    model, reader, (source, lengths) = conditioned(0, 2)
    generate(reader, [[1], [1]], max_new=20, method=Beam(2))
    model.train()
    model(source, torch.ones(2, 15, dtype=torch.long), source_lengths=lengths).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_our_models_are_language_models() -> None:
    assert isinstance(gpt(0), LanguageModel)
    assert isinstance(llama(0), LanguageModel)
    assert isinstance(conditioned(0, 1)[1], LanguageModel)
