"""A corpus of numbered pairs of texts, to translate from one to the other."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple, no_type_check

from attnkit.data.split import Split, belongs, check_count, check_split, shuffled


class Pair(NamedTuple):
    """The same thing said twice."""

    source: str
    target: str


class Pairs:
    """What the translation corpora share: they make their items by number, so nothing is stored.

    A subclass says how many items there are (`__len__`), makes one (`pair`), and names what it is about (`key`). Items
    with the same key are in the same split.
    """

    def __len__(self) -> int:
        raise NotImplementedError

    def pair(self, index: int) -> Pair:
        """The item of that number, from 0 to len - 1."""
        raise NotImplementedError

    def key(self, index: int) -> str:
        """What the item is about: its hash decides the split."""
        raise NotImplementedError

    @no_type_check
    def __getitem__(self, index: int) -> Pair:
        if isinstance(index, bool) or not isinstance(index, int):
            raise TypeError(f"index is {index!r}; it must be a whole number")
        if not 0 <= index < len(self):
            raise IndexError(f"index is {index}; {type(self).__name__} has the items 0 to {len(self) - 1}")
        return self.pair(index)

    @no_type_check
    def indices(self, split: Split | None = None, seed: int = 0) -> Iterator[int]:
        """The numbers of all items of a split, each once, in an order that the seed decides."""
        check_split(split)
        order = shuffled(len(self), random.Random(f"{type(self).__name__} {seed}"))
        return (index for index in order if belongs(self.key(index), split))

    @no_type_check
    def sample(self, count: int, split: Split | None = None, seed: int = 0) -> list[Pair]:
        """That many different items of a split. The same seed gives the same ones, and a larger count more of them."""
        check_count(count)
        found = [self.pair(index) for index, _ in zip(self.indices(split, seed), range(count), strict=False)]
        if len(found) < count:
            raise ValueError(f"count is {count}; the split {split!r} of this {type(self).__name__} has {len(found)}")
        return found
