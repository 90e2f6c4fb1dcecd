"""The fused kernels of `attnkit.kernels`: everything attention can be asked, in memory linear in length, on a GPU.

Without a GPU, Triton's interpreter runs the same kernels, slowly, when TRITON_INTERPRET=1 is set before they are
imported; this is how they are tested.
"""

from __future__ import annotations

import importlib.util
import os

import torch
from jaxtyping import Float
from torch import Tensor

from attnkit.backends.common import Aux, Options, sizes_of
from attnkit.kernels import plan, tiles
from attnkit.kernels.call import capability_of

DTYPES = (torch.float16, torch.bfloat16, torch.float32)

# Asked without importing it, which takes long.
HAS_TRITON = importlib.util.find_spec("triton") is not None

# A hidden key has no influence whatever it holds: the kernels see to that themselves.
GUARDS_HIDDEN = True


def interpreted() -> bool:
    """Does Triton run kernels on the CPU here?"""
    return os.environ.get("TRITON_INTERPRET") == "1"


def unsupported(query: Tensor, key: Tensor, value: Tensor, options: Options) -> str | None:
    """Why this backend cannot do what is asked, or None."""
    if query.device.type != "cuda" and not (interpreted() and query.device.type == "cpu"):
        return f"it needs an NVIDIA GPU, and the tensors are on {query.device}"
    if not HAS_TRITON:
        return "it needs Triton, which is not installed (on Linux: pip install 'attnkit[fused]')"
    if query.dtype not in DTYPES:
        return f"its kernels take float16, bfloat16 and float32, not {query.dtype}"
    widest = tiles.widest(capability_of(query.device))
    if max(query.shape[3], value.shape[3]) > widest:
        return f"its kernels hold heads of width {widest} at most here, not {query.shape[3]} and {value.shape[3]}"
    if options.score_mod is not None:
        return "an arbitrary score function would have to be compiled into the kernel: that is what 'flex' does"
    if "weights" in options.aux:
        return "the weights are a (q_len, k_len) table, and this backend exists to hold none; Rows names some of them"
    return None


def wasteful(query: Tensor, key: Tensor, value: Tensor, options: Options) -> str | None:
    """Why another backend that can do this should be preferred, or None."""
    if query.device.type != "cuda":
        return "on a CPU Triton interprets its kernels, a thousand times slower than the others"
    if (capability_of(query.device) or (0, 0)) < (8, 0):
        return "Triton has no tensor cores below sm_80"
    return None


def attend(
    query: Float[Tensor, "batch heads q_len d"],
    key: Float[Tensor, "batch kv_heads k_len d"],
    value: Float[Tensor, "batch kv_heads k_len d_v"],
    options: Options,
) -> tuple[Float[Tensor, "batch heads q_len d_v"], Aux]:
    """Attention by the kernels; the signature that every backend has."""
    from attnkit.kernels import ops

    *arguments, wants_lse, exact = operator_arguments(query, key, value, options)
    out, _, lse, row_max, row_sum = ops.fused_forward(*arguments, wants_lse, exact)
    found: dict[str, Tensor] = {"lse": lse}
    if any(name != "lse" for name in options.aux):
        wants = ("entropy" in options.aux, "column_sums" in options.aux)
        with torch.no_grad():
            readings = ops.fused_reading(row_max, row_sum, options.rows, *arguments, *wants)
        found |= dict(zip(("row_weights", "entropy", "column_sums"), readings, strict=True))
    return out, Aux(**{name: found[name] for name in options.aux})


def details(query: Tensor, key: Tensor, value: Tensor, options: Options) -> list[str]:
    """What `explain` prints when this backend is taken: the mask as the kernels see it, the tile, the least time."""
    from attnkit.kernels import decode, ops, roofline

    structure = plan.structure(options.mask, sizes_of(query, key), query.device)
    call = ops.call_of(*operator_arguments(query, key, value, options)[:-2])
    kernel = "decode" if decode.pays(call) else "forward"
    tile = call.tile(kernel)
    name = torch.cuda.get_device_name(query.device) if query.device.type == "cuda" else None
    problem = roofline.problem(query, key, value, structure, options.bias)
    return [
        f"keys it visits: {structure.describe()}",
        f"{kernel} kernel, in tiles of {tile.q} queries x {tile.k} keys, {tile.warps} warps, {tile.stages} stages",
        *roofline.describe(problem, name, tf32=torch.get_float32_matmul_precision() != "highest"),
    ]


def operator_arguments(query: Tensor, key: Tensor, value: Tensor, options: Options) -> tuple:
    """The arguments of `ops.fused_forward`, in its order."""
    sizes, linear = sizes_of(query, key), options.linear
    structure = plan.structure(options.mask, sizes, query.device)
    inputs = (query, key, value, options.bias, options.sink, None if linear is None else linear.slopes)
    # The backward pass needs the output as it was before it was rounded to half precision.
    trains = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
    return (
        *inputs,
        *(options.seed if options.dropout else None, structure.spans, structure.table),
        *(structure.low, structure.high, options.scale, options.softcap, options.dropout),
        *((0, True) if linear is None else (linear.shift(sizes), linear.symmetric)),
        "lse" in options.aux,
        trains and query.dtype != torch.float32,
    )
