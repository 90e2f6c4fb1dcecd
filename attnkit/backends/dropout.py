"""Which attention weights dropout keeps, as a function of (seed, batch, head, query, key) and of nothing else.

A random number generator hands out numbers in the order in which they are asked for, so a backend that visits the
scores in tiles would drop other weights than one that holds the whole table, and the backward pass others than the
forward pass. A hash has no order: every backend, whatever its tiles, keeps the same weights for the same seed.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from attnkit.masks import Sizes


def _signed(bits: int) -> int:
    """A 32-bit number as the signed integer with the same bits."""
    return bits - (1 << 32) if bits >= 1 << 31 else bits


def mix_(x: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Hash 32-bit integers in place (the `lowbias32` finaliser of Chris Wellons' hash-prospector)."""
    x ^= (x >> 16) & 0xFFFF  # the mask makes the shift of a signed integer logical
    x *= _signed(0x7FEB352D)
    x ^= (x >> 15) & 0x1FFFF
    x *= _signed(0x846CA68B)
    x ^= (x >> 16) & 0xFFFF
    return x


def draw_seed(device: torch.device | str = "cpu") -> Int[Tensor, ""]:
    """A seed from the device's global generator, so `torch.manual_seed` makes dropout repeatable.

    It is a tensor and stays on the device: reading it would make the host wait for all work queued there.
    """
    return torch.randint(-(2**31), 2**31, (), device=device).to(torch.int32)


def keep_tile(
    seed: int | Int[Tensor, ""],
    probability: float,
    rows: range,
    cols: range,
    sizes: Sizes,
    device: torch.device | str = "cpu",
) -> Bool[Tensor, "{sizes.batch} {sizes.heads} {len(rows)} {len(cols)}"]:
    """True where dropout with this drop `probability` keeps the weight of query `rows` for key `cols`."""
    row_hash = torch.as_tensor(seed, dtype=torch.int32, device=device)
    for axis, index in enumerate((range(sizes.batch), range(sizes.heads), rows)):
        position = _count(index, device).view(-1, *[1] * (3 - axis))
        row_hash = mix_(row_hash ^ mix_(position + (1 + axis * 0x10000001)))
    col_hash = mix_(_count(cols, device) ^ _signed(0x9E3779B9))
    # Rows and columns are hashed well; what every score pays is one product and one sum. An odd factor permutes the
    # 32-bit numbers, so each row is a permutation of the columns' hashes of its own (Dietzfelbinger et al. 1997's
    # multiply-shift family, doi:10.1006/jagm.1997.0873), whose top bits are compared with the probability.
    bits = (row_hash | 1) * col_hash
    bits += mix_(row_hash ^ _signed(0x85EBCA6B))
    threshold = round(probability * 2**32) - 2**31
    return bits >= min(threshold, 2**31 - 1)


def _count(index: range, device: torch.device | str) -> Int[Tensor, " n"]:
    return torch.arange(index.start, index.stop, dtype=torch.int32, device=device)
