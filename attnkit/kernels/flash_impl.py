"""Our kernels inside PyTorch's own attention: what `F.scaled_dot_product_attention` calls "flash", opt in.

    from attnkit.kernels import flash_impl
    flash_impl.register()                                             # now "attnkit" is a name that PyTorch knows
    torch.nn.attention.activate_flash_attention_impl("attnkit")       # now it is used, by every model in the process
    torch.nn.attention.restore_flash_attention_impl()                 # and now no more

Importing this file does nothing. What PyTorch sends to its flash kernels is half precision on a GPU, with no mask or a
causal one, and it asks for the same things back. Two differ. Of each row PyTorch keeps lse alone for the backward pass,
not its maximum and sum: at scores near 1e4 the rounding of lse shows in the gradients, as it does in PyTorch's own
kernels. And it draws dropout with its own generator, so dropout is refused: activate no implementation for that.
Packed sequences of unequal lengths (`varlen_attn`, nested tensors) go on to PyTorch's own kernels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.library import Library

from attnkit._optional import require
from attnkit.kernels import ops
from attnkit.kernels.arguments import LOG2E
from attnkit.kernels.plan import UNLIMITED

NAME = "attnkit"


def register() -> None:
    """Let `torch.nn.attention.activate_flash_attention_impl("attnkit")` find our kernels. Activates nothing.

    Raises RuntimeError when this PyTorch has no such hook.
    """
    hook = getattr(torch.nn.attention, "register_flash_attention_impl", None)
    if hook is None:
        raise RuntimeError(
            f"torch {torch.__version__} has no torch.nn.attention.register_flash_attention_impl, which torch 2.13 has: "
            "update it, or call attnkit.attention, which needs no hook"
        )
    hook(NAME, register_fn=install)


class Installed:
    """Our kernels in the place of PyTorch's, until `remove` is called."""

    library: Library | None

    def __init__(self, library: Library) -> None:
        self.library = library

    def remove(self) -> None:
        """Give PyTorch its own kernels back: they return when nobody holds the library any more."""
        self.library = None


def install(device: str = "CUDA") -> Installed:
    """Put our kernels in the place of PyTorch's for tensors on such a device, as its dispatcher names it."""
    require("triton", extra="fused")
    library = Library("aten", "IMPL", device)
    library.impl("_scaled_dot_product_flash_attention", forward, device)
    library.impl("_scaled_dot_product_flash_attention_backward", backward, device)
    return Installed(library)


# The arguments and results of the next two are those of the operators of torch whose place they take.
def forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    return_debug_mask: bool = False,
    *,
    scale: float | None = None,
) -> tuple[Tensor, Tensor, None, None, int, int, Tensor, Tensor, Tensor]:
    """`aten::_scaled_dot_product_flash_attention`: output, lse, and what PyTorch's dropout would have to remember."""
    if return_debug_mask:
        raise NotImplementedError(f"{NAME} has no debug mask: it makes no table of weights")
    numbers = _numbers(query, key, value, dropout_p, is_causal, scale)
    out, *_, lse, _, _ = ops.fused_forward(
        query=query, key=key, value=value, **numbers, wants_lse=True, wants_exact=False
    )
    seed, offset = (torch.zeros(n, dtype=torch.uint64, device=query.device) for n in ((2,), ()))
    debug_mask = query.new_empty(0)
    return _laid_out_like(query, out), lse, None, None, query.shape[2], key.shape[2], seed, offset, debug_mask


def backward(
    grad_out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    logsumexp: Tensor,
    cum_seq_q: Tensor | None,
    cum_seq_k: Tensor | None,
    max_q: int,
    max_k: int,
    dropout_p: float,
    is_causal: bool,
    philox_seed: Tensor,
    philox_offset: Tensor,
    *,
    scale: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """`aten::_scaled_dot_product_flash_attention_backward`: the gradients of query, key and value.

    A weight is exp2(score - row_max) / row_sum. With lse, in base 2, as the maximum, the sum is 1.
    """
    row_max = logsumexp.float() * LOG2E
    d_query, d_key, d_value, *_ = ops.fused_backward(
        d_out=grad_out,
        d_lse=None,
        out=out,
        row_max=row_max,
        row_sum=torch.ones_like(row_max),
        query=query,
        key=key,
        value=value,
        **_numbers(query, key, value, dropout_p, is_causal, scale),
        wants_bias=False,
        wants_sink=False,
        wants_slopes=False,
    )
    return _laid_out_like(query, d_query), _laid_out_like(key, d_key), _laid_out_like(value, d_value)


def _numbers(
    query: Tensor, key: Tensor, value: Tensor, dropout_p: float, is_causal: bool, scale: float | None
) -> dict[str, Any]:
    """What our operators are given besides query, key and value. NotImplementedError for what they must not do."""
    if dropout_p:
        raise NotImplementedError(
            f"{NAME} drops other weights than PyTorch's generator would: restore PyTorch's implementation for dropout, "
            "or call attnkit.attention(dropout=...)"
        )
    if query.shape[3] != value.shape[3]:
        raise NotImplementedError(
            f"heads are {query.shape[3]} and {value.shape[3]} wide; PyTorch's flash has one width"
        )
    if is_causal and query.shape[2] != key.shape[2]:
        raise NotImplementedError(
            f"{query.shape[2]} queries and {key.shape[2]} keys: PyTorch's kernels differ on which query stands where"
        )
    absent = dict.fromkeys(("bias", "sink", "slopes", "seed", "spans", "table", "softcap"))
    band = {"low": -UNLIMITED, "high": 0 if is_causal else UNLIMITED}
    scale = query.shape[3] ** -0.5 if scale is None else scale
    return {**absent, **band, "scale": scale, "dropout": 0.0, "origin": 0, "symmetric": True}


def _laid_out_like(model: Tensor, x: Tensor) -> Tensor:
    """Results lie in memory as what they belong to does; compiled code counts on it."""
    like = torch.empty_like(model)
    return x if x.stride() == like.stride() else like.copy_(x)
