"""Use, first case: what is trained, drawn and reported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnkit.generation.filters import top_k
from attnkit.museum.base import randn, row, softmax, specimen

Tokens = Float[Tensor, " _"]  # batches hold different numbers of tokens
Batch = tuple[Float[Tensor, "examples features"], Float[Tensor, " examples"]]
Weights = Float[Tensor, " features"]

RATE = 0.1


def gradient(w: Weights, batch: Batch) -> Weights:
    """Of the mean squared error of x·w, over the batch."""
    x, y = batch
    return 2 * x.mT @ (x @ w - y) / len(y)


def micro_batches(n: int) -> list[Batch]:
    """n batches of four examples."""
    return [(randn(4, 3, seed=i), randn(4, seed=100 + i)) for i in range(n)]


@specimen(
    slug="accumulation",
    title="Accumulation that steps too early and adds too much",
    room="use",
    seen=("a well-known line-by-line commentary",),
    chapter="transformer/training#training-accumulation",
    habit="compare the parts with the whole",
)
class Accumulation:
    """`i % k == 0` is true for i = 0, so the first step comes too early. And k gradients are summed, not averaged."""

    @staticmethod
    def wrong(w: Weights, batches: list[Batch], k: int) -> Weights:
        total = torch.zeros_like(w)
        for i, batch in enumerate(batches):
            total = total + gradient(w, batch)
            if i % k == 0:
                w, total = w - RATE * total, torch.zeros_like(w)
        return w

    @staticmethod
    def right(w: Weights, batches: list[Batch], k: int) -> Weights:
        total = torch.zeros_like(w)
        for i, batch in enumerate(batches):
            total = total + gradient(w, batch) / k
            if (i + 1) % k == 0:
                w, total = w - RATE * total, torch.zeros_like(w)
        return w

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        w, batches = randn(3), micro_batches(4)
        moves = {n: (f(w, batches[:n], 4) - w).norm() for n in (1, 2, 4)}
        return {f"how far w has moved after {n} of 4 micro-batches": row([move]) for n, move in moves.items()}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """Without accumulation, k = 1: plain gradient descent."""
        w, batches = randn(3), micro_batches(3)
        plain = w
        for batch in batches:
            plain = plain - RATE * gradient(plain, batch)
        assert torch.allclose(f(w, batches, 1), plain), "not gradient descent"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """Four micro-batches are one batch of all their examples."""
        w, batches = randn(3), micro_batches(4)
        whole = (torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches]))
        assert torch.allclose(f(w, batches, 4), f(w, [whole], 1)), "accumulating is not the same as a larger batch"


@specimen(
    slug="mean-of-means",
    title="The mean of the means",
    room="use",
    seen=("`huggingface/transformers#24725`", "`huggingface/transformers#34191`", "`ml-explore/mlx-lm#1413`"),
    chapter="transformer/training#training-accumulation",
    habit="compare the parts with the whole",
)
class MeanOfMeans:
    """Each batch reports its loss per token, and these are averaged. A short batch then counts as a long one."""

    @staticmethod
    def wrong(losses: Sequence[Tokens]) -> Float[Tensor, ""]:
        return torch.stack([loss.mean() for loss in losses]).mean()

    @staticmethod
    def right(losses: Sequence[Tokens]) -> Float[Tensor, ""]:
        return torch.cat(list(losses)).mean()

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        even = [torch.ones(50), 3 * torch.ones(50)]
        ragged = [torch.ones(99), 3 * torch.ones(1)]
        return {"mean of 50 tokens at 1, 50 at 3": row([f(even)]), "mean of 99 tokens at 1, one at 3": row([f(ragged)])}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """Batches of equal size: the mean over all tokens."""
        losses = randn(4, 16)
        assert torch.allclose(f(list(losses)), losses.mean()), "not the mean over all tokens"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """How tokens are cut into batches does not change the loss."""
        tokens = randn(16)
        one, two = f([tokens]), f([tokens[:13], tokens[13:]])
        assert torch.allclose(one, two), "another cut into batches, another loss: weigh each batch by its tokens"


@specimen(
    slug="top-k-discarded",
    title="Top-k whose result is thrown away",
    room="use",
    seen=("a university course's staff code",),
    chapter="transformer/decoding",
    habit="know one answer beforehand",
)
class TopKDiscarded:
    """`masked_fill` returns a new tensor; `masked_fill_` does not. One underscore, and every token can be drawn."""

    @staticmethod
    def wrong(logits: Float[Tensor, " vocab"], k: int) -> Float[Tensor, " vocab"]:
        least = logits.topk(k).values[-1]
        logits.masked_fill(logits < least, float("-inf"))
        return softmax(logits)

    @staticmethod
    def right(logits: Float[Tensor, " vocab"], k: int) -> Float[Tensor, " vocab"]:
        return softmax(top_k(logits, k))

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        logits = torch.tensor([2.0, 1, 0, -1])
        return {f"probabilities of 2, 1, 0, -1 for k = {k}": row(f(logits, k)) for k in (4, 2, 1)}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """Probabilities sum to 1, their order is right, and k = V is no filter."""
        logits = randn(9)
        p = f(logits, 3)
        assert torch.allclose(p.sum(), torch.ones(()).double()), "probabilities do not sum to 1"
        assert p.argmax() == logits.argmax(), "the best token is another"
        assert torch.allclose(f(logits, 9), logits.softmax(-1)), "k = V changed something"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """k = 1 leaves one token: greedy."""
        left = int((f(randn(9), 1) > 0).sum())
        assert left == 1, f"k = 1 leaves {left} tokens to draw from"


Tags = Sequence[str]
Entity = tuple[str, int, int]  # kind, first token, one past the last


def entities(tags: Tags) -> set[Entity]:
    """The entities that BIO tags mark: B-x begins one of kind x, I-x continues it."""
    found, start = set(), None
    for i, tag in enumerate([*tags, "O"]):
        if start is not None and tag != f"I-{tags[start][2:]}":
            found.add((tags[start][2:], start, i))
            start = None
        if tag.startswith("B-"):
            start = i
    return found


@specimen(
    slug="token-accuracy",
    title="A score that counts the tokens outside",
    room="use",
    seen=("a popular article reports 0.97 in this way",),
    chapter="appendix/verify",
    habit="know one answer beforehand",
)
class TokenAccuracy:
    """Most tokens are in no name. Counted as successes, they make every tagger look good, even one that finds none."""

    @staticmethod
    def wrong(gold: Tags, found: Tags) -> float:
        return sum(a == b for a, b in zip(gold, found, strict=True)) / len(gold)

    @staticmethod
    def right(gold: Tags, found: Tags) -> float:
        """F1 of whole entities: 2 hits / (entities there + entities said)."""
        there, said = entities(gold), entities(found)
        return 2 * len(there & said) / max(len(there) + len(said), 1)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        gold = ["B-PER", "I-PER", *["O"] * 28]
        half = ["B-PER", *["O"] * 29]  # the first name alone
        return {
            "all found": row([f(gold, gold)]),
            "half of the one name found": row([f(gold, half)]),
            "nothing found": row([f(gold, ["O"] * 30)]),
        }

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """A perfect tagger scores 1, and a worse one less."""
        gold = ["O", "B-PER", "I-PER", "O", "B-LOC"]
        assert f(gold, gold) == 1, "a perfect tagger does not score 1"
        assert f(gold, ["O", "B-PER", "I-PER", "O", "O"]) < 1, "a missed name costs nothing"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """A tagger that finds nothing scores 0."""
        score = f(["B-PER", *["O"] * 9], ["O"] * 10)
        assert score == 0, f"it found nothing and scores {score:.2f}: count whole entities, not tokens"
