"""The beam search in the page against `attnkit.generation`: the same hypotheses, scores and tree."""

from __future__ import annotations

import math
import random

import pytest
import torch

from attnkit.generation import Beam, Greedy, generate
from attnkit.viz.explorers.beam import Prefixes, Recorded, explore_beam, record_prefixes, search, written_prefixes
from tests.generation.tables import TableModel
from tests.viz.kinds import run_kind

# Greedy takes "the", since "a" is less likely; what follows "a" makes up for it.
TABLE = {
    "": {"the": 0.6, "a": 0.4},
    "the": {"cat": 0.4, "dog": 0.35, "end": 0.25},
    "a": {"bird": 0.95, "end": 0.05},
    "the cat": {"end": 1.0},
    "the dog": {"end": 1.0},
    "a bird": {"end": 1.0},
}


def drawn(seed: int, vocab: int = 5, longest: int = 5) -> Prefixes:
    """A random table that is whole: everything may follow everything; the end is likelier than others."""
    draw = random.Random(seed)
    following: dict[tuple[int, ...], list[tuple[int, float]]] = {}
    level: list[tuple[int, ...]] = [()]
    for _ in range(longest):
        for prefix in level:
            weights = [draw.random() ** 3 * (2 if token == 0 else 1) + 1e-3 for token in range(vocab)]
            row = [(token, math.log(w / sum(weights))) for token, w in enumerate(weights)]
            following[prefix] = sorted(row, key=lambda one: -one[1])
        level = [(*prefix, token) for prefix in level for token in range(1, vocab)]
    return Prefixes([f"t{i}" for i in range(vocab)], 0, longest, following, 6)


def in_python(found: Prefixes, width: int, penalty: float, early: bool | str) -> list[tuple[list[int], float]]:
    method = Beam(width, penalty, early_stopping=early, n_best=width)
    done = generate(Recorded(found), [[0]], max_new=found.max_new, method=method, eos=found.eos, cache=None)
    return [(h.tokens, h.score) for h in done.hypotheses[0]]


@pytest.mark.parametrize("seed", range(6))
def test_hypotheses_and_scores_are_those_of_the_library(seed):
    found = drawn(seed)
    spec = explore_beam(found, width=2).spec
    stops = {"no": False, "first": True, "never": "never"}
    settings = [(w, p, e) for w in (1, 2, 3, 6) for p in (0.0, 0.7, 2.0) for e in stops.items()]
    jobs = [{"state": {"width": w, "penalty": p, "early": e[0]}} for w, p, e in settings]
    for (width, penalty, early), answer in zip(settings, run_kind("beam", spec, jobs), strict=True):
        pool = [answer["nodes"][i] for i in answer["pool"]]
        expected = in_python(found, width, penalty, early[1])
        assert [node["tokens"] for node in pool] == [tokens for tokens, _ in expected]
        assert [node["score"] for node in pool] == pytest.approx([score for _, score in expected], abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_the_greedy_path_is_that_of_the_library(seed):
    found = drawn(seed)
    (answer,) = run_kind("beam", explore_beam(found).spec, [{"state": {}}])
    done = generate(Recorded(found), [[0]], max_new=found.max_new, method=Greedy(), eos=0, cache=None)
    assert answer["greedy"]["tokens"] == done.tokens[0]
    assert answer["greedy"]["sum"] == pytest.approx(sum(done.logprobs[0]))


def test_the_tree_holds_together():
    (answer,) = run_kind("beam", explore_beam(drawn(1)).spec, [{"state": {"width": 3, "penalty": 1.0}}])
    nodes = answer["nodes"]
    for step, ids in enumerate(answer["steps"], 1):
        sums = [nodes[i]["sum"] for i in ids]
        assert sums == sorted(sums, reverse=True)
        assert sum(nodes[i]["status"] == "running" for i in ids) <= 3
        for i in ids:
            parent = nodes[nodes[i]["parent"]]
            assert nodes[i]["tokens"] == [*parent["tokens"], nodes[i]["token"]]
            assert nodes[i]["sum"] == pytest.approx(parent["sum"] + nodes[i]["gain"])
            assert nodes[i]["step"] == step == len(nodes[i]["tokens"])
            assert parent["status"] == "running"
    assert {nodes[i]["status"] for i in answer["pool"]} <= {"ended", "cut"}
    ended = {n["id"] for n in nodes[1:] if n["status"] in ("ended", "cut")}
    assert ended == set(answer["pool"])


def test_where_beam_and_greedy_part():
    spec = explore_beam(TABLE).spec
    wide, narrow = run_kind("beam", spec, [{"state": {"width": 2}}, {"state": {"width": 1}}])
    names = [spec["tokens"][t] for t in wide["nodes"][wide["pool"][0]]["tokens"]]
    assert names == ["a", "bird", "end"]
    assert [spec["tokens"][t] for t in wide["greedy"]["tokens"]] == ["the", "cat", "end"]
    assert not wide["same"]
    assert narrow["same"]
    marked = [[spec["tokens"][t] for t in n["tokens"]] for n in wide["nodes"] if n["greedy"]]
    assert marked == [[], ["the"], ["the", "cat"], ["the", "cat", "end"]]


def test_what_is_recorded_is_enough_for_every_width_and_penalty():
    torch.manual_seed(0)
    logits = torch.rand(8, 8).pow(3)
    logits[:, 2] += 0.3  # the end is likely, and takes the place of another token among the best
    model, names = TableModel(logits.softmax(1).tolist()), [str(i) for i in range(8)]
    found = record_prefixes(model, [1], names, eos=2, max_new=6, width=4)
    spec = explore_beam(found).spec
    assert len(found.following) < 60
    settings = [(w, p) for w in (1, 2, 3, 4) for p in (0.0, 1.0, 2.0)]
    answers = run_kind("beam", spec, [{"state": {"width": w, "penalty": p}} for w, p in settings])
    for (width, penalty), answer in zip(settings, answers, strict=True):
        method = Beam(width, penalty, n_best=width)
        done = generate(model, [[1]], max_new=6, method=method, eos=2).hypotheses[0]
        assert [answer["nodes"][i]["tokens"] for i in answer["pool"]] == [h.tokens for h in done]
        assert [answer["nodes"][i]["score"] for i in answer["pool"]] == pytest.approx([h.score for h in done])


def test_a_translator_can_be_recorded():
    from attnkit.viz.explorers.translator import BOS, EOS, number_translator

    found = number_translator()
    reader = found.model.conditioned(torch.tensor([[*found._digits(92), EOS]]))
    table = record_prefixes(reader, [BOS], found.target, eos=EOS, max_new=8, width=3)
    (answer,) = run_kind("beam", explore_beam(table).spec, [{"state": {"width": 3}}])
    assert answer["nodes"][answer["pool"][0]]["tokens"] == [*found.tokens(92), EOS]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: explore_beam({("a",): {"end": 1.0}}), "no entry for the empty prefix"),
        (lambda: explore_beam({(): {"a": 0.7, "b": 0.7}}), "sum to 1"),
        (lambda: explore_beam({(): {"a": 0.0}}), "above 0"),
        (lambda: explore_beam({(): {"a": 1.0}}), "lacks what follows 'a'"),
        (lambda: explore_beam(TABLE, width=9), "width is 9; it should be a whole number from 1 to 6"),
        (lambda: record_prefixes(None, [1], ["a"], eos=3, max_new=2), "eos is 3"),
        (lambda: record_prefixes(None, [1], ["a"], eos=0, max_new=0), "max_new is 0"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_without_a_page_it_says_who_wins():
    text = repr(explore_beam(TABLE, title="Two searches"))
    assert "its best hypothesis is “a bird end”, that of greedy search “the cat end”" in text
    assert written_prefixes(TABLE).max_new == 3


class Wide:
    """60 tokens, of which a table of width 4 holds 8 a row."""

    vocab = 60

    def __call__(self, ids, **_):
        rows = []
        for row in ids.tolist():
            dice = torch.Generator().manual_seed(sum((i + 1) * t for i, t in enumerate(row)))
            rows.append(torch.randn(1, 60, generator=dice))
        return torch.stack(rows)

    def new_cache(self, *_, **__):
        return None


def test_a_table_that_was_cut_off_prints_the_model_s_own_scores():
    found = record_prefixes(Wide(), [0], [str(i) for i in range(60)], eos=2, max_new=5, width=4)
    method = Beam(4, length_penalty=0.0, n_best=4)
    own = generate(Wide(), [[0]], max_new=5, eos=2, method=method, cache=None).hypotheses[0]
    printed = search(found, 4, 0.0)
    assert [tokens for tokens, _, _ in printed] == [h.tokens for h in own]
    assert [s for _, s, _ in printed] == pytest.approx([sum(h.logprobs) for h in own], abs=1e-4)
