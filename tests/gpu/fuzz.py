"""Random calls of attention, the same ones each time, to be judged as the chosen examples are.

A kernel is compiled anew for each combination of features, which takes longer than to run it a hundred times. So there
are few kinds of call, and of each kind many with other sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import torch

from attnkit.masks import Causal, Dense, Document, Mask, Padding, Prefix, Sizes, Window
from attnkit.positions.linear_bias import LinearBias
from attnkit.testing import Example

KINDS = 25
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
WIDTHS = (16, 32, 40, 64, 80, 96, 128, 256)
BIASES = ("none", "none", "key", "query", "head", "table", "all", "linear")


def kind(number: int) -> tuple[Example, torch.dtype, str, str]:
    """What a kernel is compiled for: features and widths, the dtype, which mask and which bias."""
    rng = Random(f"kind {number}")
    d = rng.choice(WIDTHS)
    group, kv_heads = rng.choice((1, 1, 2, 4)), rng.choice((1, 2))
    example = Example(
        f"kind {number}",
        heads=group * kv_heads,
        kv_heads=kv_heads,
        d=d,
        d_v=rng.choice((d, d, d, 24)),
        softcap=rng.choice((None, None, 5.0)),
        sink=rng.random() < 0.3,
        dropout=rng.choice((0.0, 0.0, 0.25)),
        scale=rng.choice((None, None, 0.3)),
        layout=rng.choice(("plain", "heads inside", "every other entry", "one sequence for the whole batch")),
    )
    return example, DTYPES[number % len(DTYPES)], list(MASKS)[number % len(MASKS)], rng.choice(BIASES)


def draw(kind_number: int, number: int, longest: int) -> tuple[Example, torch.dtype]:
    """One call of a kind, with lengths up to `longest`."""
    base, dtype, mask, bias = kind(kind_number)
    rng = Random(f"call {kind_number} {number} {longest}")
    # One in three is square, and one in six has few queries, as in decoding.
    q_len = rng.choice((rng.randint(1, 8), *(rng.randint(1, longest) for _ in range(5))))
    k_len = rng.choice((q_len, rng.randint(1, longest), rng.randint(1, longest)))
    sizes = Sizes(rng.randint(1, 2), base.heads, q_len, k_len)
    shapes = {
        "key": (1, k_len),
        "query": (q_len, 1),
        "head": (base.heads, 1, 1),
        "table": (base.heads, q_len, k_len),
        "all": tuple(sizes),
    }
    symmetric = rng.random() < 0.5
    made = MASKS[mask](rng, sizes)
    return replace(
        base,
        name=f"{base.name}, {number}: {mask}, {q_len} on {k_len}, {dtype}",
        batch=sizes.batch,
        q_len=q_len,
        k_len=k_len,
        mask=None if made is None else lambda s: made,
        bias=shapes.get(bias),
        linear=(lambda slopes: LinearBias(slopes, symmetric, "lower_right")) if bias == "linear" else None,
    ), dtype


def _align(rng: Random) -> str:
    return rng.choice(("upper_left", "lower_right"))


def _documents(rng: Random, sizes: Sizes) -> Document:
    def ids(length: int) -> list[list[int]]:
        return [sorted(rng.randrange(4) for _ in range(length)) for _ in range(sizes.batch)]

    return Document(ids(sizes.q_len), ids(sizes.k_len))


def _table(rng: Random, sizes: Sizes) -> Dense:
    shape = [n if rng.random() < 0.5 else 1 for n in sizes[:2]] + list(sizes[2:])
    return Dense(torch.rand(shape, generator=torch.Generator().manual_seed(rng.getrandbits(32))) < 0.3)


def _lengths(rng: Random, sizes: Sizes) -> list[int]:
    return [rng.randint(0, sizes.k_len) for _ in range(sizes.batch)]


MASKS: dict[str, Callable[[Random, Sizes], Mask | None]] = {
    "all": lambda rng, s: None,
    "causal": lambda rng, s: Causal(_align(rng)),
    "window": lambda rng, s: Window(rng.randint(0, s.k_len), rng.choice((0, None, 3)), _align(rng)),
    "padding": lambda rng, s: Padding(_lengths(rng, s)),
    "padded causal": lambda rng, s: Causal(_align(rng)) & Padding(_lengths(rng, s)),
    "prefix": lambda rng, s: Prefix(_lengths(rng, s)) | Causal(_align(rng)),
    "documents": _documents,
    "causal documents": lambda rng, s: Causal(_align(rng)) & _documents(rng, s),
    "table": _table,
    "all but a window": lambda rng, s: ~Window(rng.randint(0, 5), 0, _align(rng)),
}
