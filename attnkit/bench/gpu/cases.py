"""What is measured on a GPU: the shapes, what is asked of them, and how their work is counted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnkit.kernels.roofline import BACKWARD
from attnkit.masks import Causal, Mask, Padding, Sizes, Window

Family = Literal["dense", "window", "padding", "bias", "decode", "dispatch"]
Direction = Literal["forward", "backward", "both"]

# Floating-point operations, in those of the forward pass.
WORK = {"forward": 1.0, "backward": BACKWARD, "both": 1.0 + BACKWARD}


@dataclass(frozen=True)
class Case:
    """One shape and one question. `window` counts the keys that a query of that family sees, itself included.

    "backward" is the backward pass alone, "both" is a forward and a backward pass together.
    """

    family: Family
    direction: Direction
    batch: int
    heads: int
    kv_heads: int
    q_len: int
    k_len: int
    d: int
    causal: bool = False
    window: int = 0

    @property
    def name(self) -> str:
        extra = {
            "window": f"window {self.window}, ",
            "padding": "half padding, ",
            "bias": "learned bias, ",
            "decode": f"decode, {self.heads // self.kv_heads} heads a key head, ",
            "dispatch": "dispatch, ",
        }.get(self.family, "")
        what = "forward + backward" if self.direction == "both" else self.direction
        size = f"B{self.batch} H{self.heads} L{self.k_len} D{self.d}"
        return f"{extra}{what}, {size}{', causal' if self.causal else ''}"

    @property
    def sizes(self) -> Sizes:
        return Sizes(self.batch, self.heads, self.q_len, self.k_len)

    @property
    def lengths(self) -> list[int]:
        """Of the family "padding": how many keys of each batch element are real; half of all, evenly spread."""
        return [self.k_len * (2 * b + 1) // (2 * self.batch) for b in range(self.batch)]

    def lengths_on(self, device: torch.device) -> Int[Tensor, " batch"]:
        return torch.tensor(self.lengths, device=device)

    def mask(self, device: torch.device) -> Mask | None:
        """The mask as `attention` takes it."""
        if self.family == "window":
            return Window(self.window - 1, 0)
        if self.family == "padding":
            return Padding(self.lengths_on(device))
        return Causal() if self.causal else None

    @property
    def pairs(self) -> float:
        """Pairs of a query and a key, in all batch elements, that count as work. Of a causal table it is half."""
        if self.family == "padding":
            return float(self.q_len * sum(self.lengths))
        if self.family == "window":
            first = min(self.window, self.q_len)  # these see fewer keys than the window holds
            return self.batch * (first * (first + 1) / 2 + (self.q_len - first) * self.window)
        return self.batch * self.q_len * self.k_len / (2 if self.causal else 1)

    @property
    def flop(self) -> float:
        """Floating-point operations: 4 B H L^2 D forward, half of it when causal, 2.5 times it backward."""
        return 4.0 * self.heads * self.d * self.pairs * WORK[self.direction]

    @property
    def cache_bytes(self) -> float:
        """The keys and values, two bytes a number: what a decoding step cannot help reading."""
        return 2.0 * 2 * self.batch * self.kv_heads * self.k_len * self.d


class Inputs(NamedTuple):
    """What every contender is given: the same tensors, contiguous, in bfloat16; `d_out` is the output's gradient."""

    query: Float[Tensor, "batch heads q_len d"]
    key: Float[Tensor, "batch kv_heads k_len d"]
    value: Float[Tensor, "batch kv_heads k_len d"]
    d_out: Float[Tensor, "batch heads q_len d"]
    bias: Float[Tensor, "1 heads q_len k_len"] | None

    @property
    def leaves(self) -> list[Tensor]:
        """The tensors that want a gradient, in the order of NAMES."""
        return [x for x in (self.query, self.key, self.value, self.bias) if x is not None]


NAMES = ("query", "key", "value", "bias")


def inputs(case: Case, device: torch.device, seed: int = 0) -> Inputs:
    """Random numbers for a case, as zeros would let a GPU run faster than it does on data."""
    rng = torch.Generator(device).manual_seed(seed)
    many, few = (case.batch, case.heads, case.q_len, case.d), (case.batch, case.kv_heads, case.k_len, case.d)
    shapes = [many, few, few, many] + ([(1, case.heads, case.q_len, case.k_len)] if case.family == "bias" else [])
    made = [torch.randn(shape, generator=rng, device=device, dtype=torch.bfloat16) for shape in shapes]
    if case.direction != "forward":
        made = [x if i == 3 else x.requires_grad_() for i, x in enumerate(made)]
    query, key, value, d_out, *bias = made
    return Inputs(query, key, value, d_out, bias[0] if bias else None)


@dataclass(frozen=True)
class Extent:
    """How large the cases are. `first` are the lengths of a first look, and are measured first in a whole run too."""

    tokens: int = 16_384
    width: int = 2048
    head_widths: tuple[int, ...] = (128, 64)
    first: tuple[int, ...] = (2048, 16_384)
    others: tuple[int, ...] = (8192, 4096, 1024)
    window: int = 1024
    biased: tuple[int, ...] = (2048, 4096)
    cache: int = 32_768
    dispatched: int = 128


def suite(quick: bool = False, extent: Extent | None = None) -> list[Case]:
    """All cases, the most telling first, so that a run cut short has them."""
    extent = extent or Extent()
    rest = [] if quick else dense(extent, extent.others)
    return [*dense(extent, extent.first), *special(extent), *rest]


def dense(extent: Extent, lengths: tuple[int, ...]) -> list[Case]:
    """Every head width, causal and not, forward and backward, for each length."""
    return [
        square(extent, "dense", direction, length, d, causal=causal)
        for length in lengths
        for d in extent.head_widths
        for causal in (False, True)
        for direction in ("forward", "backward")
    ]


def special(extent: Extent) -> list[Case]:
    """Window, padding, learned bias, decoding, dispatch."""
    wide, narrow, longest = max(extent.head_widths), min(extent.head_widths), max(extent.first)
    window = square(extent, "window", "forward", longest, wide, window=extent.window)
    padding = square(extent, "padding", "forward", min(extent.first), wide)
    heads = extent.width // wide
    return [
        *(replace(case, direction=way) for case in (window, padding) for way in ("forward", "backward")),
        *(square(extent, "bias", "both", length, narrow) for length in extent.biased),
        # 16 sequences: enough bytes that reading them, and not starting the kernel, takes the time
        Case("decode", "forward", 16, heads, max(heads // 8, 1), 1, extent.cache, wide),
        Case("dispatch", "forward", 1, 8, 8, extent.dispatched, extent.dispatched, narrow),
    ]


def square(
    extent: Extent, family: Family, direction: Direction, length: int, d: int, causal: bool = False, window: int = 0
) -> Case:
    """As many queries as keys; the batch grows as the length shrinks, the heads as their width does."""
    heads = extent.width // d
    return Case(family, direction, extent.tokens // length, heads, heads, length, length, d, causal, window)
