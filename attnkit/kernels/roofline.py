"""How long attention must take at least: what it computes and moves, divided by what the chip can do at its best.

No kernel reaches a roofline; how far it stays below tells whether it is worth improving (Williams, Waterman and
Patterson 2009, doi:10.1145/1498765.1498785). Attention has three limits. The tensor cores bound the products, the
memory bounds the bytes, and the unit for exponentials, which makes 16 a clock on each multiprocessor of every chip
listed here, bounds the softmax: with narrow heads it takes as long as the products.

Counted, for each visible score and no other:
    forward   2 d (query . key) + 2 d_v (weight * value) operations and 1 exponential
    backward  2.5 times the operations, by convention: five products where the forward pass has two; 1 exponential again
The tanh of a softcap is not counted. Each tensor is moved once, as if the cache held the rest: query, key, value,
output and two float32 a row, bias and mask.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from attnkit.kernels.plan import Structure
from attnkit.masks import Sizes

EXPS_A_CLOCK = 16  # on each multiprocessor
BACKWARD = 2.5  # operations of the backward pass for one of the forward pass


class Chip(NamedTuple):
    """What a chip can do at most: 10^12 dense operations a second for each dtype, and 10^9 bytes a second.

    `clock`, in GHz, is the one at which those operations are reached. A dtype that is absent has no such unit.
    """

    capability: tuple[int, int]
    multiprocessors: int
    clock: float
    tera: dict[str, float]
    giga_bytes: float


def _chip(
    capability: tuple[int, int], sms: int, clock: float, half: float, tf32: float, fp32: float, mem: float
) -> Chip:
    """A chip with tensor cores for all dtypes. `float32` is without them, and `tf32` with."""
    return Chip(capability, sms, clock, {"float16": half, "bfloat16": half, "tf32": tf32, "float32": fp32}, mem)


# NVIDIA's own numbers, dense (data sheets also print twice as much, "with sparsity") and summed in float32, which
# GeForce does at half the rate. By the names that torch.cuda.get_device_name gives: a relative such as A10G, L40 or a
# slice of a chip (MIG) has another peak.
CHIPS = {
    # T4 product brief PB-09256-001 and Turing whitepaper WP-09183-001. No tensor cores for bfloat16 and tf32.
    "Tesla T4": Chip((7, 5), 40, 1.59, {"float16": 65.0, "float32": 8.1}, 320.0),
    # A100 data sheet (SXM4 and PCIe, 40 GB and 80 GB)
    "NVIDIA A100-SXM4-40GB": _chip((8, 0), 108, 1.41, 312.0, 156.0, 19.5, 1555.0),
    "NVIDIA A100-PCIE-40GB": _chip((8, 0), 108, 1.41, 312.0, 156.0, 19.5, 1555.0),
    "NVIDIA A100-SXM4-80GB": _chip((8, 0), 108, 1.41, 312.0, 156.0, 19.5, 2039.0),
    "NVIDIA A100 80GB PCIe": _chip((8, 0), 108, 1.41, 312.0, 156.0, 19.5, 1935.0),
    # A10 data sheet
    "NVIDIA A10": _chip((8, 6), 72, 1.695, 125.0, 62.5, 31.2, 600.0),
    # Ampere GA102 whitepaper
    "NVIDIA GeForce RTX 3090": _chip((8, 6), 82, 1.695, 71.0, 35.6, 35.6, 936.0),
    # L4 data sheet
    "NVIDIA L4": _chip((8, 9), 58, 2.04, 121.0, 60.0, 30.3, 300.0),
    # Ada GPU architecture whitepaper
    "NVIDIA GeForce RTX 4090": _chip((8, 9), 128, 2.52, 165.2, 82.6, 82.6, 1008.0),
    # H100 and H200 data sheets; the clock is that of 4096 operations a clock on each multiprocessor
    "NVIDIA H100 PCIe": _chip((9, 0), 114, 1.62, 756.0, 378.0, 51.0, 2000.0),
    "NVIDIA H100 80GB HBM3": _chip((9, 0), 132, 1.83, 989.4, 494.7, 66.9, 3350.0),
    "NVIDIA H200": _chip((9, 0), 132, 1.83, 989.4, 494.7, 66.9, 4800.0),
}


class Visible(NamedTuple):
    """How many scores of the whole call are visible, or at most are when it is not exact."""

    scores: int
    exact: bool


class Problem(NamedTuple):
    """One call of attention, without its tensors. `mask_bytes` are those of the mask's spans and table."""

    sizes: Sizes
    kv_heads: int
    d: int
    d_v: int
    dtype: torch.dtype
    visible: Visible
    bias_bytes: int = 0
    mask_bytes: int = 0


class Work(NamedTuple):
    """What there is to do: operations, exponentials and bytes."""

    operations: float
    exponentials: float
    bytes: float


class Times(NamedTuple):
    """Seconds that each limit allows at the least. If all overlap perfectly, the longest is the time."""

    products: float
    exponentials: float
    memory: float

    @property
    def roofline(self) -> float:
        return max(self)


def visible_in_band(low: int, high: int, q_len: int, k_len: int) -> int:
    """How many pairs of query and key have low <= k - q <= high: exact, whatever the lengths.

    >>> visible_in_band(-(1 << 30), 0, 4, 4)
    10
    """
    if low > high:
        return 0
    return _below(high, q_len, k_len) - _below(low - 1, q_len, k_len)


def _below(most: int, q_len: int, k_len: int) -> int:
    """How many pairs have k - q <= most: query q sees clamp(q + most + 1, 0, k_len) keys, summed over q."""

    def ramp(n: int) -> int:
        return n * (n + 1) // 2 if n > 0 else 0

    return (ramp(most + q_len) - ramp(most)) - (ramp(most + q_len - k_len) - ramp(most - k_len))


def visible(structure: Structure, sizes: Sizes) -> Visible:
    """How many scores the mask leaves. Spans and tables on a GPU are not read, since that would make the host wait."""
    everywhere = sizes.batch * sizes.heads
    parts = [x for x in (structure.spans, structure.table) if x is not None]
    if not all(x.device.type == "cpu" for x in parts):
        return Visible(everywhere * visible_in_band(structure.low, structure.high, *sizes[2:]), False)
    if not parts:
        return Visible(everywhere * visible_in_band(structure.low, structure.high, *sizes[2:]), True)
    rows = _in_spans(structure, sizes) if structure.table is None else structure.visible(sizes, "cpu").sum(-1)
    return Visible(int(rows.expand(*sizes[:3]).sum()), True)


def _in_spans(structure: Structure, sizes: Sizes) -> Int[Tensor, "#batch #heads q_len"]:
    """How many keys each row sees in its spans, which do not overlap, and in the band as well."""
    assert structure.spans is not None
    q = torch.arange(sizes.q_len)[:, None]
    starts, stops = structure.spans[..., 0::2].long(), structure.spans[..., 1::2].long()
    starts, stops = torch.maximum(starts, q + structure.low), torch.minimum(stops, q + structure.high + 1)
    return (stops - starts).clamp(min=0).sum(-1)


def problem(query: Tensor, key: Tensor, value: Tensor, structure: Structure, bias: Tensor | None = None) -> Problem:
    """The numbers of one call. Nothing is read from the device."""
    sizes = Sizes(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
    mask_bytes = sum(_distinct_bytes(x) for x in (structure.spans, structure.table) if x is not None)
    bias_bytes = 0 if bias is None else _distinct_bytes(bias)
    widths, seen = (query.shape[3], value.shape[3]), visible(structure, sizes)
    return Problem(sizes, key.shape[1], *widths, query.dtype, seen, bias_bytes, mask_bytes)


def _distinct_bytes(x: Tensor) -> int:
    """Bytes in memory, each counted once: an expanded axis has none of its own."""
    numbers = 1
    for length, stride in zip(x.shape, x.stride(), strict=True):
        numbers *= length if stride or not length else 1
    return numbers * x.element_size()


def forward(p: Problem) -> Work:
    """Query, key, value and what else goes in; output, row maximum and row sum."""
    operations = p.visible.scores * 2.0 * (p.d + p.d_v)
    return Work(operations, float(p.visible.scores), float(_tensors(p) + _rows(p) + p.bias_bytes + p.mask_bytes))


def backward(p: Problem) -> Work:
    """All of that again and the gradient of the output go in; the gradients of query, key, value and bias come out."""
    there = forward(p)
    d_out = p.sizes.batch * p.sizes.heads * p.sizes.q_len * p.d_v * p.dtype.itemsize
    back = _tensors(p) - d_out  # of the output there is a gradient already
    return Work(BACKWARD * there.operations, there.exponentials, there.bytes + d_out + back + p.bias_bytes)


def _tensors(p: Problem) -> int:
    """Bytes of query, key, value and output."""
    batch, heads, q_len, k_len = p.sizes
    return batch * (heads * q_len + p.kv_heads * k_len) * (p.d + p.d_v) * p.dtype.itemsize


def _rows(p: Problem) -> int:
    """Bytes of the two float32 numbers that each row keeps."""
    return p.sizes.batch * p.sizes.heads * p.sizes.q_len * 2 * 4


def times(work: Work, chip: Chip, dtype: torch.dtype, tf32: bool = False) -> Times | None:
    """The least time for this work, or None when the chip has no unit for the dtype, whose peak is then not known."""
    name = "tf32" if tf32 and dtype == torch.float32 else str(dtype).removeprefix("torch.")
    if name not in chip.tera:
        return None
    exps = EXPS_A_CLOCK * chip.multiprocessors * chip.clock * 1e9
    return Times(
        work.operations / (chip.tera[name] * 1e12), work.exponentials / exps, work.bytes / (chip.giga_bytes * 1e9)
    )


def describe(p: Problem, chip_name: str | None = None, tf32: bool = False) -> list[str]:
    """What explain() prints: a line each for the forward and the backward pass.

    >>> sizes = Sizes(1, 16, 16384, 16384)
    >>> p = Problem(sizes, 16, 128, 128, torch.bfloat16, Visible(16 * 16384**2, exact=True))
    >>> print(*describe(p, "NVIDIA H200"), sep="\\n")
    forward: 2.2 TFLOP, 4.3e+09 exponentials, 271 MB; at least 2.22 ms (products 2.22, exponentials 1.11, memory 0.06)
    backward: 5.5 TFLOP, 4.3e+09 exponentials, 539 MB; at least 5.56 ms (products 5.56, exponentials 1.11, memory 0.11)
    """
    chip = CHIPS.get(chip_name or "")
    lines = []
    for name, work in (("forward", forward(p)), ("backward", backward(p))):
        limit = None if chip is None else times(work, chip, p.dtype, tf32)
        lines.append(f"{name}: {_in_words(work, p.visible.exact)}{_limit_in_words(limit)}")
    if chip is None:
        lines.append(f"the peak of {chip_name or 'this device'} is not known, so neither is a least time")
    elif times(forward(p), chip, p.dtype, tf32) is None:
        lines.append(f"{chip_name} has no unit for {p.dtype} whose peak is known, so neither is a least time")
    return lines


def _in_words(work: Work, exact: bool) -> str:
    bound = "" if exact else "at most "
    return f"{bound}{_si(work.operations)}FLOP, {work.exponentials:.1e} exponentials, {_si(work.bytes)}B"


def _limit_in_words(limit: Times | None) -> str:
    if limit is None:
        return ""
    each = ", ".join(f"{name} {1e3 * seconds:.2f}" for name, seconds in limit._asdict().items())
    return f"; at least {1e3 * limit.roofline:.2f} ms ({each})"


def _si(x: float) -> str:
    """Two digits and a prefix.

    >>> _si(2.2e12), _si(0)
    ('2.2 T', '0 ')
    """
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if x >= size:
            return f"{x / size:.2g} {prefix}" if x < 99.5 * size else f"{x / size:.0f} {prefix}"
    return f"{x:.0f} "
