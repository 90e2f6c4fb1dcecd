"""What the ahead-of-time gate compiles: each kernel, for each chip, dtype, head width and kind of call.

The calls go through the launchers that a user's call goes through, with tensors that have a shape and no memory, so
the gate cannot drift from what is launched. A causal mask and a window are two numbers that the kernel reads when it
runs: without a mask it is the same machine code, so "plain" stands for them too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnkit.kernels import tiles
from attnkit.kernels.call import Call, Launch, recorded
from attnkit.kernels.plan import UNLIMITED, Structure

CHIPS = ((7, 5), (8, 0), (8, 6), (8, 9), (9, 0))
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "tf32": torch.float32}
# What a program may use of a chip's shared memory, in KB (CUDA C++ Programming Guide, technical specifications).
SHARED = {75: 64, 80: 163, 86: 99, 89: 99, 90: 227}
VARIANTS = {
    "plain": "no mask, a causal mask or a window; as many key heads as query heads; everything aligned",
    "everything": "bias, softcap, slopes, sink, dropout, spans and a table; query heads share a key head",
    "odd": "plain, with lengths, widths and strides that 16 does not divide",
}


@dataclass(frozen=True)
class Case:
    """One thing to compile. `width` is a padded head width, `dtype` a key of DTYPES, `variant` one of VARIANTS."""

    kernel: str
    capability: tuple[int, int]
    dtype: str
    width: int
    variant: str

    @property
    def sm(self) -> int:
        """80 for the capability (8, 0)."""
        return 10 * self.capability[0] + self.capability[1]

    @property
    def rich(self) -> bool:
        """Does it take the tile for calls that ask for more than a band? A bias's gradient always does."""
        return self.variant == "everything" or self.kernel == "bias"

    @property
    def tile(self) -> tiles.Tile:
        """The tile that is shipped for it."""
        return tiles.choose(self.kernel, self.capability, DTYPES[self.dtype], self.width, self.width, rich=self.rich)


def every_case() -> Iterator[Case]:
    """All combinations, except what a chip without tensor cores for bfloat16 and tf32 would be asked in vain."""
    for capability in CHIPS:
        for dtype in DTYPES:
            if capability < (8, 0) and dtype in ("bfloat16", "tf32"):
                continue
            for kernel in tiles.KERNELS:
                for width in (width for width in tiles.WIDTHS if width <= tiles.widest(capability)):
                    for variant in VARIANTS:
                        yield Case(kernel, capability, dtype, width, variant)


def shipped_cases() -> list[Case]:
    """Every tile that is shipped, plain and with everything: what each run of the gate compiles.

    A tile that serves several head widths is compiled for the widest, which needs most registers. bfloat16 stands for
    float16, except on chips that have none. Plain calls in half precision are compiled for every chip; of those with
    everything, and of float32 which no chip's tensor cores serve, tiles that several chips share are compiled for one:
    the one with the least shared memory. `every_case` has the rest.
    """
    widest: dict[tuple, Case] = {}
    for case in every_case():
        half = "float16" if case.capability < (8, 0) else "bfloat16"
        if case.variant == "odd" or case.dtype not in (half, "float32"):
            continue
        family = {7: "fma", 8: "mma", 9: "wgmma"}[case.capability[0]]
        if case.dtype == "float32":
            if case.capability < (8, 0):
                continue  # the tiles of float16, which are no product of tensor cores there either
            family = "fma"
        alone = (case.capability,) if case.dtype == half and case.variant == "plain" else ()
        key = (case.kernel, case.dtype, family, case.variant, case.tile, *alone)
        held = widest.get(key)
        if held is None or (case.width, -SHARED[case.sm]) > (held.width, -SHARED[held.sm]):
            widest[key] = case
    return list(widest.values())


def example(case: Case) -> Call:
    """A call of this kind. Its tensors have no memory: only shapes, strides and dtypes reach the compiler."""
    dtype, rich, odd = DTYPES[case.dtype], case.variant == "everything", case.variant == "odd"
    batch, heads, kv_heads = 2, 8, 2 if rich else 8
    q_len, k_len = (1021, 1023) if odd else (1024, 1024)
    if case.kernel == "decode":  # from one row in a tile to as many as it takes
        q_len, kv_heads = (8, 1) if rich else (1, 8)
    width = case.width - 3 if odd else case.width

    def empty(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    def rows(heads: int, length: int) -> Tensor:
        return empty(batch, length, heads, width + odd).transpose(1, 2)[..., :width]

    structure = Structure(-UNLIMITED, 0)
    options: dict[str, Any] = {}
    if rich:
        spans = empty(batch, 1, q_len, 4, dtype=torch.int32)
        structure = Structure(-UNLIMITED, 0, spans, empty(batch, 1, q_len, k_len, dtype=torch.bool))
        options = {
            "bias": empty(1, heads, q_len, k_len), "slopes": empty(heads, dtype=torch.float32), "softcap": 30.0,
            "sink": empty(heads, dtype=torch.float32), "dropout": 0.1, "seed": empty(dtype=torch.int32),
        }  # fmt: skip
    elif case.kernel == "bias":
        options = {"bias": empty(1, heads, q_len, k_len)}
    return Call(
        query=rows(heads, q_len), key=rows(kv_heads, k_len), value=rows(kv_heads, k_len), scale=width**-0.5,
        structure=structure, capability=case.capability, **options,
    )  # fmt: skip


def launches(case: Case) -> list[Launch]:
    """What a call of this kind launches: the kernel, and before or after it the small ones that it needs."""
    call = example(case)
    batch, heads, q_len, _ = call.mask_sizes
    row_max = torch.empty(batch, heads, q_len, device="meta")
    out = call.query.new_empty(batch, q_len, heads, call.value.shape[3]).transpose(1, 2)
    if case.dtype == "tf32":
        torch.set_float32_matmul_precision("high")
    with recorded() as found:
        START[case.kernel](call, out, row_max)
    torch.set_float32_matmul_precision("highest")
    return found


def _forward(call: Call, out: Tensor, row_max: Tensor) -> None:
    from attnkit.kernels import forward

    exact = None if call.slopes is None else torch.empty_like(out, dtype=torch.float32)
    forward.launch(call, out, exact, row_max, row_max).run()


def _keys(call: Call, out: Tensor, row_max: Tensor) -> None:
    from attnkit.kernels import backward

    exact = None if call.slopes is None else torch.empty_like(out, dtype=torch.float32)
    data = backward.query_rows(call, out, row_max, out if exact is None else exact, row_max, row_max)
    backward.keys_launch(call, data, torch.empty_like(call.key), torch.empty_like(call.value)).run()


def _queries(call: Call, out: Tensor, row_max: Tensor) -> None:
    from attnkit.kernels import backward

    data = backward.QueryRows(out, row_max, row_max, row_max)
    if call.slopes is None:
        backward.queries_launch(call, data, torch.empty_like(call.query)).run()
    else:
        backward.queries_launch(call, data, torch.empty_like(call.query), row_max, "distances").run()
        backward.with_summed_delta(call, data, None)


def _bias(call: Call, out: Tensor, row_max: Tensor) -> None:
    from attnkit.kernels import backward, bias_gradient

    bias_gradient.bias_gradient(call, backward.QueryRows(out, row_max, row_max, row_max))


def _decode(call: Call, out: Tensor, row_max: Tensor) -> None:
    from attnkit.kernels import decode

    exact = None if call.slopes is None else torch.empty_like(out, dtype=torch.float32)
    for launch in decode.launches(call, out, exact, row_max, row_max):
        launch.run()


def _reading(call: Call, out: Tensor, row_max: Tensor) -> None:
    from attnkit.kernels import reading

    reading.weights_of_rows(call, row_max, row_max, torch.empty(16, dtype=torch.int64, device="meta"))
    reading.column_sums(call, row_max, row_max)
    reading.entropy(call, row_max, row_max)


START = {
    "forward": _forward, "keys": _keys, "queries": _queries, "bias": _bias, "decode": _decode, "reading": _reading,
}  # fmt: skip
