"""Examples in which every value of every feature of attention meets every value of every other.

Two features that work alone may fail together: a sink with a row that sees nothing, dropout with grouped queries. To
cross all features would take a million examples, but most faults of this kind need two features and no third (Kuhn,
Wallace and Gallo 2004, doi:10.1109/TSE.2004.24), and for all pairs some sixty examples are enough. Such a list is
called a covering array of strength 2; `cover` finds one greedily, as AETG does (Cohen et al. 1997,
doi:10.1109/32.605761), and always the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, product
from random import Random

import torch

from attnkit.masks import Causal, Dense, Document, Mask, Padding, Prefix, Sizes, Window
from attnkit.positions.linear_bias import LinearBias
from attnkit.testing.examples import Example

Pair = tuple[tuple[int, int], tuple[int, int]]  # (feature, choice) of one feature and of a later one


def cover(counts: Sequence[int]) -> list[tuple[int, ...]]:
    """Rows of choices, `counts[i]` of them for feature i, such that every two features show every pair of choices.

    Each row starts from a pair that no row shows yet; every other feature then takes the choice that adds most pairs,
    and where several add as many, one at random: always the first would keep the same company.

    >>> cover([2, 2, 2])
    [(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)]
    """
    features = range(len(counts))
    missing: dict[Pair, None] = {
        ((i, x), (j, y)): None
        for i, j in combinations(features, 2)
        for x, y in product(range(counts[i]), range(counts[j]))
    }
    rows: list[tuple[int, ...]] = []
    rng = Random(0)
    while missing:
        row = dict(next(iter(missing)))
        for feature in sorted(set(features) - set(row), key=lambda i: (-counts[i], i)):
            gains = [sum(pair in missing for pair in pairs_with(row, feature, x)) for x in range(counts[feature])]
            row[feature] = max(range(counts[feature]), key=lambda x: (gains[x], rng.random()))
        rows.append(tuple(row[i] for i in features))
        for pair in combinations(enumerate(rows[-1]), 2):
            missing.pop(pair, None)
    return rows


def pairs_with(row: dict[int, int], feature: int, choice: int) -> Iterator[Pair]:
    """The pairs that this choice makes with what a row has already."""
    for other, taken in row.items():
        first, second = sorted([(other, taken), (feature, choice)])
        yield first, second


def _table(sizes: Sizes) -> Mask:
    """A different table for each batch element and head, in which rows and columns are hidden as a whole."""
    b, h, q, k = (torch.arange(n).view(-1, *[1] * (3 - axis)) for axis, n in enumerate(sizes))
    return Dense(((b + h + q * k) % 3 != 0) & (q != 2) & (k != 1))


def _documents(sizes: Sizes) -> Mask:
    """Three documents in the first sequence, five in the second, each beginning elsewhere among queries and keys."""
    counts = torch.tensor([3, 5])[:, None]
    return Document(*(torch.arange(n) * counts // max(n, 1) for n in (sizes.q_len, sizes.k_len)))


def _padding(sizes: Sizes) -> Mask:
    """The first sequence lacks a third of its keys, the second has none."""
    return Padding([sizes.k_len * 2 // 3, 0])


# What an Example's fields are for each value of each feature. The batch has two sequences throughout.
MASKS: dict[str, Callable[[Sizes], Mask] | None] = {
    "all visible": None,
    "causal": lambda s: Causal("upper_left"),
    "causal lower right": lambda s: Causal("lower_right"),
    "window": lambda s: Window(3, 1, "lower_right"),
    "empty sequence": _padding,
    "prefix": lambda s: Prefix([2, 4]) | Causal("upper_left"),
    "documents": _documents,
    "causal padded documents": lambda s: Causal("upper_left") & _documents(s) & Padding([s.k_len, s.k_len * 2 // 3]),
    "table": _table,
    "not the window": lambda s: ~Window(1, 0, "upper_left"),
}
FEATURES: dict[str, dict[str, dict]] = {
    "mask": {name: {"mask": mask} for name, mask in MASKS.items()},
    "lengths": {
        f"{q} on {k}": {"q_len": q, "k_len": k} for q, k in ((13, 13), (5, 14), (14, 5), (1, 19), (3, 26), (21, 27))
    },
    "bias": {name: {"bias": name} for name in ("no bias", "by key", "by query", "by head", "by all", "linear bias")},
    "layout": {
        name: {"layout": name}
        for name in ("plain", "heads inside", "every other entry", "one sequence for the whole batch")
    },
    "width": {f"{d} to {d_v}": {"d": d, "d_v": d_v} for d, d_v in ((8, 8), (16, 16), (40, 40), (24, 10))},
    "heads": {
        "a key head each": {"heads": 2, "kv_heads": 2},
        "2 heads share": {"heads": 4, "kv_heads": 2},
        "all heads share": {"heads": 3, "kv_heads": 1},
    },
    "cap": {"uncapped": {}, "capped": {"softcap": 2.0}},
    "sink": {"no sink": {}, "sink": {"sink": True}},
    "dropout": {"all kept": {}, "dropout": {"dropout": 0.3}},
    "scale": {"own scale": {}, "negative": {"scale": -0.7}},
    # In the thousands, nearly every row has one weight of 1 and exp overflows; float16 still holds the numbers. In the
    # hundreds, near ties would make it a matter of luck whose rounding is better.
    "logits": {"small logits": {}, "huge logits": {"logits": 5e3}},
    "reach": {"symmetric": {"symmetric": True}, "one-sided": {"symmetric": False}},  # of a linear bias, if there is one
}


def make(names: Sequence[str], number: int) -> Example:
    """The example that has these values of the features."""
    fields: dict = {}
    for feature, name in zip(FEATURES, names, strict=True):
        fields |= FEATURES[feature][name]
    batch, heads, q_len, k_len = 2, fields["heads"], fields["q_len"], fields["k_len"]
    shapes = {
        "by key": (1, k_len),
        "by query": (q_len, 1),
        "by head": (heads, 1, 1),
        "by all": (batch, heads, q_len, k_len),
    }
    kind, symmetric = fields.pop("bias"), fields.pop("symmetric")
    if kind == "linear bias":
        fields["linear"] = lambda slopes: LinearBias(slopes, symmetric, align="lower_right")
    told = ", ".join(names if "linear" in fields else names[:-1])
    return Example(f"crossed {number:02d}: {told}", batch=batch, bias=shapes.get(kind), **fields)


def chosen() -> list[tuple[str, ...]]:
    """The names of the values in each example."""
    names = [list(values) for values in FEATURES.values()]
    return [
        tuple(values[choice] for values, choice in zip(names, row, strict=True)) for row in cover([*map(len, names)])
    ]


CROSSED = [make(names, number) for number, names in enumerate(chosen())]
