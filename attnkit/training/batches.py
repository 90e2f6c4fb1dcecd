"""Batches in an order that is seeded, different in each epoch, and can be taken up again where it was left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar, no_type_check

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from attnkit.training.losses import IGNORE

Batch = TypeVar("Batch")


class Padded(NamedTuple):
    """Sequences as a table, and how long each of them is."""

    ids: Int[Tensor, "batch len"]
    lengths: Int[Tensor, " batch"]


@no_type_check
def pad(
    sequences: Sequence[Sequence[int] | Tensor], value: int = 0, *, left: bool = False, multiple: int = 1
) -> Padded:
    """Fill sequences up with `value` to the longest, on the right (or the left), and to a multiple of `multiple`.

    `lengths` is what `attnkit.masks.Padding` takes, when the padding is on the right.

    >>> pad([[5, 6, 7], [8]], value=-1).ids.tolist()
    [[5, 6, 7], [8, -1, -1]]
    """
    if not len(sequences):
        raise ValueError("sequences is empty; a batch needs one sequence or more")
    if not isinstance(multiple, int) or multiple < 1:
        raise ValueError(f"multiple is {multiple!r}; it must be an integer, 1 or more")
    rows = [torch.as_tensor(sequence).long() for sequence in sequences]
    if any(row.ndim != 1 for row in rows):
        raise ValueError("sequences must hold lists of integers, or tensors with one axis")
    width = -(-max(len(row) for row in rows) // multiple) * multiple
    ids = torch.full((len(rows), width), value)
    for line, row in zip(ids, rows, strict=True):
        line[width - len(row) if left else 0 :][: len(row)] = row
    return Padded(ids, torch.tensor([len(row) for row in rows]))


class Epochs(Generic[Batch]):
    """An endless supply in epochs: a loop over it gives what is left of this epoch, the next loop the next epoch.

    A subclass says what an epoch consists of (`plan`) and what becomes of an entry (`make`). `state_dict` is the place
    after the last batch that was handed out. One loop at a time: two would share the place.
    """

    epoch = 0
    position = 0

    def plan(self, epoch: int) -> Sequence[Any]:
        """The entries of an epoch, in order: always the same for the same number."""
        raise NotImplementedError

    def make(self, entry: Any) -> Batch:
        """The batch of an entry."""
        raise NotImplementedError

    def __len__(self) -> int:
        """Batches in the present epoch."""
        return len(self.plan(self.epoch))

    def __iter__(self) -> Iterator[Batch]:
        plan = self.plan(self.epoch)
        if self.position >= len(plan):  # a state taken right after the last batch
            self._turn()
            plan = self.plan(self.epoch)
        while self.position < len(plan):
            self.position += 1
            yield self.make(plan[self.position - 1])
        self._turn()

    def _turn(self) -> None:
        self.epoch, self.position = self.epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]


class Stream(Epochs[tuple[Tensor, Tensor]]):
    """One long text as windows for causal language modelling: `(inputs, targets)`, each (batch, length).

    The target of a token is the token after it. Every token but the first is a target exactly once an epoch. The text
    is cut into `batch` strands of equal length (but for one token), and row b of the batches walks along strand b, so
    that a model with a memory may carry it from batch to batch. With a `seed` the windows are shuffled instead,
    differently in each epoch. Where a strand ends early, inputs are filled with `pad` and targets with -100.

    >>> for inputs, targets in Stream(torch.arange(9), batch=2, length=3):
    ...     print(inputs.tolist(), targets.tolist())
    [[0, 1, 2], [4, 5, 6]] [[1, 2, 3], [5, 6, 7]]
    [[3, 0, 0], [7, 0, 0]] [[4, -100, -100], [8, -100, -100]]
    """

    ids: Int[Tensor, " tokens"]
    starts: Int[Tensor, " windows"]
    sizes: Int[Tensor, " windows"]
    batch: int
    length: int
    seed: int | None
    pad: int

    @no_type_check
    def __init__(
        self,
        ids: Int[Tensor, " tokens"] | Sequence[int],
        *,
        batch: int,
        length: int,
        seed: int | None = None,
        pad: int = 0,
    ) -> None:
        self.ids = torch.as_tensor(ids)
        if self.ids.ndim != 1 or self.ids.is_floating_point() or len(self.ids) < 2:
            raise ValueError(
                f"ids has shape {tuple(self.ids.shape)} and dtype {self.ids.dtype}; "
                "it must be one axis of two integers or more, a token and the one after it"
            )
        _counts(batch=batch, length=length)
        self.batch, self.length, self.seed, self.pad = batch, length, seed, pad
        sizes = _even(len(self.ids) - 1, batch)  # of the strands
        first = sizes.cumsum(0) - sizes
        at = torch.arange(0, int(sizes.max()), length)[:, None]
        self.starts = (first + at).reshape(-1)  # (windows), row by row of the batches
        self.sizes = (sizes - at).clamp(0, length).reshape(-1)

    def plan(self, epoch: int) -> Sequence[Tensor]:
        order = torch.arange(len(self.starts))
        if self.seed is not None:
            order = torch.from_numpy(np.random.default_rng([self.seed, epoch]).permutation(len(order)))
        return order.split(self.batch)

    def make(self, entry: Tensor) -> tuple[Tensor, Tensor]:
        column = torch.arange(self.length)
        real = column < self.sizes[entry][:, None]
        at = (self.starts[entry][:, None] + column).where(real, 0)
        return self.ids[at].where(real, self.pad), self.ids[at + 1].where(real, IGNORE)


class Buckets(Epochs[Batch]):
    """Items in batches of similar length, so that little is padding: each item once an epoch, in a seeded order.

    The items are shuffled, sorted by length within pools of `pool` batches, cut into batches, and the batches shuffled.
    With `pool=1` that is random order: a small model may need it, which batches of one length each pull to and fro.
    A batch holds `batch` items, or, with `tokens`, as many as fit into that many tokens, padding included. `collate`
    turns a list of items into a batch; without it the list itself is given.

    >>> words = ["a", "of", "the", "to", "I", "and"]
    >>> sorted(sorted(batch) for batch in Buckets(words, list(map(len, words)), batch=2, seed=0))
    [['I', 'a'], ['and', 'the'], ['of', 'to']]
    """

    items: Sequence[Any]
    lengths: np.ndarray
    batch: int | None
    tokens: int | None
    seed: int
    pool: int
    collate: Callable[[list[Any]], Batch]

    @no_type_check
    def __init__(
        self,
        items: Sequence[Any],
        lengths: Sequence[int],
        *,
        batch: int | None = None,
        tokens: int | None = None,
        seed: int = 0,
        pool: int = 100,
        collate: Callable[[list[Any]], Batch] = list,
    ) -> None:
        if (batch is None) == (tokens is None):
            raise ValueError("give either batch (items in a batch) or tokens (tokens in a batch, with padding)")
        _counts(pool=pool, **({"batch": batch} if tokens is None else {"tokens": tokens}))
        if len(items) != len(lengths) or not len(items):
            raise ValueError(f"there are {len(items)} items and {len(lengths)} lengths; it must be one each, and some")
        self.items, self.lengths = items, np.asarray(lengths)
        if tokens is not None and self.lengths.max() > tokens:
            worst = int(self.lengths.argmax())
            raise ValueError(f"tokens is {tokens}; item {worst} alone has {self.lengths[worst]}")
        self.batch, self.tokens, self.seed, self.pool, self.collate = batch, tokens, seed, pool, collate

    def plan(self, epoch: int) -> list[list[int]]:
        """Lists of the items' numbers."""
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.items))
        size = self.pool * (self.batch or max(1, int(self.tokens / self.lengths.mean().clip(1))))
        pools = [order[start : start + size] for start in range(0, len(order), size)]
        batches = [b for p in pools for b in self._cut(p[np.argsort(self.lengths[p], kind="stable")].tolist())]
        return [batches[index] for index in rng.permutation(len(batches))]

    def _cut(self, order: list[int]) -> Iterator[list[int]]:
        """Neighbours together; lengths do not fall along `order`, so the last of a batch is its longest."""
        group: list[int] = []
        for index in order:
            full = (
                len(group) == self.batch
                if self.tokens is None
                else self.lengths[index] * (len(group) + 1) > self.tokens
            )
            if group and full:
                yield group
                group = []
            group.append(index)
        if group:
            yield group

    def make(self, entry: list[int]) -> Batch:
        return self.collate([self.items[index] for index in entry])

    def waste(self) -> float:
        """The share of padding in the present epoch's batches."""
        padded = sum(len(entry) * int(self.lengths[entry].max()) for entry in self.plan(self.epoch))
        return 1 - int(self.lengths.sum()) / max(padded, 1)


def _even(total: int, parts: int) -> Int[Tensor, " parts"]:
    """`total` as a sum of `parts` numbers that differ by one at most, larger ones first."""
    return torch.tensor([total // parts + int(part < total % parts) for part in range(parts)])


@no_type_check
def _counts(**values: int) -> None:
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} is {value!r}; it must be an integer, 1 or more")
