"""Which tile each kernel uses: how many queries and keys it holds, how many warps work on it, how far it loads ahead.

A larger tile reads keys and values less often, until its accumulators no longer fit the registers of its warps: then
they spill into memory, and more is lost than was won. So the tables stay where `attnkit kernels --resources`, which
compiles every entry for its chip, finds no spill. They are tables and not a search at run time, because a search costs
every user the first half minute and finds other tiles, hence other roundings, on another day.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

KERNELS = ("forward", "keys", "queries", "bias", "decode", "reading")  # "keys": dK and dV, "queries": dQ
WIDTHS = (16, 32, 64, 128, 256)  # of a head, padded to a power of two


@dataclass(frozen=True)
class Tile:
    """`q` queries by `k` keys, shared by `warps` warps of 32 threads, with `stages` tiles on their way from memory."""

    q: int
    k: int
    warps: int
    stages: int

    @property
    def options(self) -> dict[str, int]:
        """What Triton is told of it, besides the constants BLOCK_Q and BLOCK_K."""
        return {"num_warps": self.warps, "num_stages": self.stages}


# Triton's interpreter takes as long for a small tile as for a large one. With small ones, short tests visit many.
INTERPRETED = Tile(16, 16, 1, 1)

# Kernel: (queries, keys, warps, stages) for each of WIDTHS, by the instruction that multiplies matrices. wgmma wants 64
# rows for each four warps; fma is ordinary arithmetic: of float32 on every chip, and of all dtypes on sm_75.
# fmt: off
WGMMA = {
    "forward": [(128, 64, 4, 3), (128, 64, 4, 3), (128, 64, 4, 3), (128, 128, 8, 2), (128, 64, 8, 2)],
    "keys":    [(128, 64, 8, 2), (128, 64, 8, 2), (128, 64, 8, 2), (64, 64, 8, 2), (32, 32, 8, 1)],
    "queries": [(128, 64, 8, 2), (128, 64, 8, 2), (128, 64, 8, 2), (128, 64, 8, 2), (32, 32, 8, 1)],
    "bias":    [(64, 64, 8, 1), (64, 64, 8, 1), (64, 64, 8, 1), (64, 64, 8, 1), (16, 32, 8, 1)],
    "decode":  [(64, 128, 4, 3), (64, 128, 4, 3), (64, 128, 4, 3), (64, 128, 4, 3), (64, 32, 8, 2)],
    "reading": [(128, 64, 8, 2), (128, 64, 8, 2), (128, 64, 8, 2), (128, 64, 8, 2), (128, 64, 8, 2)],
}
WGMMA_RICH = {
    "forward": [(128, 64, 8, 3), (128, 64, 8, 3), (128, 64, 8, 3), (128, 64, 8, 3), (64, 32, 8, 1)],
    "keys":    [(64, 32, 8, 1), (64, 32, 8, 1), (64, 32, 8, 1), (32, 32, 8, 1), (16, 32, 8, 1)],
    "queries": [(128, 64, 8, 1), (128, 64, 8, 1), (128, 64, 8, 1), (128, 32, 8, 2), (16, 16, 8, 1)],
    "decode":  [(64, 64, 4, 3), (64, 64, 4, 3), (64, 64, 4, 3), (64, 64, 8, 2), (64, 32, 8, 2)],
}
MMA = {
    "forward": [(128, 64, 4, 3), (128, 64, 4, 3), (128, 64, 4, 3), (128, 32, 8, 3), (64, 32, 8, 2)],
    "keys":    [(64, 64, 8, 2), (64, 64, 8, 2), (64, 64, 8, 2), (64, 64, 8, 1), (32, 32, 8, 1)],
    "queries": [(64, 64, 8, 2), (64, 64, 8, 2), (64, 64, 8, 2), (64, 64, 8, 2), (32, 32, 8, 1)],
    "bias":    [(64, 32, 8, 1), (64, 32, 8, 1), (64, 32, 8, 1), (16, 32, 8, 1), (16, 32, 8, 1)],
    "decode":  [(64, 32, 4, 3), (64, 32, 4, 3), (64, 32, 4, 3), (64, 64, 4, 2), (64, 32, 8, 2)],
    "reading": [(128, 64, 8, 2), (128, 64, 8, 2), (128, 64, 8, 2), (128, 64, 8, 2), (128, 64, 8, 2)],
}
MMA_RICH = {
    "forward": [(128, 64, 8, 2), (128, 64, 8, 2), (128, 64, 8, 2), (128, 32, 8, 2), (64, 32, 8, 1)],
    "keys":    [(64, 32, 8, 1), (64, 32, 8, 1), (64, 32, 8, 1), (32, 32, 8, 1), (16, 32, 8, 1)],
    "queries": [(64, 32, 8, 1), (64, 32, 8, 1), (64, 32, 8, 1), (64, 32, 8, 2), (16, 32, 8, 1)],
    "decode":  [(64, 64, 8, 2), (64, 64, 8, 2), (64, 64, 8, 2), (64, 32, 8, 2), (64, 32, 8, 1)],
    "reading": [(64, 64, 8, 1), (64, 64, 8, 1), (64, 64, 8, 1), (64, 32, 8, 1), (64, 64, 8, 1)],
}
FMA = {
    "forward": [(64, 32, 8, 1), (64, 32, 8, 1), (64, 32, 8, 1), (32, 32, 8, 1), (32, 16, 8, 1)],
    "keys":    [(16, 16, 8, 1), (16, 16, 8, 1), (16, 16, 8, 1), (16, 16, 4, 1), (16, 16, 4, 1)],
    "queries": [(32, 32, 8, 1), (32, 32, 8, 1), (32, 32, 8, 1), (32, 16, 8, 1), (16, 16, 8, 1)],
    "bias":    [(32, 32, 8, 1), (32, 32, 8, 1), (32, 32, 8, 1), (32, 32, 8, 1), (16, 16, 8, 1)],
    "decode":  [(16, 32, 8, 1), (16, 32, 8, 1), (16, 32, 8, 1), (16, 32, 8, 1), (16, 16, 8, 1)],
    "reading": [(32, 32, 8, 1), (32, 32, 8, 1), (32, 32, 8, 1), (32, 32, 8, 1), (32, 32, 8, 1)],
}
FMA_SM75 = {
    "forward": [(32, 32, 4, 1), (32, 32, 4, 1), (32, 32, 4, 1), (32, 32, 8, 1)],
    "keys":    [(32, 32, 8, 1), (32, 32, 8, 1), (32, 32, 8, 1), (16, 16, 8, 1)],
    "queries": [(32, 32, 8, 1), (32, 32, 8, 1), (32, 32, 8, 1), (32, 32, 8, 1)],
    "bias":    [(32, 32, 8, 1), (32, 32, 8, 1), (32, 32, 8, 1), (32, 32, 8, 1)],
    "decode":  [(16, 32, 8, 1), (16, 32, 8, 1), (16, 32, 8, 1), (16, 32, 8, 1)],
    "reading": [(32, 32, 8, 1), (32, 32, 8, 1), (32, 32, 8, 1), (32, 32, 8, 1)],
}
# fmt: on

# (chip, bytes of a number): the tiles for calls with no more than a band; and, where a bias, softcap, dropout or lists
# of tiles leave too few registers for those, the tiles for such calls.
TABLES = {
    ("sm90", 2): WGMMA,
    ("sm90", 4): FMA,
    ("sm86", 2): MMA,
    ("sm86", 4): FMA,
    ("sm80", 2): MMA,
    ("sm80", 4): FMA,
    ("sm75", 2): FMA_SM75,
    ("sm75", 4): FMA_SM75,
}
RICH = {("sm90", 2): WGMMA_RICH, ("sm86", 2): MMA_RICH, ("sm80", 2): MMA_RICH}


def chip_of(capability: tuple[int, int]) -> str:
    """The column of chips that share tiles. Raises ValueError below 7.5."""
    if capability < (7, 5):
        raise ValueError(f"capability: {capability} is too old for Triton; it should be at least (7, 5)")
    if capability < (8, 0):
        return "sm75"
    if capability in ((8, 0), (8, 7)):
        return "sm80"  # 163 KB of shared memory
    if capability[0] in (9, 10):
        return "sm90"  # 227 KB
    return "sm86"  # 8.6 and 8.9, 12.x, and what is not known yet: 99 KB is the least that any chip since 8.0 has


def widest(capability: tuple[int, int] | None) -> int:
    """The widest head that the kernels hold: on sm_75 the backward pass of a wider one has too little shared memory."""
    return 128 if capability is not None and capability < (8, 0) else WIDTHS[-1]


def choose(
    kernel: str, capability: tuple[int, int] | None, dtype: torch.dtype, d: int, d_v: int, rich: bool = False
) -> Tile:
    """The tile for a kernel of KERNELS, a capability such as (9, 0) or None for the interpreter, and head widths.

    `rich`: the call asks for more than a band. Raises ValueError for a chip or a width that no kernel can serve.
    """
    if capability is None:
        return INTERPRETED
    width = max(16, 1 << (max(d, d_v) - 1).bit_length())
    place = chip_of(capability), dtype.itemsize
    rows = (RICH.get(place, {}).get(kernel) if rich else None) or TABLES[place][kernel]
    if width > widest(capability):
        raise ValueError(f"head width: {max(d, d_v)} is too wide; it should be at most {widest(capability)}")
    return Tile(*rows[WIDTHS.index(width)])
