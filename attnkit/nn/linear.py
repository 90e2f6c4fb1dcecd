"""x W^T + b, also for the few rows that a step of decoding brings: a handful of sentences, or the beams of one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

# With 4 to 8 rows the BLAS of a CPU (MKL 2024) first copies a large weight into another order, which costs more than
# the product. Taken as many small products over BLOCK rows of the weight it reads the weight as it lies: 1.5 to 2 times
# as fast for 4 rows and 8; no faster for 1 to 3, slower from about 12. Smaller weights stay in the core's cache anyway.
FEW = range(4, 9)
BLOCK = 48
LARGE = 1 << 18


def linear(
    x: Float[Tensor, "*batch d_in"], weight: Float[Tensor, "d_out d_in"], bias: Float[Tensor, " d_out"] | None = None
) -> Float[Tensor, "*batch d_out"]:
    """`F.linear`, by the way that is fast for so many rows. The results differ by rounding."""
    return in_blocks(x, weight, bias) if _has_few_rows(x, weight) else F.linear(x, weight, bias)


def in_blocks(
    x: Float[Tensor, "*batch d_in"], weight: Float[Tensor, "d_out d_in"], bias: Float[Tensor, " d_out"] | None = None
) -> Float[Tensor, "*batch d_out"]:
    """`F.linear` as one batched product over blocks of BLOCK rows of the weight, and what is left over."""
    d_out, d_in = weight.shape
    rows, blocks = x.reshape(-1, d_in), d_out // BLOCK
    whole = weight[: blocks * BLOCK].view(blocks, BLOCK, d_in)
    products = torch.bmm(rows.expand(blocks, -1, -1), whole.mT)  # (blocks, rows, BLOCK)
    out = products.transpose(0, 1).flatten(1)
    if out.shape[1] < d_out:
        out = torch.cat([out, F.linear(rows, weight[blocks * BLOCK :])], dim=1)
    out = out if bias is None else out + bias
    return out.view(*x.shape[:-1], d_out)


def _has_few_rows(x: Tensor, weight: Tensor) -> bool:
    """Is this a step of decoding on a CPU, in the dtype that was measured, and nothing to differentiate?"""
    return (
        weight.numel() >= LARGE
        and x.numel() // weight.shape[1] in FEW
        and not torch.is_grad_enabled()
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and weight.is_contiguous()
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
    )


class Linear(nn.Linear):
    """`nn.Linear`, by `linear`: the same parameters under the same names.

    >>> Linear(3, 2)(torch.ones(4, 3)).shape
    torch.Size([4, 2])
    """

    def forward(self, input: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        return linear(input, self.weight, self.bias)
