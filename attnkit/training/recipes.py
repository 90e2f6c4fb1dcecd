"""Three tasks that a small translator learns in half a minute on one core: a whole training, to read or to run.

    python -m attnkit.training.recipes reverse --seed 0

prints what came of it as JSON: the share of held-out items that greedy decoding gets right from the first token to the
last. The path is the same for each task: pairs -> ids -> batches -> `Trainer` -> `generate` -> exact match.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnkit.data import NumberNames, Pair, WordTokenizer, copy, reverse
from attnkit.data.toy import FIRST
from attnkit.generation import generate
from attnkit.models import Translator, TranslatorConfig
from attnkit.nn import recording
from attnkit.positions import Position, Sinusoidal
from attnkit.training.batches import Buckets, pad
from attnkit.training.loop import Trainer
from attnkit.training.losses import Total, cross_entropy
from attnkit.training.optim import adamw
from attnkit.training.schedules import cosine

PAD, BOS, EOS = WordTokenizer.pad, WordTokenizer.bos, WordTokenizer.eos

Item = tuple[list[int], list[int]]  # the ids of a source and of its target


class Task(NamedTuple):
    """What to learn from, what to be judged by, and how many ids there are. The two share no item."""

    train: list[Item]
    test: list[Item]
    source_vocab: int
    target_vocab: int


class Batch(NamedTuple):
    """Sources end in EOS; targets begin with BOS and end in EOS."""

    source: Int[Tensor, "batch source_len"]
    source_lengths: Int[Tensor, " batch"]
    target: Int[Tensor, "batch target_len"]


def sequences(draw: Callable, seed: int) -> Task:
    """Sequences of 4 to 12 of ten symbols: 30,000 to learn from, 1,000 that are held out."""
    train, test = (
        draw(n, symbols=10, split=split, seed=seed).rows() for n, split in ((30_000, "train"), (1000, "test"))
    )
    return Task(train, test, FIRST + 10, FIRST + 10)


def numbers(seed: int) -> Task:
    """Numbers below a million from English into French: 15,000 to learn from, 1,000 that are held out."""
    train, test = (NumberNames("en", "fr").sample(n, split, seed) for n, split in ((15_000, "train"), (1000, "test")))
    english = WordTokenizer.train(pair.source for pair in train)
    french = WordTokenizer.train(pair.target for pair in train)

    def ids(pairs: list[Pair]) -> list[Item]:
        return [(english.encode(source), french.encode(target)) for source, target in pairs]

    return Task(ids(train), ids(test), english.vocab_size, french.vocab_size)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a task is learned. One layer is enough; one head gives copy and reverse a map that is easy to read.

    Layers are post-norm, as in Vaswani et al. 2017. With pre-norm reverse is learned as well, but from some seeds the
    encoder moves the symbols first, and the decoder's map is no anti-diagonal: a map shows where, not what.
    """

    task: Callable[[int], Task]  # seed -> task
    steps: int
    heads: int = 1
    rate: float = 5e-3
    batch: int = 128


RECIPES = {
    "copy": Recipe(task=lambda seed: sequences(copy, seed), steps=600),
    "reverse": Recipe(task=lambda seed: sequences(reverse, seed), steps=1000),
    "numbers": Recipe(task=numbers, steps=1000, heads=4),
}


class NoPosition(Position):
    """No encoding at all: the encoder sees its source as a bag. The control that cannot reverse."""

    acts_on = "embedding"


def build(recipe: Recipe, task: Task, positions: bool = True) -> Translator:
    """A translator of one layer, 64 wide, post-norm."""
    config = TranslatorConfig(
        source_vocab=task.source_vocab,
        target_vocab=task.target_vocab,
        pad=PAD,
        d_model=64,
        d_hidden=128,
        heads=recipe.heads,
        layers=1,
        norm_first=False,
    )
    return Translator(config, position=Sinusoidal(config.d_model) if positions else NoPosition())


def collate(items: Sequence[Item]) -> Batch:
    """Items as tables."""
    source, lengths = pad([[*source, EOS] for source, _ in items], PAD)
    return Batch(source, lengths, pad([[BOS, *target, EOS] for _, target in items], PAD).ids)


def teacher_forced(model: Translator, batch: Batch) -> Total:
    """The loss of each token given the right ones before it."""
    logits = model(batch.source, batch.target[:, :-1], source_lengths=batch.source_lengths)
    return cross_entropy(logits, batch.target[:, 1:], ignore=PAD)


def train(model: Translator, recipe: Recipe, task: Task, *, steps: int, seed: int, progress: bool = False) -> Trainer:
    """Adam without decay, a short warm-up, then down a cosine to 0."""
    trainer = Trainer(
        model,
        teacher_forced,
        adamw(model, recipe.rate, decay=0.0, betas=(0.9, 0.98)),
        schedule=cosine(max(steps, 101), warmup=100),
        clip=1.0,
        seed=seed,
    )
    lengths = [len(target) for _, target in task.train]
    # pool=1: items in random order. Batches of one length each would pull the model to and fro.
    batches = Buckets(task.train, lengths, batch=recipe.batch, pool=1, seed=seed, collate=collate)
    trainer.fit(batches, steps=steps, progress=progress)
    return trainer


def answers(model: Translator, items: Sequence[Item]) -> list[list[int]]:
    """What the model writes by itself, token by token, for each source. EOS included where it came to one."""
    batch = collate(items)
    reader = model.eval().conditioned(batch.source, batch.source_lengths)
    return generate(reader, [[BOS]] * len(items), max_new=batch.target.shape[1], eos=EOS).tokens


def exact_match(model: Translator, items: Sequence[Item]) -> float:
    """The share of items of which the whole answer is right, the end too."""
    written = answers(model, items)
    return sum(answer == [*target, EOS] for answer, (_, target) in zip(written, items, strict=True)) / len(items)


def cross_attention(model: Translator, items: Sequence[Item]) -> list[Float[Tensor, "target_len source_len"]]:
    """For each item the weights of its target's tokens on its source's, in the last layer, the mean over heads.

    Row i is where the model looks when it writes token i, EOS last; the last column is the source's EOS.
    """
    batch = collate(items)
    with recording(model.eval()) as maps, torch.inference_mode():
        teacher_forced(model, batch)
    name = f"transformer.decoder.layers.{model.config.layers - 1}.cross_attention"
    weights = maps[name][0].mean(1)
    return [w[: len(target) + 1, : len(source) + 1] for w, (source, target) in zip(weights, items, strict=True)]


@no_type_check
def run(
    name: str, *, seed: int = 0, steps: int | None = None, positions: bool = True, maps: int = 0, progress: bool = False
) -> dict[str, Any]:
    """Train by a recipe and say what came of it. With `maps`, so many cross-attentions of held-out items too."""
    if name not in RECIPES:
        raise ValueError(f"name is {name!r}; it must be one of {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    steps = recipe.steps if steps is None else steps
    task = recipe.task(seed)
    torch.manual_seed(seed)
    model = build(recipe, task, positions)
    began = time.perf_counter()
    trainer = train(model, recipe, task, steps=steps, seed=seed, progress=progress)
    seconds = time.perf_counter() - began
    found = {
        "task": name,
        "seed": seed,
        "steps": trainer.step,
        "seconds": round(seconds, 1),
        "loss": trainer.history.loss[-1] if steps else None,
        "held_out": len(task.test),
        "exact_match": exact_match(model, task.test),
    }
    if maps:
        shown = [[[round(w, 4) for w in row] for row in m.tolist()] for m in cross_attention(model, task.test[:maps])]
        found["maps"] = shown
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: `python -m attnkit.training.recipes --help`."""
    parser = argparse.ArgumentParser(
        prog="python -m attnkit.training.recipes", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("task", choices=RECIPES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="updates; without it as many as are enough")
    parser.add_argument("--no-positions", dest="positions", action="store_false", help="the control: order is unknown")
    parser.add_argument("--maps", type=int, default=0, help="print the cross-attention of so many held-out items")
    parser.add_argument("--progress", action="store_true", help="show a bar")
    given = vars(parser.parse_args(arguments))
    torch.set_num_threads(1)  # a model this small gains nothing from more, and loses much when the cores are busy
    print(json.dumps(run(given.pop("task"), **given)))


if __name__ == "__main__":
    main()
