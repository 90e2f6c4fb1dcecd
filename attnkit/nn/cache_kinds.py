"""What one layer remembers of the tokens before: keys and values, with grouped heads kept once, not repeated.

A layer appends the keys and values of its new tokens and attends to all that comes back. `DynamicCache` grows,
`StaticCache` has a fixed size, `attnkit.nn.sliding.SlidingCache` forgets; `CrossCache` holds those of an encoder's
memory, which do not change. `attnkit.nn.cache.KVCache` holds one of these for each layer of a model.
"""

from __future__ import annotations

from typing import no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnkit.masks import Mask
from attnkit.positions.base import check_count

Held = tuple[
    Float[Tensor, "batch kv_heads held d"], Float[Tensor, "batch kv_heads held d_v"], Int[Tensor, "#batch held"]
]


class LayerCache:
    """What every kind can be asked. Tokens are counted, never their heads: `length` is how many were seen.

    The dtype, the device and the batch size are those of the first keys. `rotated` tells the layer whether its keys
    are to be cached after their rotation (a rotary encoding's) or before it; then they are rotated when they are read,
    by the positions that `append` returns.
    """

    rotated: bool = True

    def __init__(self) -> None:
        self.length = 0
        self._held: list[Tensor] = []  # keys, values, positions, each (rows, heads, tokens, width)

    @property
    def held(self) -> int:
        """How many tokens' keys and values are here: all that were seen, unless the kind forgets some."""
        return self.length

    @property
    def nbytes(self) -> int:
        """Bytes of the keys and values held: batch * kv_heads * held * (d_head + d_value) * itemsize.

        Each token's position, one integer, and room for tokens to come are not counted; `allocated` counts them.
        """
        return sum(x[:, :, : self.held].nbytes for x in self._held[:2])

    @property
    def allocated(self) -> int:
        """Bytes of everything that is kept: positions and unused room too."""
        return sum(x.nbytes for x in self._held)

    def append(
        self,
        key: Float[Tensor, "batch kv_heads new d"],
        value: Float[Tensor, "batch kv_heads new d_v"],
        positions: Int[Tensor, "#batch new"],
    ) -> Held:
        """Add the newest tokens, and get all that they may attend to: keys, values, and the keys' positions."""
        raise NotImplementedError

    def restrict(self, mask: Mask | Tensor | None, q_len: int) -> Mask | Tensor | None:
        """A mask over all tokens seen, as one over the keys that `append` will return for the next `q_len` tokens.

        Ask before appending. A kind that forgets leaves out the columns of what is gone, and hides what it would
        have forgotten had the tokens come one by one.
        """
        return mask

    def visible(self, q_len: int) -> Mask | None:
        """What the kind itself hides of the next `q_len` queries' keys; None when nothing. Ask before appending."""
        mask = self.restrict(None, q_len)
        assert not isinstance(mask, Tensor)
        return mask

    @no_type_check
    def reorder(self, index: Int[Tensor, " rows"]) -> None:
        """Batch row i becomes what row index[i] was. Rows may repeat or be missing: beams split, sentences end."""
        index = checked(index)
        self._held = [x if i == 2 and len(x) == 1 else rows(x, index) for i, x in enumerate(self._held)]

    def crop(self, length: int) -> None:
        """Forget every token after the first `length`."""
        if not 0 <= length <= self.length:
            raise ValueError(f"length is {length}; a cache of {self.length} tokens crops to 0 ... {self.length}")
        self.length = length

    def reset(self) -> None:
        """Forget everything, the dtype, device and batch size too."""
        self.length, self._held = 0, []

    def _admit(self, key: Tensor, value: Tensor, positions: Tensor) -> list[Tensor]:
        """The new tokens in the layout of `_held`, when they fit to what is there."""
        new = [key, value, positions[:, None, :, None]]
        for name, old, x in zip(("key", "value"), self._held, new, strict=False):
            have, came = ((y.shape[0], y.shape[1], y.shape[3], y.dtype, y.device) for y in (old, x))
            if have != came:
                raise ValueError(
                    f"{name} is (batch, kv_heads, width) = {came[:3]}, {came[3]}, on {came[4]}; the cache holds "
                    f"{have[:3]}, {have[3]}, on {have[4]}: reorder() changes the batch, reset() begins anew"
                )
        if self._held and self._held[2].shape[0] < positions.shape[0]:  # so far the same in all rows
            self._held[2] = self._held[2].repeat(positions.shape[0], 1, 1, 1)
        if self._held:
            new[2] = new[2].expand(self._held[2].shape[0], -1, -1, -1)
        return new

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {self.held} tokens, {self.nbytes:,} bytes"


@no_type_check
def checked(index: Int[Tensor, " rows"]) -> Int[Tensor, " rows"]:
    """The index, when it is one integer for each new row of the batch."""
    if not isinstance(index, Tensor) or index.ndim != 1 or index.dtype not in (torch.int64, torch.int32):
        got = f"a tensor of shape {tuple(index.shape)}, {index.dtype}" if isinstance(index, Tensor) else repr(index)
        raise ValueError(f"index is {got}; it must be a tensor of integers, one for each new row of the batch")
    return index


def rows(x: Tensor, index: Int[Tensor, " rows"]) -> Tensor:
    """Rows of the batch, picked or repeated."""
    return x.index_select(0, index.to(x.device))


class _Growing(LayerCache):
    """Keeps all tokens, in buffers with room for more.

    Under `torch.no_grad()` new tokens are written into that room. Where autograd is on, it may have kept the tensors
    for the backward pass, so nothing is ever written in place: then the tokens are concatenated anew.
    """

    def __init__(self) -> None:
        super().__init__()
        self._room = 0  # how many tokens the buffers take, those that are there included

    def capacity(self, wanted: int) -> int:
        """For how many tokens to make room when `wanted` do not fit."""
        raise NotImplementedError

    def append(
        self,
        key: Float[Tensor, "batch kv_heads new d"],
        value: Float[Tensor, "batch kv_heads new d_v"],
        positions: Int[Tensor, "#batch new"],
    ) -> Held:
        new, wanted = self._admit(key, value, positions), self.length + key.shape[2]
        if torch.is_grad_enabled():
            old = [x[:, :, : self.length] for x in self._held]
            self._held = [torch.cat(pair, dim=2) for pair in zip(old, new, strict=True)] if self.length else new
            self._room = 0
        else:
            self._make_room(new, wanted)
            for buffer, x in zip(self._held, new, strict=True):
                buffer[:, :, self.length : wanted] = x
        self.length = wanted
        keys, values, where = (x[:, :, :wanted] for x in self._held)
        return keys, values, where[:, 0, :, 0]

    def _make_room(self, like: list[Tensor], wanted: int) -> None:
        """Move to larger buffers, if these cannot be written to."""
        frozen = any(x.is_inference() for x in self._held) and not torch.is_inference_mode_enabled()
        if self._held and wanted <= self._room and not frozen:
            return
        self._room = self.capacity(wanted)
        buffers = [x.new_empty(*x.shape[:2], self._room, x.shape[3]) for x in like]
        for buffer, x in zip(buffers, self._held, strict=False):
            buffer[:, :, : self.length] = x[:, :, : self.length]
        self._held = buffers

    def reset(self) -> None:
        super().reset()
        self._room = 0


class DynamicCache(_Growing):
    """Grows as tokens come. Its room doubles, so that a token is moved about once, however many follow.

    >>> cache, token = DynamicCache(), torch.ones(1, 2, 1, 8)  # 2 key heads of 8 numbers
    >>> keys, values, positions = cache.append(token, token, torch.tensor([[0]]))
    >>> keys, values, positions = cache.append(token, token, torch.tensor([[1]]))
    >>> keys.shape, positions
    (torch.Size([1, 2, 2, 8]), tensor([[0, 1]]))
    >>> cache
    DynamicCache: 2 tokens, 256 bytes
    """

    def capacity(self, wanted: int) -> int:
        return max(wanted, 2 * self._room)


class StaticCache(_Growing):
    """Room for `length` tokens, made when the first come, and not for one more.

    >>> cache, tokens = StaticCache(2), torch.ones(1, 2, 3, 8)
    >>> cache.append(tokens, tokens, torch.arange(3)[None])
    Traceback (most recent call last):
    ValueError: overflow: a StaticCache(2) holds 0 tokens, has room for 2, and 3 came: make it with a greater length
    """

    limit: int

    @no_type_check
    def __init__(self, length: int) -> None:
        super().__init__()
        self.limit = check_count("length", length)

    def capacity(self, wanted: int) -> int:
        return self.limit

    def append(
        self,
        key: Float[Tensor, "batch kv_heads new d"],
        value: Float[Tensor, "batch kv_heads new d_v"],
        positions: Int[Tensor, "#batch new"],
    ) -> Held:
        if self.length + key.shape[2] > self.limit:
            raise ValueError(
                f"overflow: a StaticCache({self.limit}) holds {self.length} tokens, has room for "
                f"{self.limit - self.length}, and {key.shape[2]} came: make it with a greater length"
            )
        return super().append(key, value, positions)


class CrossCache:
    """Keys and values of a memory, projected once: every step of a decoder attends to the same.

    >>> cache = CrossCache()
    >>> cache.store(torch.ones(1, 2, 5, 8), torch.ones(1, 2, 5, 8))
    >>> cache.filled, cache.nbytes
    (True, 640)
    """

    def __init__(self) -> None:
        self._held: list[Tensor] = []

    @property
    def filled(self) -> bool:
        """Is there anything to read?"""
        return bool(self._held)

    @property
    def nbytes(self) -> int:
        """Bytes of the keys and values held."""
        return sum(x.nbytes for x in self._held)

    def store(
        self, key: Float[Tensor, "batch kv_heads k_len d"], value: Float[Tensor, "batch kv_heads k_len d_v"]
    ) -> None:
        """Keep these, in the place of what was kept."""
        self._held = [key, value]

    def read(self) -> tuple[Float[Tensor, "batch kv_heads k_len d"], Float[Tensor, "batch kv_heads k_len d_v"]]:
        """The keys and values. Raises ValueError when nothing was stored."""
        if not self._held:
            raise ValueError("nothing is stored in this CrossCache: store(key, value) first")
        return self._held[0], self._held[1]

    @no_type_check
    def reorder(self, index: Int[Tensor, " rows"]) -> None:
        """Batch row i becomes what row index[i] was. Rows may repeat or be missing."""
        index = checked(index)
        self._held = [rows(x, index) for x in self._held]

    def reset(self) -> None:
        """Forget the memory."""
        self._held = []

    def __repr__(self) -> str:
        return f"CrossCache: {self._held[0].shape[2] if self._held else 0} keys, {self.nbytes:,} bytes"
