"""Sines and cosines of positions: what the sinusoidal, the rotary and the Transformer-XL encoding are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Layout = Literal["interleaved", "half"]
LAYOUTS = ("interleaved", "half")


def inverse_frequencies(width: int, base: int | float) -> Float[Tensor, " pairs"]:
    """base^(-2i / width) for each pair i, in float64: the angle by which pair i turns from a position to the next.

    >>> inverse_frequencies(4, 10_000.0).tolist()
    [1.0, 0.01]
    """
    return base ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)


def angles(
    positions: Int[Tensor, "*len"], inv_freq: Float[Tensor, " pairs"], dtype: torch.dtype
) -> Float[Tensor, "*len pairs"]:
    """position * inverse frequency, computed in `dtype`."""
    return positions[..., None].to(dtype) * inv_freq.to(dtype)


def arrange(
    first: Float[Tensor, "*shape pairs"], second: Float[Tensor, "*shape pairs"], layout: Layout
) -> Float[Tensor, "*shape width"]:
    """Lay two members of each pair side by side ("interleaved": f0 s0 f1 s1) or in two halves ("half": f0 f1 s0 s1)."""
    if layout == "half":
        return torch.cat([first, second], dim=-1)
    return torch.stack([first, second], dim=-1).flatten(-2)


def check_layout(layout: object) -> None:
    """ValueError for a layout that does not exist."""
    if layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}; it must be one of {LAYOUTS}")


class Recall:
    """Remembers the tables made for the last positions: queries, keys and every layer that follows ask for the same.

    So a decode step computes its sines once, however many layers there are, and no table grows with the length.
    """

    def __init__(self) -> None:
        self.last: tuple | None = None

    def __call__(
        self,
        positions: Int[Tensor, "#batch len"],
        dtype: torch.dtype,
        make: Callable[[Tensor, torch.dtype], tuple[Tensor, ...]],
    ) -> tuple[Tensor, ...]:
        """`make(positions, dtype)`, or what it gave the last time if the positions are the same."""
        if torch.compiler.is_compiling() or (positions.is_cuda and torch.cuda.is_current_stream_capturing()):
            return make(positions, dtype)  # neither a traced nor a captured step may depend on an earlier one
        last = self.last
        if last is not None and last[0] == dtype and self._same(positions, *last[1:3]):
            return last[3]
        with torch.inference_mode(False):  # a table made while evaluating must serve in training as well
            tables = make(positions, dtype)
            version = None if positions.is_inference() else positions._version
            self.last = dtype, positions.clone() if positions.is_cpu else positions, version, tables
        return tables

    @staticmethod
    def _same(positions: Tensor, seen: Tensor, version: int | None) -> bool:
        """On the CPU the positions are compared; elsewhere that would wait for the device, and only the same tensor,
        unchanged since, counts as the same."""
        if positions.is_cpu:
            return seen.is_cpu and torch.equal(positions, seen)
        return positions is seen and version is not None and positions._version == version
