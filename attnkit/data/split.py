"""Which items are held out: decided by the item itself, so that no seed and no order can move it across."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from typing import Literal, no_type_check

Split = Literal["train", "test"]
SHARE = 0.1


@no_type_check
def held_out(key: str | bytes, share: int | float = SHARE) -> bool:
    """Is the item that this key names a test item? A `share` of all keys is, the same ones everywhere and always.

    The first eight bytes of the key's BLAKE2b hash, read as a number, fall among the lowest `share` of all. So a larger
    share holds out the same items and more.

    >>> [n for n in range(40) if held_out(str(n))]
    [18, 29]
    """
    if not isinstance(key, str | bytes):
        raise TypeError(f"key is a {type(key).__name__}; it must be text or bytes")
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ValueError(f"share is {share!r}; it must be a number from 0 to 1")
    data = key.encode() if isinstance(key, str) else key
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") < share * 2**64


@no_type_check
def check_split(split: Split | None) -> None:
    """Raise ValueError unless it is "train", "test" or None (both together)."""
    if split not in ("train", "test", None):
        raise ValueError(f'split is {split!r}; it must be "train", "test", or None for both together')


@no_type_check
def check_count(count: int, name: str = "count") -> None:
    """Raise ValueError unless it is a whole number, 0 or more."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise ValueError(f"{name} is {count!r}; it must be a whole number, 0 or more")


def belongs(key: str | bytes, split: Split | None) -> bool:
    """Is the item of this key in the split?"""
    return split is None or held_out(key) == (split == "test")


def shuffled(count: int, rng: random.Random) -> Iterator[int]:
    """The numbers below `count` in random order; the first few cost no more than a few (Fisher and Yates, lazily).

    >>> sorted(shuffled(5, random.Random(0)))
    [0, 1, 2, 3, 4]
    """
    moved: dict[int, int] = {}
    for place in range(count):
        other = rng.randrange(place, count)
        yield moved.get(other, other)
        moved[other] = moved.get(place, place)
