"""The weights of the Transformer that runs inside a page: numbers in digits, read out in French words.

    python -m attnkit.authoring.explorer_weights

trains it (two minutes on one core), measures it on held-out numbers with the weights rounded as they are stored, and
writes `attnkit/viz/weights/number_names.safetensors` with `number_names.json`: vocabularies, settings, and the stamp
that says how they were made. `measure` reads them again and asks the same question.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from attnkit.data import CharTokenizer, NumberNames, Pair, WordTokenizer
from attnkit.data.split import held_out
from attnkit.models import Translator, TranslatorConfig
from attnkit.training import Buckets, Trainer, adamw, cosine, cross_entropy
from attnkit.training.losses import Total
from attnkit.training.recipes import PAD, Batch, Item, collate, exact_match
from attnkit.viz.explorers.translator import NAME, WEIGHTS, NumberTranslator, number_translator

COMMAND = "python -m attnkit.authoring.explorer_weights"
LANGUAGE = "fr"
STEPS, BATCH, RATE, SEED = 3000, 128, 5e-3, 0
# As in Vaswani et al. 2017, section 5.4. Without it the best token's probability is 1.0000 everywhere: nothing to see.
SMOOTHING = 0.1
LEARNED, ASKED = 30_000, 5000  # of the numbers below a million; the short ones come besides
SHORT = 10_000

Names = list[Pair]


def learned(seed: int = SEED, count: int = LEARNED) -> Names:
    """What it learns from: `count` numbers of all, a third as many below 100,000, and most of those below 10,000.

    Of the numbers below a million nine in ten have six digits, so short ones are drawn more often than they would come.
    """
    names = NumberNames("digits", LANGUAGE)
    short = [names.pair(n) for n in range(min(SHORT, count)) if not held_out(names.key(n))]
    middle = NumberNames("digits", LANGUAGE, largest=99_999).sample(count // 3, "train", seed)
    return names.sample(count, "train", seed) + middle + short + 3 * short[:900]


def asked(seed: int = SEED, count: int = ASKED) -> Names:
    """What it is judged by and has never met: `count` numbers of all, and the short ones that are held out."""
    names = NumberNames("digits", LANGUAGE)
    short = [names.pair(n) for n in range(min(SHORT, count)) if held_out(names.key(n))]
    return names.sample(count, "test", seed) + short


def make(seed: int = SEED, steps: int = STEPS, count: int = LEARNED) -> tuple[Translator, CharTokenizer, WordTokenizer]:
    """A translator trained from the seed, and its tokenizers. Its weights are rounded to float16."""
    names = learned(seed, count)
    digits, words = CharTokenizer(list("0123456789")), WordTokenizer.train(pair.target for pair in names)
    items = ids(names, digits, words)
    torch.manual_seed(seed)
    config = TranslatorConfig(
        source_vocab=digits.vocab_size,
        target_vocab=words.vocab_size,
        pad=PAD,
        d_model=32,
        d_hidden=64,
        heads=4,
        layers=1,
        norm_first=False,
    )
    model = Translator(config)
    optimizer = adamw(model, RATE, decay=0.0, betas=(0.9, 0.98))
    schedule = cosine(max(steps, 101), warmup=100)
    trainer = Trainer(model, smoothed, optimizer, schedule=schedule, clip=1.0, seed=seed)
    lengths = [len(target) for _, target in items]
    trainer.fit(Buckets(items, lengths, batch=BATCH, pool=1, seed=seed, collate=collate), steps=steps, progress=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    return model.eval(), digits, words


def smoothed(model: Translator, batch: Batch) -> Total:
    """The smoothed loss of each token given the right ones before it."""
    logits = model(batch.source, batch.target[:, :-1], source_lengths=batch.source_lengths)
    return cross_entropy(logits, batch.target[:, 1:], ignore=PAD, smoothing=SMOOTHING)


def ids(names: Names, digits: CharTokenizer, words: WordTokenizer) -> list[Item]:
    """Names as the model reads and writes them."""
    return [(digits.encode(pair.source), words.encode(pair.target)) for pair in names]


def write(
    folder: Path = WEIGHTS, *, seed: int = SEED, steps: int = STEPS, count: int = LEARNED, judged: int = ASKED
) -> dict[str, Any]:
    """Train, measure and write; returns the stamp."""
    from safetensors.torch import save_file

    model, digits, words = make(seed, steps, count)
    test = ids(asked(seed, judged), digits, words)
    stamp = {
        "command": COMMAND,
        "seed": seed,
        "steps": steps,
        "smoothing": SMOOTHING,
        "torch": torch.__version__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "held_out": len(test),
        "exact_match": exact_match(model, test),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{NAME}.safetensors"
    save_file({n: p.half().contiguous() for n, p in model.named_parameters()}, str(path))
    path.chmod(0o644)  # whoever installs attnkit reads it
    special = ["<pad>", "<bos>", "<eos>", "<unk>", "<mask>"]
    described = {
        "stamp": stamp,
        "config": {n: getattr(model.config, n) for n in ("d_model", "d_hidden", "heads", "layers", "eps")},
        "source": [*special, *digits.tokens],
        "target": [*special, *words.tokens],
    }
    (folder / f"{NAME}.json").write_text(json.dumps(described, ensure_ascii=False, indent=1) + "\n", "utf-8")
    return stamp


def measure(found: NumberTranslator | None = None, *, count: int = ASKED) -> float:
    """The share of held-out numbers whose whole name the stored weights write rightly."""
    found = number_translator() if found is None else found
    digits, words = CharTokenizer(found.source[5:]), WordTokenizer(found.target[5:])
    return exact_match(found.model, ids(asked(found.stamp["seed"], count), digits, words))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: `python -m attnkit.authoring.explorer_weights --help`."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--folder", type=Path, default=WEIGHTS)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)  # the same sums in the same order, whatever else the machine does
    print(json.dumps(write(given.folder, seed=given.seed, steps=given.steps)))


if __name__ == "__main__":
    main()
