"""The front door: prompts of every form, what is refused and in which words, and how the model is left behind."""

from __future__ import annotations

import doctest
import importlib
import math
import pkgutil

import pytest
import torch

import attnkit.generation
from attnkit.generation import (
    Beam,
    Generated,
    Greedy,
    Hypothesis,
    LanguageModel,
    Sample,
    evaluating,
    generate,
    read_prompts,
)  # fmt: skip
from tests.generation.hf import CONTEXT, gpt2, random_prompts
from tests.generation.tables import TableModel

METHODS = [Greedy(), Beam(3, n_best=2), Sample(top_k=4)]


@pytest.mark.parametrize("name", [m.name for m in pkgutil.iter_modules(attnkit.generation.__path__)])
def test_examples_in_docstrings_are_true(name: str) -> None:
    module = importlib.import_module(f"attnkit.generation.{name}")
    assert not doctest.testmod(module).failed


def test_prompts_of_every_form_give_the_same() -> None:
    model, rows = gpt2(0), [[3, 1, 4], [1, 5], [9]]
    want = generate(model, rows, max_new=6).tokens
    table = torch.tensor([[3, 1, 4], [1, 5, 0], [9, 8, 7]])
    forms = [
        ([torch.tensor(row) for row in rows], {}),
        (tuple(tuple(row) for row in rows), {}),
        ([torch.tensor(row, dtype=torch.int32) for row in rows], {"pad": 11}),
        (table, {"lengths": [3, 2, 1]}),
        (table, {"lengths": torch.tensor([3, 2, 1])}),
        (rows, {"lengths": None, "pad": 5}),
    ]
    for prompt, options in forms:
        assert generate(model, prompt, max_new=6, **options).tokens == want
    for single in ([3, 1, 4], torch.tensor([3, 1, 4]), torch.tensor([[3, 1, 4]]), [[3, 1, 4]]):
        assert generate(model, single, max_new=6).tokens == want[:1]


def test_padding_is_on_the_left_and_nothing_of_it_comes_back() -> None:
    prompts = read_prompts([[5, 6, 7], [8]], pad=2)
    assert prompts.ids.tolist() == [[5, 6, 7], [2, 2, 8]]
    assert prompts.lengths == [3, 1]
    assert prompts.positions(0, 3).tolist() == [[0, 1, 2], [0, 0, 0]]
    assert prompts.positions(3, 5).tolist() == [[3, 4], [1, 2]]
    assert prompts.mask().materialize(2, 1, 1, 4)[1, 0, 0].tolist() == [False, False, True, True]
    assert read_prompts([[1, 2], [3, 4]]).mask() is None
    got = generate(gpt2(0), [[5, 6, 7], [8]], max_new=4)
    assert [len(row) for row in got.tokens] == [4, 4]


@pytest.mark.parametrize("method", METHODS)
def test_no_new_tokens_are_no_tokens(method) -> None:
    model = gpt2(0)
    got = generate(model, [[1, 2], [3]], max_new=0, method=method)
    assert (got.tokens, got.scores, got.finished, got.logprobs) == ([[], []], [0.0, 0.0], [False, False], [[], []])
    assert got.padded(0).shape == (2, 0)
    assert not model.fed


REFUSED = [
    ({"prompt": [[1], []]}, ValueError, ["prompt 1 is empty", "beginning-of-sequence"]),
    ({"prompt": []}, ValueError, ["no prompt at all"]),
    ({"prompt": torch.zeros(2, 0, dtype=torch.long)}, ValueError, ["prompt 0 is empty"]),
    ({"prompt": [[1, 2], [3, 4]], "lengths": [2, 0]}, ValueError, ["prompt 1 is empty"]),
    ({"prompt": [[1, 2], [3, 4]], "lengths": [2, 3]}, ValueError, ["lengths[1] is 3", "2 tokens"]),
    ({"prompt": [[1, 2], [3, 4]], "lengths": [2]}, ValueError, ["lengths is [2]", "2 prompts"]),
    ({"prompt": "hello"}, TypeError, ["prompt is a str", "tokenizer"]),
    ({"prompt": ["hello", "you"]}, TypeError, ["prompt 0 is text", "tokenizer"]),
    ({"prompt": 3}, TypeError, ["prompt is a int", "token ids"]),
    ({"prompt": [[1.5]]}, TypeError, ["prompt 0 holds torch.float32", "whole numbers"]),
    ({"prompt": [[None]]}, TypeError, ["prompt 0 must be a list of whole numbers"]),
    ({"prompt": torch.ones(1, 1, 1)}, ValueError, ["prompt has shape (1, 1, 1)"]),
    ({"prompt": [[[1]]]}, ValueError, ["prompt 0 has shape (1, 1)"]),
    ({"prompt": [[1, 12]]}, ValueError, ["token 12", "0 to 11"]),
    ({"prompt": [[1, -1]]}, ValueError, ["token -1", "0 to 11"]),
    ({"prompt": [[1, 2], [3]], "pad": 99}, ValueError, ["token 99", "0 to 11"]),
    ({"prompt": [[1], [2] * 65]}, ValueError, ["prompt 1 has 65 tokens", f"context is {CONTEXT}"]),
    ({"max_new": 64, "prompt": [1, 2]}, ValueError, ["max_new is 64", "65 positions", "64", "63 at most"]),
    ({"max_new": -1}, ValueError, ["max_new is -1"]),
    ({"max_new": 2.0}, ValueError, ["max_new is 2.0", "whole number"]),
    ({"eos": "."}, ValueError, ["eos is '.'", "token id"]),
    ({"eos": [1, -1]}, ValueError, ["eos is [1, -1]"]),
    ({"method": "greedy"}, TypeError, ["method is 'greedy'", "Greedy()"]),
    ({"cache": "fast"}, ValueError, ["cache is 'fast'", "dynamic", "static", "sliding"]),
    ({"cache": "sliding"}, ValueError, ["window="]),
    ({"window": 4}, ValueError, ["window", "cache='sliding'", "'dynamic'"]),
]


@pytest.mark.parametrize(("change", "kind", "words"), REFUSED, ids=[w[0] for _, _, w in REFUSED])
def test_what_does_not_fit_is_refused_in_words(change: dict, kind: type[Exception], words: list[str]) -> None:
    model = gpt2(0)
    with pytest.raises(kind) as error:
        generate(model, **({"prompt": [1, 2], "max_new": 3} | change))
    assert not [word for word in words if word not in str(error.value)], str(error.value)
    assert not model.fed, "refused before the model is asked"


def test_the_context_is_used_to_its_last_position() -> None:
    """The last token is made, but never read: it needs no position."""
    got = generate(gpt2(0), [1, 2], max_new=CONTEXT - 1)
    assert len(got.tokens[0]) == CONTEXT - 1
    assert len(generate(gpt2(0), [1] * CONTEXT, max_new=1).tokens[0]) == 1


def test_a_model_without_a_context_has_no_limit() -> None:
    assert generate(TableModel([[0, 1], [1, 0]]), [0], max_new=200).tokens == [[1, 0] * 100]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_in_eval_mode_meanwhile_and_then_as_it_was(method, fails: bool) -> None:
    """Each submodule for itself, also when the model raises."""
    model, prompts = gpt2(0), random_prompts(0)
    torch.manual_seed(0)
    want = generate(model, prompts, max_new=8, method=method).tokens
    model.train()
    model.model.transformer.h[0].eval()
    before = [m.training for m in model.modules()]
    if fails:
        model.model.lm_head.forward = lambda x: 1 / 0
        with pytest.raises(ZeroDivisionError):
            generate(model, prompts, max_new=8, method=method)
    else:
        torch.manual_seed(0)
        assert generate(model, prompts, max_new=8, method=method).tokens == want, "dropout was on"
    assert [m.training for m in model.modules()] == before
    assert True in before
    assert False in before


def test_a_gradient_can_be_taken_afterwards() -> None:
    model = gpt2(0)
    generate(model, [1, 2], max_new=3)
    assert torch.is_grad_enabled()
    model(torch.tensor([[1, 2, 3]])).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_evaluating_takes_what_is_no_module_as_it_is() -> None:
    with evaluating(TableModel([[1.0]])):
        pass


def test_the_stream_brings_each_token_as_it_is_made() -> None:
    model = TableModel([[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]])
    came: list[list[int | None]] = []
    got = generate(model, [[0], [1]], max_new=5, eos=3, stream=came.append)
    assert came == [[1, 2], [2, 3], [3, None]]
    assert got.tokens == [[1, 2, 3], [2, 3]]
    again: list[list[int | None]] = []
    sampled = generate(gpt2(0), [[1], [2]], max_new=4, method=Sample(), stream=again.append)
    assert [list(row) for row in zip(*again, strict=True)] == sampled.tokens


@pytest.mark.parametrize("method", METHODS)
def test_nan_logits_are_named(method) -> None:
    with pytest.raises(ValueError, match="NaN after 1 new tokens"):
        generate(TableModel([[0, 1], [math.nan, math.nan]]), [0], max_new=3, method=method)


def test_results_give_the_best_of_each_and_pad_only_when_asked() -> None:
    got = Generated([[Hypothesis([1, 2], -1.0, [-0.5, -0.5], True), Hypothesis([3], -2.0, [-2.0])], [Hypothesis([4])]])
    assert (got.tokens, got.scores, got.finished) == ([[1, 2], [4]], [-1.0, 0.0], [True, False])
    assert got.padded(9).tolist() == [[1, 2], [4, 9]]


def test_the_protocol_tells_a_language_model_from_others() -> None:
    assert isinstance(gpt2(0), LanguageModel)
    assert isinstance(TableModel([[1.0]]), LanguageModel)
    assert not isinstance(torch.nn.Linear(2, 2), LanguageModel)
