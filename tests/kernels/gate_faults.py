"""Kernels that must not be shipped, compiled by the gate; run by test_aot.py in a process that does not interpret.

Prints as JSON what the gate says of each.
"""

from __future__ import annotations

import json
import sys

from attnkit.kernels import aot

aot.prepare(sys.argv[1])

import triton  # noqa: E402  Triton decides at its import whether it interprets
import triton.language as tl  # noqa: E402

from attnkit.kernels import tiles  # noqa: E402
from attnkit.kernels.aot_cases import Case  # noqa: E402
from attnkit.kernels.call import Launch  # noqa: E402


@triton.jit
def product_kernel(x, out, HOW: tl.constexpr, ROWS: tl.constexpr):
    """A product of matrices: as it should be, from float32, or not at all."""
    i, j = tl.arange(0, ROWS), tl.arange(0, 64)
    a = tl.load(x + i[:, None] * 64 + j[None, :])
    b = tl.load(x + j[:, None] * 64 + j[None, :])
    if HOW == "float32":
        c = tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="ieee")
    elif HOW == "none":
        c = a
    else:
        c = tl.dot(a, b)
    tl.store(out + i[:, None] * 64 + j[None, :], c)


@triton.jit
def wrong_kernel(x):
    """It does not compile: 48 is no power of two."""
    tl.store(x + tl.arange(0, 48), 0.0)


def with_tile(tile: tiles.Tile, case: Case) -> list[str]:
    """What is said of one of our kernels with another tile than its own."""
    own = tiles.choose
    tiles.choose = lambda *arguments, **options: tile
    try:
        return [problem for compiled in aot.compile_case(case) for problem in aot.problems(compiled)]
    finally:
        tiles.choose = own


def toy(sm: tuple[int, int], kernel: object, *constants: object) -> list[str]:
    """What is said of a kernel of this file."""
    import torch

    x, out = (torch.empty(64, 64, dtype=dtype, device="meta") for dtype in (torch.bfloat16, torch.float32))
    arguments = (x, out, *constants) if constants else (x,)
    launch = Launch(kernel, (1,), arguments, {"num_warps": 4})
    return aot.problems(aot.compile_launch(Case("forward", sm, "bfloat16", 64, "plain"), launch))


print(
    json.dumps(
        {
            "right": toy((9, 0), product_kernel, "", 64),
            "few rows": toy((9, 0), product_kernel, "", 32),
            "from float32": toy((8, 0), product_kernel, "float32", 16),
            "no product": toy((8, 0), product_kernel, "none", 64),
            "no kernel": toy((8, 0), wrong_kernel),
            "too many scores": with_tile(tiles.Tile(128, 128, 4, 2), Case("forward", (9, 0), "bfloat16", 128, "plain")),
            "too many stages": with_tile(tiles.Tile(64, 64, 8, 4), Case("forward", (8, 6), "bfloat16", 128, "plain")),
        }
    )
)
