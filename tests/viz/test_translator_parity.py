"""The Transformer in the page against PyTorch: the same logits, the same maps; its weights do what their stamp says."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from attnkit.authoring import explorer_weights
from attnkit.data import NumberNames
from attnkit.data.split import held_out
from attnkit.nn import recording
from attnkit.viz.explorers.translator import BOS, EOS, LONGEST, explore_translator, number_translator, stored
from tests.viz.kinds import run_kind

NUMBERS = [0, 7, 80, 371, 999_999, 100_000, 777_777, 21_742, 196_884, 497_497]


@pytest.fixture(scope="module")
def found():
    return number_translator()


def in_torch(found, source, target, dtype=torch.float64) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Logits, and the weights of every attention (heads, queries, keys), of the model in this dtype."""
    model = found.model.to(dtype)
    with recording(model) as maps, torch.inference_mode():
        logits = model(torch.tensor([source]), torch.tensor([target]))[0].numpy()
    model.float()
    return logits, {name: weights[0][0].numpy() for name, weights in maps.items()}


def compare(found, answer: dict, dtype=torch.float64) -> float:
    """The greatest difference between the script's answer and torch's, over logits and all maps."""
    logits, maps = in_torch(found, answer["source"], answer["target"], dtype)
    pairs = [(answer["logits"], logits)]
    for layer in range(found.model.config.layers):
        for part, name in (("encoder", "encoder.layers.{}.attention"), ("self", "decoder.layers.{}.self_attention"),
                           ("cross", "decoder.layers.{}.cross_attention")):  # fmt: skip
            weights = maps["transformer." + name.format(layer)]
            pairs += [(answer["maps"][part][layer][head], weights[head]) for head in range(len(weights))]
    assert all(np.size(ours) == theirs.size for ours, theirs in pairs)
    return max(float(np.abs(np.array(ours) - theirs.ravel()).max()) for ours, theirs in pairs)


def test_logits_and_every_map_are_those_of_torch(found):
    draw = random.Random(1)
    numbers = NUMBERS + [draw.randrange(10 ** draw.randint(1, 6)) for _ in range(14)]
    answers = run_kind("translator", explore_translator().spec, [{"state": {"number": str(n)}} for n in numbers])
    for number, answer in zip(numbers, answers, strict=True):
        assert answer["source"] == [*(found.source.index(d) for d in str(number)), EOS]
        assert answer["target"][1:] == found.tokens(number), number
        assert compare(found, answer) < 1e-9
        assert compare(found, answer, torch.float32) < 1e-4, "float32 adds its own rounding, up to 2e-5"
        assert answer["text"] == found.translate(number).strip()


def test_a_forced_token_changes_what_follows_and_still_agrees(found):
    forced = {"0": 9, "3": 12}
    (answer,) = run_kind("translator", explore_translator().spec, [{"state": {"number": "371", "forced": forced}}])
    assert answer["written"][0] == 9
    assert answer["written"][3] == 12
    assert compare(found, answer) < 1e-9


def test_it_ends_at_the_longest_even_when_the_end_is_never_written():
    forced = {str(step): 9 for step in range(99)}
    (answer,) = run_kind("translator", explore_translator().spec, [{"state": {"number": "1", "forced": forced}}])
    assert len(answer["written"]) == LONGEST


def test_probabilities_are_the_softmax_of_the_step_and_the_best_comes_first(found):
    (answer,) = run_kind("translator", explore_translator().spec, [{"state": {"number": "92", "step": 1}}])
    logits, _ = in_torch(found, answer["source"], answer["target"])
    best = torch.tensor(logits[1]).softmax(0).topk(5)
    assert [token for token, _ in answer["top"]] == best.indices.tolist()
    assert np.allclose([p for _, p in answer["top"]], best.values, atol=1e-6)


REFUSED = {"": "Type", "007": "leading zeros", "12a": "digits only", "1000000": "999999", "-3": "only", "१२": "only"}


@pytest.mark.parametrize(("text", "word"), [*REFUSED.items(), ("1 000", "no spaces")])
def test_what_is_no_number_is_refused_in_words(text, word):
    (answer,) = run_kind("translator", explore_translator().spec, [{"state": {"number": text}}])
    assert word in answer["fault"]


@pytest.mark.parametrize("number", [-1, 1_000_000, "007", "x", "", 3.5])
def test_python_refuses_the_same(number):
    with pytest.raises(ValueError, match=r"number is .*0 to 999999"):
        explore_translator(number=number)


def test_the_weights_do_what_their_stamp_says(found):
    stamp = found.stamp
    assert stamp["exact_match"] >= 0.999
    assert explorer_weights.measure(count=400) >= 0.995
    assert stamp["parameters"] == sum(p.numel() for p in found.model.parameters())
    assert stamp["command"] == explorer_weights.COMMAND
    assert {"seed", "steps", "torch", "held_out"} <= stamp.keys()


def test_what_is_asked_was_never_learned():
    learned, asked = explorer_weights.learned(count=2000), explorer_weights.asked(count=2000)
    assert not {pair.source for pair in learned} & {pair.source for pair in asked}
    assert all(held_out(NumberNames("digits", "fr").key(int(pair.source))) for pair in asked)
    assert {len(pair.source) for pair in asked} == {2, 3, 4, 5, 6}, "the ten digits are all learned"


def test_the_files_are_small():
    size = sum(path.stat().st_size for path in explorer_weights.WEIGHTS.iterdir())
    assert size < 64_000
    assert sum(array.size for array in stored().values()) < 60_000


def test_the_recipe_runs_and_writes_what_can_be_read(tmp_path):
    stamp = explorer_weights.write(tmp_path, steps=3, count=1500, judged=10)
    assert stamp["steps"] == 3
    new, old = stored(tmp_path / f"{explorer_weights.NAME}.safetensors"), stored()
    assert {name: array.shape for name, array in new.items()} == {name: array.shape for name, array in old.items()}
    assert not np.array_equal(new["target_embedding.weight"], old["target_embedding.weight"])


def test_no_name_is_longer_than_what_is_written_at_most(found):
    assert len(found.tokens(497_497)) + 1 == LONGEST
    assert found.translate(497_497) == NumberNames("digits", "fr").pair(497_497).target


def test_without_a_page_it_says_what_the_page_shows(monkeypatch):
    monkeypatch.setenv("ATTNKIT_VIZ", "text")
    explorer = explore_translator(number=92, title="A reader of numbers")
    assert explorer._repr_html_() is None
    assert "quatre-vingt-douze" in repr(explorer)
    assert "looked at most" in repr(explorer)
    assert explorer.spec["target"].index("<bos>") == BOS
