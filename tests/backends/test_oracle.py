"""The definition itself against two things that share no code with it: a loop in NumPy, and PyTorch's attention."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from attnkit import attention
from attnkit.backends.common import accumulator
from attnkit.masks import Causal
from attnkit.testing import EXAMPLES, Example, inputs, oracle, run
from attnkit.testing.examples import viewed


def by_hand(example: Example) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Output, weights and lse row by row, in Python numbers: no broadcasting, no softmax of a library."""
    leaves = {name: x.detach() for name, x in inputs(example, torch.float64).items()}
    q, k, v = (x.numpy() for x in viewed(leaves, example))
    options, sizes = example.options(leaves), example.sizes
    table = torch.ones(sizes, dtype=torch.bool) if options.mask is None else options.mask.materialize(*sizes)
    seen = table.expand(sizes).numpy()
    bias = np.zeros(sizes) if options.bias is None else options.bias.expand(sizes).numpy()
    shift = sizes.k_len - sizes.q_len if options.linear is not None and options.linear.align == "lower_right" else 0
    out, weights = np.zeros((*sizes[:3], example.d_v)), np.zeros(sizes)
    lse = np.full(sizes[:3], -math.inf)
    for b, h, i in np.ndindex(*sizes[:3]):
        shared = h // (example.heads // example.kv_heads)
        logits = {}
        for j in range(sizes.k_len):
            if seen[b, h, i, j]:
                x = math.fsum(q[b, h, i] * k[b, shared, j]) * options.scale
                x = x if options.softcap is None else options.softcap * math.tanh(x / options.softcap)
                logits[j] = x + bias[b, h, i, j]
                if options.linear is not None:
                    far = abs(i + shift - j) if options.linear.symmetric else max(i + shift - j, 0)
                    logits[j] -= float(options.linear.slopes[h]) * far
                if options.score_mod is not None:  # one score at a time
                    one = torch.tensor(logits[j], dtype=torch.float64)
                    logits[j] = float(options.score_mod(one, *map(torch.tensor, (b, h, i, j))))
        if not logits:
            continue
        every = [*logits.values()] + ([] if options.sink is None else [float(options.sink[h])])
        lse[b, h, i] = max(every) + math.log(math.fsum(math.exp(x - max(every)) for x in every))
        for j, x in logits.items():
            weights[b, h, i, j] = math.exp(x - lse[b, h, i])
            out[b, h, i] += weights[b, h, i, j] * v[b, shared, j]
    return out, weights, lse


@pytest.mark.parametrize("example", [e for e in EXAMPLES if not e.dropout], ids=lambda e: e.name)
def test_the_definition_is_what_a_loop_over_rows_computes(example: Example) -> None:
    out, _, lse = by_hand(example)
    truth = oracle(example, torch.float64)
    np.testing.assert_allclose(truth["out"].numpy(), out, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(truth["lse"].numpy(), lse, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("example", [e for e in EXAMPLES if not e.dropout and e.logits == 1], ids=lambda e: e.name)
def test_what_is_read_off_the_weights_is_what_a_loop_over_rows_reads(example: Example) -> None:
    _, weights, _ = by_hand(example)
    truth, sizes = oracle(example, torch.float64), example.sizes
    entropy, sums = np.zeros(sizes[:3]), np.zeros((*sizes[:2], sizes.k_len))
    for b, h, i, j in np.ndindex(*sizes):
        p = float(weights[b, h, i, j])
        entropy[b, h, i] -= p * math.log(p) if p else 0.0
        sums[b, h, j] += p
    np.testing.assert_allclose(truth["entropy"].numpy(), entropy, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(truth["column_sums"].numpy(), sums, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(
        truth["row_weights"].numpy(), weights[:, :, list(example.rows.indices)], rtol=1e-9, atol=1e-11
    )


@pytest.mark.parametrize("name", ["mask: any table", "sink", "bias (2, 1, 13)", "grouped queries", "softcap"])
def test_weights_on_request_are_those_of_the_loop(name: str) -> None:
    example = next(e for e in EXAMPLES if e.name == name)
    leaves = inputs(example, torch.float64)
    options = example.options(leaves)
    _, aux = attention(
        *viewed(leaves, example), mask=options.mask, bias=options.bias, scale=options.scale, softcap=options.softcap,
        sink=options.sink, aux=("weights",),
    )  # fmt: skip
    assert aux.lse is None
    np.testing.assert_allclose(aux.weights.detach().numpy(), by_hand(example)[1], rtol=1e-9, atol=1e-12)
    sums = aux.weights.sum(-1)
    if options.sink is None:
        seen = sums > 0
        torch.testing.assert_close(sums[seen], torch.ones_like(sums[seen]))
    else:
        assert bool((sums < 1).all())


@pytest.mark.parametrize("causal", [False, True])
def test_the_definition_agrees_with_pytorch_in_value_and_gradient(causal: bool) -> None:
    example = Example("against pytorch", heads=4, kv_heads=2, mask=(lambda s: Causal()) if causal else None)
    leaves = inputs(example, torch.float64)
    ours = attention(*leaves.values(), mask=Causal() if causal else None, backend="naive")
    theirs = F.scaled_dot_product_attention(*leaves.values(), is_causal=causal, enable_gqa=True)
    torch.testing.assert_close(ours, theirs)
    up = torch.randn_like(ours)
    for a, b in zip(*(torch.autograd.grad(x, list(leaves.values()), up) for x in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("backend", "name"),
    [
        *itertools.product(
            ["naive", "online"], ["everything at once", "everything at once, by slopes", "sink", "softcap"]
        ),
        *itertools.product(["naive", "online", "sdpa"], ["mask: padding with an empty sequence"]),
    ],
)
def test_gradients_are_those_of_finite_differences(backend: str, name: str) -> None:
    """gradcheck perturbs every input: it knows nothing of our backward pass or of autograd's."""
    example = next(e for e in EXAMPLES if e.name == name)
    small = Example(**{**vars(example), "q_len": 4, "k_len": 4, "d": 3, "d_v": 2, "batch": 1, "bias": None})
    leaves = inputs(small, torch.float64)

    def call(*tensors: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        named = dict(zip(leaves, tensors, strict=True))
        torch.manual_seed(7)
        result = attention(
            *tensors[:3], mask=small.options(named).mask, bias=small.options(named).linear, sink=named.get("sink"),
            softcap=small.softcap, scale=small.scale, dropout=small.dropout, backend=backend,
            aux=() if backend == "sdpa" else ("lse",),
        )  # fmt: skip
        return result if backend == "sdpa" else (result[0], result[1].lse.nan_to_num(neginf=0.0))

    assert torch.autograd.gradcheck(call, tuple(leaves.values()), fast_mode=False)
    if backend == "naive":
        assert torch.autograd.gradgradcheck(call, tuple(leaves.values()), fast_mode=True)


def test_half_precision_is_summed_in_float32() -> None:
    assert accumulator(torch.bfloat16) == accumulator(torch.float16) == accumulator(torch.float32) == torch.float32
    ones = torch.ones(1, 1, 4096, 1, dtype=torch.float16)
    for backend in ("naive", "online"):
        out, aux = attention(ones, ones, ones, backend=backend, aux=("lse",))
        assert bool((out == 1).all())  # a float16 sum of 4,096 ones, one by one, stops at 2,048
        torch.testing.assert_close(aux.lse, torch.full_like(aux.lse, 1 + math.log(4096)))


def test_the_examples_reach_every_backend_and_every_option() -> None:
    """A list of edge cases that has lost its edges would let everything pass."""
    assert len({e.name for e in EXAMPLES}) == len(EXAMPLES)
    assert any(e.kv_heads < e.heads for e in EXAMPLES)
    assert {e.q_len < e.k_len for e in EXAMPLES} == {True, False}
    assert any(oracle(e, torch.float64)["lse"].isneginf().all() for e in EXAMPLES if e.q_len * e.heads * e.batch)
    huge = next(e for e in EXAMPLES if e.name == "logits near 1e4")
    assert run("online", huge, torch.float32)["lse"].abs().max() > 1e4
