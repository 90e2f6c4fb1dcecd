"""One call of fused attention, on the host: its tensors and numbers, and what each kernel is given of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from attnkit.kernels import plan, tiles
from attnkit.kernels.arguments import LOG2E, Hiding, Score, Sizes, Walk, view
from attnkit.masks import Sizes as MaskSizes

# Where launches are listed while `recorded` holds them back; None: they run.
_held_back: list[Launch] | None = None


class Launch(NamedTuple):
    """A kernel and what it is given. `aot.py` compiles it instead of running it."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: tuple
    options: dict[str, Any]

    def run(self) -> None:
        """Run it on the device of its tensors, or not at all when there is nothing to do."""
        if _held_back is not None:
            _held_back.append(self)
        elif all(self.grid):
            self.kernel[self.grid](*self.arguments, **self.options)


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Within it, what would be launched is put in a list instead."""
    global _held_back
    found: list[Launch] = []
    _held_back = found
    try:
        yield found
    finally:
        _held_back = None


@dataclass(frozen=True)
class Call:
    """Tensors as `attention` takes them, `bias` with four axes; see `Options` for their meaning.

    `slopes` (heads), `origin` (query 0 stands at this key) and `symmetric` are those of a linear bias. `seed` is a
    tensor on the device and None without dropout. `capability` is that of the GPU, None under the interpreter.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    scale: float
    structure: plan.Structure
    bias: Tensor | None = None
    slopes: Tensor | None = None
    origin: int = 0
    symmetric: bool = True
    softcap: float | None = None
    sink: Tensor | None = None
    dropout: float = 0.0
    seed: Tensor | None = None
    capability: tuple[int, int] | None = field(default=None)

    @cached_property
    def mask_sizes(self) -> MaskSizes:
        return MaskSizes(self.query.shape[0], self.query.shape[1], self.query.shape[2], self.key.shape[2])

    @cached_property
    def sizes(self) -> Sizes:
        _, heads, q_len, k_len = self.mask_sizes
        group = heads // max(self.key.shape[1], 1)
        return Sizes(heads, group, q_len, k_len, constant(self.query.shape[3]), constant(self.value.shape[3]))

    @cached_property
    def score(self) -> Score:
        return Score(
            scale=self.scale * LOG2E if self.softcap is None else self.scale / self.softcap,
            softcap=None if self.softcap is None else self.softcap * LOG2E,
            bias=view(self.bias),
            slopes=self.slopes,
            origin=self.origin,
            symmetric=constant(self.symmetric),
            sink=self.sink,
            seed=self.seed if self.dropout else None,
            # The random bits are compared as signed numbers; see backends/dropout.py.
            threshold=min(round(self.dropout * 2**32) - 2**31, 2**31 - 1),
        )

    @cached_property
    def hiding(self) -> Hiding:
        low, high, spans, table = (
            self.structure.low, self.structure.high, self.structure.spans, self.structure.table,
        )  # fmt: skip
        count = 0 if spans is None else spans.shape[3] // 2
        return Hiding(low, high, view(spans), constant(count), view(table))

    @property
    def grow(self) -> float:
        """What the weights that dropout keeps are multiplied by."""
        return 1 / (1 - self.dropout)

    @property
    def rich(self) -> bool:
        """Does it ask for more than a band, so that a tile needs more registers?"""
        return not (self.bias is None and self.slopes is None and self.softcap is None and not self.dropout) or (
            self.structure.spans is not None or self.structure.table is not None
        )

    def tile(self, kernel: str) -> tiles.Tile:
        """The tile of one of the kernels for these dtypes and widths on this chip."""
        return tiles.choose(
            kernel, self.capability, self.query.dtype, self.query.shape[3], self.value.shape[3], rich=self.rich
        )

    def walk(self, tile: tiles.Tile, by: Literal["rows", "cols"]) -> Walk:
        """The lists of tiles to visit, by blocks of queries ("rows") or of keys ("cols")."""
        if self.structure.spans is None and self.structure.table is None:
            return Walk(None, None, None)
        order, full, seen = plan.blocks(self.structure, self.mask_sizes, tile.q, tile.k, self.query.device, by=by)
        return Walk(view(order), view(full[..., None]), view(seen[..., None]))

    def constants(self, tile: tiles.Tile) -> dict[str, Any]:
        """What every kernel is compiled for."""
        return {
            "BLOCK_Q": tile.q,
            "BLOCK_K": tile.k,
            "BLOCK_D": padded(self.query.shape[3]),
            "BLOCK_DV": padded(self.value.shape[3]),
            "UPCAST": self.query.device.type == "cpu" and self.query.dtype == torch.bfloat16,
            "PRECISION": precision(),
        }


def constant(x: int | bool) -> Any:
    """A number that a kernel is compiled for."""
    import triton.language as tl

    return tl.constexpr(x)


def padded(width: int) -> int:
    """A head width as a kernel holds it: a power of two, and at least what a tensor core takes."""
    return max(16, 1 << (width - 1).bit_length())


def precision() -> str:
    """float32 products are exact to float32, unless torch is told that tensor cores may round their factors.

    >>> precision()
    'ieee'
    """
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"


def capability_of(device: torch.device) -> tuple[int, int] | None:
    """(9, 0) for a chip of sm_90; None on a CPU, where Triton's interpreter runs the kernels."""
    if device.type != "cuda":
        return None
    properties = torch.cuda.get_device_properties(device)  # which torch.compile knows to be constant
    return properties.major, properties.minor
