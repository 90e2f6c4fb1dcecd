"""Kernels that are broken on purpose, in ways in which kernels are: what the conformance tests must reject.

A fault is an exact replacement in one of the kernels' files, which are then loaded again, as a copy, with that change.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from attnkit import attention, kernels
from attnkit.kernels import tiles
from attnkit.masks import Causal, Padding
from attnkit.testing import Example, example, judge, run
from attnkit.testing.crossed import CROSSED

# In the order in which they import each other.
FILES = ("parts", "forward", "backward", "bias_gradient", "decode")
F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16


@dataclass(frozen=True)
class Fault:
    """`old` becomes `new` in `file`.py. One of `examples` must reject it, a check of its own, or Triton."""

    name: str
    file: str
    old: str
    new: str
    examples: tuple[Example, ...] = ()
    dtype: torch.dtype = F32
    check: str = ""
    refused_by_triton: str = ""


def crossed(**wanted) -> Example:
    """The first of the crossed examples that has these fields."""
    return next(e for e in CROSSED if all(getattr(e, name) == value for name, value in wanted.items()))


PLAIN, TABLE, SINK, SOFTCAP, CAUSAL = (
    example(name) for name in ("plain", "mask: any table", "sink", "softcap", "mask: causal")
)
LONG = example("longer than a tile", batch=1, heads=1, kv_heads=1)
WINDOW = example("window lower_right 5x14", q_len=11)
GROUPED = example("grouped queries", batch=1, heads=4)
DROPOUT = example("dropout", batch=1)
LOWER_RIGHT = example("causal lower_right 5x14", q_len=11)
DECODED = Example("decode", q_len=2, k_len=44, batch=1, heads=4, kv_heads=2, mask=lambda s: Causal("lower_right"))
MANY = Example("many tiles", q_len=9, k_len=600, batch=1, heads=1, kv_heads=1)
WIDE_VALUES = example("plain", d_v=12)
ONE_SIDED = example("linear bias: one-sided, lower right 14x5")

ZOO = [
    Fault(
        "no maximum is subtracted", "forward",
        "new_max = tl.maximum(row_max, tl.max(scores, axis=1))",
        "new_max = tl.where(tl.max(scores, axis=1) > -INF, 0.0, row_max)",
        (example("logits near 1e4", batch=1),),
    ),
    Fault(
        "the output is not rescaled", "forward",
        "acc = acc * rescale[:, None] + dot(", "acc = acc + dot(", (PLAIN,),
    ),
    Fault(
        "the sum is not rescaled", "forward",
        "row_sum = row_sum * rescale + ", "row_sum = row_sum + ", (PLAIN,),
    ),
    Fault(
        "the output is rescaled upside down", "forward",
        "    rescale = tl.exp2(row_max - pivot)\n    weights =",
        "    rescale = tl.where(row_max == -INF, 0.0, tl.exp2(pivot - row_max))\n    weights =",
        (PLAIN,),
    ),
    Fault(
        "keys past the end count as zeros", "parts",
        " & (cols < sizes.k_len)[None, :]\n    rows =", "\n    rows =", (PLAIN,),
    ),
    Fault(
        "causal, one key too many", "parts",
        "(distance <= hiding.high)", "(distance <= hiding.high + 1)", (CAUSAL,),
    ),
    Fault(
        "causal, one key too few", "parts",
        "(distance <= hiding.high)", "(distance < hiding.high)", (CAUSAL,),
    ),
    Fault(
        "top left for bottom right", "parts",
        "(distance <= hiding.high)",
        "(distance <= tl.where(hiding.high == sizes.k_len - sizes.q_len, 0, hiding.high))",
        (LOWER_RIGHT,),
    ),
    Fault(
        "the window is one key short", "parts",
        "(distance >= hiding.low)", "(distance > hiding.low)", (WINDOW,),
    ),
    Fault(
        "the last block of a band is left out", "parts",
        "(tl.minimum(last + high + 1, length) + BLOCK - 1) // BLOCK", "tl.minimum(last + high + 1, length) // BLOCK",
        (CAUSAL,),
    ),
    Fault(
        "tiles seen in part are taken for whole", "parts",
        "return tl.load(walk.full.ptr + at), tl.load(walk.seen.ptr + at)",
        "return tl.load(walk.seen.ptr + at), tl.load(walk.seen.ptr + at)",
        (TABLE,),
    ),
    Fault(
        "weights are not cast to the values' dtype", "forward",
        "dot(weights.to(v_block.dtype), v_block,", "dot(weights, v_block,", (PLAIN,), F16,
        refused_by_triton="must be same dtype",
    ),
    Fault(
        "sums are kept in half precision", "forward",
        "    return acc, new_max, row_sum\n\n\n@triton.jit\ndef add_sink",
        "    acc = acc.to(v_block.dtype).to(tl.float32)\n"
        "    return acc, new_max, row_sum.to(v_block.dtype).to(tl.float32)\n\n\n@triton.jit\ndef add_sink",
        (MANY,), F16,
    ),
    Fault(
        "scores are cut off at half precision's largest number", "parts",
        "    return scores, capped\n",
        "    return tl.minimum(scores, 65504.0), capped\n",
        (example("logits near 1e4", logits=3e4, batch=1),),
    ),
    Fault(
        "delta is omitted", "backward",
        "d_scores = weights * (d_weights - delta[:, None])", "d_scores = weights * d_weights", (PLAIN,),
    ),
    Fault(
        "lse has no gradient", "backward",
        "total -= tl.load(d_lse + at, mask=rows < sizes.q_len, other=0.0)", "pass", (PLAIN,),
    ),
    Fault(
        "softcap has no derivative", "backward",
        "d_products = d_scores * (1.0 - capped * capped)", "d_products = d_scores", (SOFTCAP,),
    ),
    Fault(
        "softcap's derivative is that of its square", "backward",
        "(1.0 - capped * capped)", "(1.0 - capped)", (SOFTCAP,),
    ),
    Fault(
        "backward drops other weights", "backward",
        "keep_tile(score, b, heads, rows, cols), grow", "keep_tile(score, b, heads, rows, cols + 1), grow", (DROPOUT,),
    ),
    Fault(
        "dropout does not scale the others up", "forward",
        "acc = acc * (grow / total)[:, None]", "acc = acc / total[:, None]", (DROPOUT,),
    ),
    Fault(
        "dropout does not scale gradients up", "backward",
        "rows, cols), grow, 0.0)", "rows, cols), 1.0, 0.0)", (DROPOUT,),
    ),
    Fault(
        "dropout comes before the sum", "forward",
        "    row_sum = row_sum * rescale + tl.sum(weights, axis=1)\n    if score.seed is not None:\n"
        "        weights = tl.where(keep_tile(score, b, heads, rows, cols), weights, 0.0)\n",
        "    if score.seed is not None:\n"
        "        weights = tl.where(keep_tile(score, b, heads, rows, cols), weights, 0.0)\n"
        "    row_sum = row_sum * rescale + tl.sum(weights, axis=1)\n",
        (DROPOUT,),
    ),
    Fault(
        "heads drop the same weights", "parts",
        "mix(heads.to(tl.uint32) + 0x10000002)", "mix(0 * heads.to(tl.uint32) + 0x10000002)", (DROPOUT,),
    ),
    Fault(
        "the sink is omitted", "forward",
        "if score.sink is not None:", "if score.sink is None and False:", (SINK,),
    ),
    Fault(
        "the sink has no gradient", "backward",
        "return -(weight * data.delta)", "return 0 * (weight * data.delta)", (SINK,),
    ),
    Fault(
        "blind rows get the sink", "forward",
        "new_max = tl.where(row_max > -INF, tl.maximum(row_max, sink), row_max)", "new_max = tl.maximum(row_max, sink)",
        (SINK,),
    ),
    Fault(
        "queries are grouped by the wrong key head", "forward",
        "kv_head = head // sizes.group", "kv_head = head % (sizes.heads // sizes.group)", (GROUPED,),
    ),
    Fault(
        "only one of the grouped queries moves the keys", "backward",
        "for member in range(0, sizes.group):", "for member in range(0, 1):", (GROUPED,),
    ),
    Fault(
        "a bias that batches share gets one's gradient", "bias_gradient",
        "for n in range(0, shared_batches * shared_heads):", "for n in range(0, 1):", (example("bias (13,)"),),
    ),
    Fault(
        "a bias that queries share gets one's gradient", "bias_gradient",
        "total = tl.sum(total, axis=0, keep_dims=True)", "total = tl.max(total, axis=0, keep_dims=True)",
        (example("bias (13,)"),),
    ),
    Fault(
        "a linear bias also lowers keys to come", "parts",
        "tl.abs(offset) if score.symmetric else tl.maximum(offset, 0)", "tl.abs(offset)", (ONE_SIDED,),
    ),
    Fault("keys' gradient lacks the scale", "backward", "d_k * scale", "d_k", (PLAIN,)),
    Fault("queries' gradient lacks the scale", "backward", "d_q * scale", "d_q", (PLAIN,)),
    Fault(
        "blind rows are NaN", "parts",
        "return tl.where(row_max == -INF, 0.0, row_max)", "return row_max", (TABLE,),
    ),
    Fault(
        "blind rows weigh in the gradients", "backward",
        "tl.where(blind, INF, row_max)", "row_max", (TABLE,),
    ),
    Fault(
        "values are as wide as keys", "forward",
        "sizes.k_len, sizes.d_v, BLOCK_DV, MASKED)", "sizes.k_len, sizes.d, BLOCK_DV, MASKED)", (WIDE_VALUES,),
    ),
    Fault(
        "shares of a long cache are added as they are", "decode",
        "rescale = tl.exp2(tl.load(max_ptr + at + share, mask=share < splits, other=-INF) - pivot)",
        "rescale = tl.where(share < splits, 1.0, 0.0)",
        (DECODED,),
    ),
    Fault(
        "packed queries change heads", "decode",
        "heads = tl.minimum(kv_head * sizes.group + packed // sizes.q_len, sizes.heads - 1)",
        "heads = tl.minimum(kv_head * sizes.group + packed % sizes.group, sizes.heads - 1)",
        (DECODED,),
    ),
    Fault(
        "rows are counted in 32 bits", "parts",
        "    at = start + rows.to(tl.int64)[:, None] * x.row + cols.to(tl.int64)[None, :] * x.col\n    if width",
        "    far = (rows.to(tl.int64)[:, None] * x.row).to(tl.int32)\n"
        "    at = start + far + cols.to(tl.int64)[None, :] * x.col\n    if width",
        check="far apart",
    ),
    Fault(
        "hidden NaN leak into the output", "parts",
        "return tl.where(sick[:, None], 0.0, block).to(block.dtype), sick", "return block, sick", check="hidden NaN",
    ),
    Fault(
        "hidden NaN leak into the gradient", "backward",
        "        k_block, _ = clean(k_block)", "        pass",
        check="hidden NaN",
    ),
]  # fmt: skip


def load(monkeypatch: pytest.MonkeyPatch, folder: Path, fault: Fault | None) -> None:
    """Until the test is over, the kernels are a copy of themselves with one fault, or with none."""
    assert kernels.__file__ is not None
    for name in FILES:
        source = (Path(kernels.__file__).parent / f"{name}.py").read_text("utf-8")
        if fault is not None and fault.file == name:
            assert source.count(fault.old) == 1, f"{name}.py has changed, so that the fault no longer has its place"
            source = source.replace(fault.old, fault.new)
        path = folder / f"{name}.py"  # Triton reads the source of a kernel from its file
        path.write_text(source, "utf-8")
        spec = importlib.util.spec_from_file_location(f"attnkit.kernels.{name}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        monkeypatch.setattr(kernels, name, module, raising=False)
        spec.loader.exec_module(module)


def rejected(fault: Fault, folder: Path) -> bool:
    """Do the conformance tests' examples tell these kernels from right ones?"""
    if fault.check:
        return not {"far apart": far_apart, "hidden NaN": hidden_nan}[fault.check](folder)
    return any(not v.ok for e in fault.examples for v in judge(run("fused", e, fault.dtype), e, fault.dtype))


def far_apart(folder: Path) -> bool:
    """Keys that lie 2^30 elements apart, in a file with a hole, are found."""
    row = 1 << 30
    store = torch.from_file(str(folder / "sparse"), shared=True, size=4 * row + 16, dtype=torch.float16)
    query = torch.randn(1, 1, 9, 16).half()
    key = store.as_strided((1, 1, 3, 16), (0, 0, row, 1), 2 * row)
    key.copy_(torch.randn(1, 1, 3, 16))
    near = attention(query, key.clone(), key.clone(), backend="fused")
    return torch.equal(attention(query, key, key, backend="fused"), near)


def hidden_nan(folder: Path) -> bool:
    """What hidden keys hold changes nothing, forward or backward."""
    query, key, value = (torch.randn(1, 2, 13, 8) for _ in range(3))
    results = []
    for poison in (0.0, float("nan"), float("inf")):
        k, v = key.clone(), value.clone()
        k[:, :, 11], v[:, :, 11] = poison, poison
        leaves = [x.requires_grad_() for x in (query.clone(), k, v)]
        out = attention(*leaves, mask=Padding(10), backend="fused")
        results.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    clean, *others = results
    return all(torch.equal(a, b) for other in others for a, b in zip(clean, other, strict=True))


SMALL = tiles.Tile(8, 8, 1, 1)
