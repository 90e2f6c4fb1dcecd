"""How far from the truth a backend may be.

The oracle is the definition in float64. The yardstick is the same definition run plainly in the dtype under test:
every product rounded to it, with torch's softmax, which sums in float32 for half precision. For the output, lse and
each gradient:

    largest error <= 1.5 x the yardstick's largest error + floor
    rms error     <= 1.1 x the yardstick's rms error     + floor

The floor is one ulp of the result itself (an ulp of its dtype), plus one ulp of the accumulator's dtype of the summed
absolute values of the terms that make it up: what one rounding costs. Without it a yardstick that is exact by luck, as
with a single key, would demand the same luck. In float64 the oracle cannot measure itself: there the yardstick's error
is float32's, scaled down by the ratio of the two ulps. Infinities and NaN must agree exactly.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attnkit.attention import attention
from attnkit.backends import naive
from attnkit.backends.common import accumulator
from attnkit.backends.reading import READ, read_weights
from attnkit.testing.examples import SEED, Example, Results, inputs, viewed

MAX_FACTOR, RMS_FACTOR = 1.5, 1.1


def run(backend: str, example: Example, dtype: torch.dtype, aux: tuple[str, ...] = ("lse",)) -> Results:
    """Output, lse when it is in `aux`, and every gradient, through the front door."""
    leaves = on_device(example, dtype)
    results = _ask(backend, example, leaves, aux)
    return _with_gradients(example, leaves, results["out"], results.get("lse"))


def run_without_gradients(backend: str, example: Example, dtype: torch.dtype, aux: tuple[str, ...] = ()) -> Results:
    """Output and those fields of Aux that `aux` names, through the front door, with no gradient in sight."""
    with torch.no_grad():
        return {name: x.cpu() for name, x in _ask(backend, example, on_device(example, dtype), aux).items()}


def on_device(example: Example, dtype: torch.dtype) -> Results:
    """The leaves of a call, where it runs."""
    return {name: x.detach().to(example.device).requires_grad_() for name, x in inputs(example, dtype).items()}


def _ask(backend: str, example: Example, leaves: Results, aux: tuple[str, ...]) -> Results:
    """Call attention as a user does. The `Rows` that "row_weights" needs are the example's."""
    options = example.options(leaves)
    torch.manual_seed(SEED)
    result = attention(
        *viewed(leaves, example), mask=options.mask, bias=options.linear or leaves.get("bias"),
        sink=leaves.get("sink"), scale=example.scale, softcap=example.softcap, score_mod=example.score_mod,
        dropout=example.dropout, backend=backend, aux=tuple(example.rows if x == "row_weights" else x for x in aux),
    )  # fmt: skip
    return {"out": result[0], **{name: getattr(result[1], name) for name in aux}} if aux else {"out": result}


def definition(example: Example, dtype: torch.dtype, numbers: torch.dtype | None = None, lse: bool = True) -> Results:
    """The same results and all of Aux from the definition, in `dtype`, for numbers that `numbers` holds exactly."""
    leaves = {name: x.detach().to(dtype).requires_grad_() for name, x in inputs(example, numbers or dtype).items()}
    options = example.options(leaves)
    out, weights, log_sum = naive.define(*viewed(leaves, example), options)
    results, weights = _with_gradients(example, leaves, out, log_sum if lse else None), weights.detach()
    return results | {"weights": weights} | read_weights(weights, replace(options, aux=READ), dtype)


def oracle(example: Example, dtype: torch.dtype, lse: bool = True) -> Results:
    """The definition in float64, on the numbers that `dtype` is given."""
    return definition(example, torch.float64, dtype, lse)


def yardstick(example: Example, dtype: torch.dtype, lse: bool = True) -> Results:
    """The definition run plainly in `dtype`; in float32 for float64, whose own error it cannot show."""
    return definition(example, torch.float32 if dtype == torch.float64 else dtype, dtype, lse)


def upstream(example: Example, results: list[Tensor]) -> list[Tensor]:
    """A random gradient of each result, repeatable, and small enough in digits for every dtype."""
    rng = torch.Generator().manual_seed(zlib.crc32(example.name.encode()) + 1)
    return [torch.randn(x.shape, generator=rng, dtype=torch.float64).bfloat16().to(x) for x in results]


def _with_gradients(example: Example, leaves: Results, out: Tensor, lse: Tensor | None) -> Results:
    """Gradients for a random gradient of the output and, where there is an lse, of lse."""
    results = {"out": out} | ({} if lse is None else {"lse": lse})
    ups = upstream(example, list(results.values()))
    grads = torch.autograd.grad(list(results.values()), list(leaves.values()), ups, allow_unused=True)
    zeros = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves.values(), grads, strict=True)]
    found = {k: v.detach() for k, v in results.items()} | {f"d {n}": g for n, g in zip(leaves, zeros, strict=True)}
    return {name: x.cpu() for name, x in found.items()}


@dataclass(frozen=True)
class Verdict:
    """How far one result is from the oracle, and how far it may be."""

    result: str
    largest: float
    largest_allowed: float
    rms: float
    rms_allowed: float

    @property
    def ok(self) -> bool:
        return self.largest <= self.largest_allowed and self.rms <= self.rms_allowed

    def __str__(self) -> str:
        return (
            f"{self.result}: {'ok' if self.ok else 'TOO FAR'}, "
            f"largest {self.largest:.1e} of {self.largest_allowed:.1e}, rms {self.rms:.1e} of {self.rms_allowed:.1e}"
        )


def judge(got: Results, example: Example, dtype: torch.dtype) -> list[Verdict]:
    """The bound, applied to each result of a run. A wrong shape, or NaN or infinity out of place, is infinitely far."""
    lse = "lse" in got
    want, yard, terms = oracle(example, dtype, lse), yardstick(example, dtype, lse), term_sums(example, dtype)
    with_gradients = any(name.startswith("d ") for name in got)  # then all of them, and nothing beside
    allowed = (
        got.keys() == want.keys() - {"weights", *READ} if with_gradients else "out" in got and got.keys() <= want.keys()
    )
    assert allowed, (got.keys(), want.keys())
    return [_verdict(name, got[name], want[name], yard[name], terms[name], dtype) for name in got]


def _verdict(name: str, got: Tensor, want: Tensor, yard: Tensor, terms: Tensor, dtype: torch.dtype) -> Verdict:
    ulp, acc_ulp = torch.finfo(got.dtype).eps, torch.finfo(accumulator(dtype)).eps
    coarser = torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps if dtype == torch.float64 else 1.0
    if got.shape != want.shape or not _same_kind(got, want):
        return Verdict(name, float("inf"), 0.0, float("inf"), 0.0)
    want = _finite(want)
    error, allowed = _finite(got) - want, (_finite(yard) - want) * coarser
    return Verdict(
        name,
        _largest(error),
        MAX_FACTOR * _largest(allowed) + ulp * _largest(want) + acc_ulp * _largest(terms),
        _rms(error),
        RMS_FACTOR * _rms(allowed) + ulp * _rms(want) + acc_ulp * _rms(terms),
    )


def term_sums(example: Example, dtype: torch.dtype) -> Results:
    """For each result the sum of its terms' absolute values, which is what rounding errors are proportional to.

    A gradient may be a small difference of large terms: that of a bias which is the same for every key is exactly 0.
    """
    leaves = {name: x.detach().double() for name, x in inputs(example, dtype).items()}
    q, k, v = viewed(leaves, example)
    options = example.options(leaves)
    groups = example.heads // max(example.kv_heads, 1)
    out, weights, lse = naive.define(q, k, v, options)
    d_out, d_lse = (x.double().abs() for x in upstream(example, [out, lse]))
    q, k, v = q.abs(), *(x.abs().repeat_interleave(groups, dim=1) for x in (k, v))
    grow = 1 / (1 - options.dropout)
    d_weights = grow * d_out @ v.mT
    delta = (weights * d_weights).sum(-1, keepdim=True) + d_lse[..., None]
    d_scores = weights * (d_weights + delta)
    whole = {
        "query": abs(options.scale) * d_scores @ k,
        "key": abs(options.scale) * (d_scores.mT @ q).unflatten(1, (example.kv_heads, groups)).sum(2),
        "value": grow * (weights.mT @ d_out).unflatten(1, (example.kv_heads, groups)).sum(2),
    }
    sums = {"out": grow * weights @ v, "weights": weights, "lse": lse.nan_to_num(neginf=0.0)}
    # An error of a weight p changes -p ln p by 1 + |ln p| times as much.
    sums["entropy"] = (weights + torch.special.entr(weights).abs()).sum(-1)
    sums["column_sums"], sums["row_weights"] = weights.sum(-2), weights[:, :, options.rows]
    sums |= {f"d {n}": x for n, x in whole.items()}
    if options.linear is not None:
        far = options.linear.lowered(range(example.q_len), range(example.k_len), example.sizes, weights.dtype).abs()
        sums["d slopes"] = (d_scores * far).sum(dim=(0, 2, 3))
    if options.bias is not None:
        sums["d bias"] = d_scores.sum_to_size(options.bias.shape)
    if options.sink is not None:
        share = torch.exp(options.sink[:, None] - lse).nan_to_num(posinf=0.0)
        sums["d sink"] = (share * delta[..., 0]).sum(dim=(0, 2))
    return sums


def _same_kind(a: Tensor, b: Tensor) -> bool:
    """NaN, inf and -inf stand in the same places."""
    return all(torch.equal(kind(a), kind(b)) for kind in (torch.isnan, torch.isposinf, torch.isneginf))


def _finite(x: Tensor) -> Tensor:
    return x.double().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def _largest(x: Tensor) -> float:
    return float(x.abs().max()) if x.numel() else 0.0


def _rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt()) if x.numel() else 0.0
