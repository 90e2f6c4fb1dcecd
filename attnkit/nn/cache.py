"""What a model remembers of the tokens before: for each layer the keys and values of its attentions.

>>> cache = KVCache(layers=12)                                     # grows
>>> cache = KVCache(layers=12, kind="static", length=1024)         # never grows
>>> cache = KVCache(layers=12, kind="sliding", window=256, sinks=4)  # forgets
>>> cache = KVCache(layers=6, cross=True)                          # for a decoder that reads a memory
>>> cache[0].self, cache[0].cross
(DynamicCache: 0 tokens, 0 bytes, CrossCache: 0 keys, 0 bytes)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, no_type_check

from jaxtyping import Int
from torch import Tensor

from attnkit.nn.cache_kinds import CrossCache, DynamicCache, LayerCache, StaticCache, checked
from attnkit.nn.sliding import SlidingCache
from attnkit.positions.base import check_count

__all__ = ["CrossCache", "DynamicCache", "KVCache", "LayerCache", "LayerSlot", "SlidingCache", "StaticCache"]

KINDS = {"dynamic": DynamicCache, "static": StaticCache, "sliding": SlidingCache}


class LayerSlot(NamedTuple):
    """The caches of one layer: of its attention to its own tokens, and of that to a memory, if it has one."""

    self: LayerCache
    cross: CrossCache | None = None

    @property
    def length(slot) -> int:
        """How many tokens were seen."""
        return slot[0].length


class KVCache:
    """The caches of a model's layers, all of one kind: `cache[i]` is layer i's slot.

    `length` for kind "static"; `window`, `sinks` and `reposition` for kind "sliding". `cross=True` adds to each layer
    a place for its projections of the memory. Each forward pass of the model appends to it.
    """

    _slots: list[LayerSlot]

    @no_type_check
    def __init__(
        self,
        layers: int,
        kind: Literal["dynamic", "static", "sliding"] = "dynamic",
        *,
        cross: bool = False,
        length: int | None = None,
        window: int | None = None,
        sinks: int = 0,
        reposition: bool = False,
    ) -> None:
        check_count("layers", layers)
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(map(repr, KINDS))}")
        given = {"length": length, "window": window, "sinks": sinks or None, "reposition": reposition or None}
        given = {name: value for name, value in given.items() if value is not None}
        takes = {"dynamic": [], "static": ["length"], "sliding": ["window", "sinks", "reposition"]}[kind]
        stray = [name for name in given if name not in takes]
        if stray or (takes and takes[0] not in given):
            fault = f"no {stray[0]}" if stray else f"a {takes[0]}"
            raise ValueError(f"kind is {kind!r}, which takes {fault}; got {given or 'none'}")
        self._slots = [LayerSlot(KINDS[kind](**given), CrossCache() if cross else None) for _ in range(layers)]

    def __len__(self) -> int:
        return len(self._slots)

    def __getitem__(self, layer: int) -> LayerSlot:
        return self._slots[layer]

    def __iter__(self) -> Iterator[LayerSlot]:
        return iter(self._slots)

    @property
    def length(self) -> int:
        """How many tokens the model has seen."""
        return self._slots[0].self.length

    @property
    def nbytes(self) -> int:
        """Bytes of all keys and values held."""
        return sum(slot.self.nbytes + (slot.cross.nbytes if slot.cross else 0) for slot in self)

    @no_type_check
    def reorder(self, index: Int[Tensor, " rows"]) -> None:
        """Batch row i becomes what row index[i] was, in every layer. Rows may repeat or be missing."""
        checked(index)
        for cache in (cache for slot in self for cache in slot if cache is not None):
            cache.reorder(index)

    def crop(self, length: int) -> None:
        """Forget every token after the first `length`; the memory stays."""
        for slot in self:
            slot.self.crop(length)

    def reset(self) -> None:
        """Forget everything, the memory too."""
        for cache in (cache for slot in self for cache in slot if cache is not None):
            cache.reset()

    def __repr__(self) -> str:
        return f"KVCache: {len(self)} layers of {self[0].self!r}; {self.nbytes:,} bytes in all"
