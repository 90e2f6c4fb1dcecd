"""Length, memory, repeatability, and what stands between a kernel and a training run: graphs, compilers, streams."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from attnkit import attention
from attnkit.masks import Causal, Mask, Padding, Window
from attnkit.testing import Example, example, run

BF16 = torch.bfloat16


def tensors(cuda: str, *shape: int, dtype: torch.dtype = BF16, count: int = 3) -> list[Tensor]:
    """Random leaves on the device, the same each time."""
    rng = torch.Generator(cuda).manual_seed(0)
    return [torch.randn(shape, generator=rng, device=cuda).to(dtype).requires_grad_() for _ in range(count)]


def rows_of_definition(query: Tensor, key: Tensor, value: Tensor, chunk: int = 1 << 22) -> tuple[Tensor, Tensor]:
    """Output and lse of a few queries in float64, over keys that are too many to hold at once."""
    q, scale = query.double(), query.shape[-1] ** -0.5
    chunks = [range(at, min(at + chunk, key.shape[2])) for at in range(0, key.shape[2], chunk)]
    scores = [q @ key[:, :, c.start : c.stop].double().mT * scale for c in chunks]
    lse = torch.logsumexp(torch.stack([s.logsumexp(-1) for s in scores]), dim=0)
    parts = [
        (s - lse[..., None]).exp() @ value[:, :, c.start : c.stop].double() for s, c in zip(scores, chunks, strict=True)
    ]
    return torch.stack(parts).sum(0), lse


@pytest.mark.parametrize("q_len", [4, 16], ids=["decode", "forward"])
def test_more_than_2_to_31_elements(cuda: str, q_len: int) -> None:
    """The last keys lie past 2^31, and carry half the weight."""
    k_len, d = (1 << 25) + 64, 64
    rng = torch.Generator(cuda).manual_seed(0)
    query = torch.randn(1, 1, q_len, d, generator=rng, device=cuda).to(BF16).requires_grad_()
    key = torch.empty(1, 1, k_len, d, dtype=BF16, device=cuda).normal_(generator=rng)
    value = torch.empty_like(key).normal_(generator=rng)
    key[:, :, -64:] = 2 * query.detach().repeat(1, 1, 64 // q_len, 1)
    assert key.numel() > 2**31
    with torch.no_grad():
        want, want_lse = rows_of_definition(query, key, value)
    key.requires_grad_()
    value.requires_grad_()
    out, aux = attention(query, key, value, backend="fused", aux=("lse",))
    torch.testing.assert_close(out.double(), want, rtol=2e-2, atol=1e-2 * float(want.abs().max()))
    torch.testing.assert_close(aux.lse.double(), want_lse, rtol=1e-4, atol=1e-4)
    d_out = torch.randn(out.shape, generator=rng, device=cuda).to(BF16)
    _, d_key, d_value = torch.autograd.grad(out, [query, key, value], d_out)
    with torch.no_grad():  # the last 64 keys, by the formula
        q, k, v, do = (x.double() for x in (query, key[:, :, -64:], value[:, :, -64:], d_out))
        weights = (q @ k.mT * d**-0.5 - want_lse[..., None]).exp()
        d_scores = weights * (do @ v.mT - (do * want).sum(-1, keepdim=True))
        for got, exact in ((d_value, weights.mT @ do), (d_key, d_scores.mT @ q * d**-0.5)):
            error = (got[:, :, -64:].double() - exact).abs().max()
            assert error <= 2e-2 * exact.abs().max()


def test_a_view_into_a_fused_projection_of_more_than_2_to_31_elements(cuda: str) -> None:
    length, heads, d = 1 << 19, 32, 64
    projected = torch.empty(1, length, 3, heads, d, dtype=BF16, device=cuda).normal_()
    assert projected.numel() > 2**31
    query, key, value = projected.permute(2, 0, 3, 1, 4)
    out = attention(query, key, value, mask=Window(128, 0), backend="fused")
    tail = [x[:, :, -512:].clone() for x in (query, key, value)]
    want = attention(*tail, mask=Window(128, 0), backend="naive")
    torch.testing.assert_close(out[:, :, -256:], want[:, :, -256:], rtol=2e-2, atol=2e-2)


def test_a_hundred_thousand_tokens(cuda: str) -> None:
    query, key, value = tensors(cuda, 1, 2, 100_000, 128)
    out, aux = attention(query, key, value, mask=Causal(), backend="fused", aux=("lse",))
    with torch.no_grad():
        want, lse = rows_of_definition(query[:, :, -1:], key, value)
    torch.testing.assert_close(out[:, :, -1:].double(), want, rtol=2e-2, atol=1e-3)
    torch.testing.assert_close(aux.lse[:, :, -1:].double(), lse, rtol=1e-5, atol=1e-4)
    grads = torch.autograd.grad(out.float().square().sum(), [query, key, value])
    assert all(bool(g.isfinite().all()) for g in grads)


@pytest.mark.parametrize("mask", [None, Causal(), Causal() & Padding([1000, 4000])], ids=["none", "causal", "padded"])
def test_memory_grows_as_the_length_does(cuda: str, mask: Mask | None) -> None:
    """Forward and backward: at twice the length at most a little more than twice the memory, never four times."""

    def peak(length: int) -> int:
        leaves = tensors(cuda, 2, 8, length, 64)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        out = attention(*leaves, mask=mask, backend="fused", dropout=0.1)
        torch.autograd.grad(out, leaves, torch.ones_like(out))
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    peak(4096)
    peaks = [peak(length) for length in (4096, 8192, 16384)]
    assert peaks[1] <= 2.2 * peaks[0], peaks
    assert peaks[2] <= 2.2 * peaks[1], peaks


LARGE = {"q_len": 700, "k_len": 900, "batch": 2, "heads": 8, "kv_heads": 2, "d": 64, "d_v": 64}
REPEATED = [
    Example("causal", mask=lambda s: Causal("lower_right"), **LARGE),
    replace(example("everything at once"), **LARGE, bias=(8, 1, 900)),
    replace(example("everything at once, by slopes"), **LARGE, linear=None),
    Example("decode", **LARGE | {"q_len": 1, "k_len": 30_000}),
]


@pytest.mark.parametrize("e", REPEATED, ids=lambda e: e.name)
@pytest.mark.parametrize("busy", [False, True], ids=["alone", "beside other work"])
def test_twenty_repeats_give_the_same_bits(cuda: str, e: Example, busy: bool) -> None:
    """Also while another stream keeps the device busy, which moves programs about and shows races."""
    e = replace(e, device=cuda)
    other, work = torch.cuda.Stream(), torch.randn(4096, 4096, device=cuda)
    first = run("fused", e, BF16)
    for _ in range(20):
        if busy:
            with torch.cuda.stream(other):
                for _ in range(5):
                    work = (work @ work).clamp(-1, 1)
        again = run("fused", e, BF16)
        assert all(torch.equal(first[name], again[name]) for name in first)
    torch.cuda.synchronize()


def captured(step, leaves: list[Tensor]) -> tuple[torch.cuda.CUDAGraph, list[Tensor]]:
    """A step as a CUDA graph, and the tensors into which each replay writes."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            step(leaves)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = step(leaves)
    return graph, results


def step_with(dropout: float):
    """Forward and backward."""

    def step(leaves: list[Tensor]) -> list[Tensor]:
        out = attention(*leaves, mask=Causal(), dropout=dropout, backend="fused")
        return [out, *torch.autograd.grad(out, leaves, torch.ones_like(out))]

    return step


def test_a_cuda_graph_gives_the_same_bits_and_follows_its_inputs(cuda: str) -> None:
    leaves, step = tensors(cuda, 2, 4, 300, 64), step_with(0.0)
    graph, results = captured(step, leaves)
    with torch.no_grad():
        leaves[0].mul_(-1.5)
    graph.replay()
    assert all(torch.equal(a, b) for a, b in zip(results, step(leaves), strict=True))


def test_dropout_differs_between_replays_of_a_cuda_graph(cuda: str) -> None:
    graph, results = captured(step_with(0.5), tensors(cuda, 2, 4, 300, 64))
    seen = []
    for _ in range(2):
        graph.replay()
        seen.append(results[0].clone())
    assert not torch.equal(*seen)


def test_torch_compile_without_a_graph_break_and_with_any_length(cuda: str) -> None:
    step = torch.compile(
        lambda q, k, v: attention(2 * q, k, v, mask=Causal(), backend="fused"), fullgraph=True, dynamic=True
    )
    for length in (64, 200, 333):
        leaves = tensors(cuda, 2, 4, length, 64)
        out, want = step(*leaves), attention(2 * leaves[0], *leaves[1:], mask=Causal(), backend="fused")
        assert torch.equal(out, want)
        for a, b in zip(*(torch.autograd.grad(x.float().sum(), leaves) for x in (out, want)), strict=True):
            torch.testing.assert_close(a, b)


def test_autocast_takes_its_dtype(cuda: str) -> None:
    leaves = tensors(cuda, 2, 4, 100, 64, dtype=torch.float32)
    with torch.autocast("cuda", dtype=BF16):
        out = attention(*leaves, backend="fused")
    assert out.dtype == BF16
    assert torch.equal(out, attention(*(x.to(BF16) for x in leaves), backend="fused"))
    assert all(g.dtype == torch.float32 for g in torch.autograd.grad(out.float().sum(), leaves))


class Layer(nn.Module):
    """Attention of one head with a learned bias."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.bias = nn.Linear(64, 192), nn.Parameter(torch.zeros(100))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.project(x)[:, None].chunk(3, dim=-1)
        return attention(query, key, value, mask=Causal(), bias=self.bias, backend="fused")


def test_distributed_data_parallel_gives_the_same_gradients(cuda: str, tmp_path: Path) -> None:
    torch.distributed.init_process_group("nccl", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        torch.manual_seed(0)
        layer, x = Layer().to(cuda), torch.randn(2, 100, 64, device=cuda)
        want = torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))
        nn.parallel.DistributedDataParallel(layer, device_ids=[0])(x).square().sum().backward()
        for parameter, grad in zip(layer.parameters(), want, strict=True):
            torch.testing.assert_close(parameter.grad, grad)
    finally:
        torch.distributed.destroy_process_group()
