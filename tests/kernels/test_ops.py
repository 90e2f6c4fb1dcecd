"""The kernels as operators of torch: traced, compiled, under autocast, in data-parallel training, and repeatable."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from attnkit import attention, backends
from attnkit.backends import fused
from attnkit.kernels import ops, tiles
from attnkit.masks import Causal, Padding
from attnkit.testing import example, inputs, judge, run
from attnkit.testing.examples import viewed

pytestmark = pytest.mark.slow

SMALL = tiles.Tile(8, 8, 4, 1)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small inputs cross many borders of tiles."""
    monkeypatch.setattr(tiles, "choose", lambda *a, **k: SMALL)


def qkv(*shape: int, kv_heads: int | None = None, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Query, key and value that want a gradient."""
    batch, heads, length, d = shape
    shapes = [(batch, heads, length, d)] + [(batch, kv_heads or heads, length, d)] * 2
    return [torch.randn(s, dtype=dtype).requires_grad_() for s in shapes]


def arguments(name: str, dtype: torch.dtype = torch.float32) -> tuple:
    """What the operator is given for an example."""
    chosen = example(name)
    leaves = inputs(chosen, dtype)
    options = replace(chosen.options(leaves), aux=("lse",))
    return fused.operator_arguments(*viewed(leaves, chosen), options)


@pytest.mark.parametrize(
    "name", ["plain", "grouped queries", "any table", "documents", "everything at once", "empty: queries"]
)
def test_torchs_own_check_of_operators_finds_no_fault(name: str) -> None:
    """Schema, fake tensors, gradient registration and tracing with dynamic shapes."""
    full = name if name in ("plain", "grouped queries", "everything at once") or ":" in name else f"mask: {name}"
    torch.library.opcheck(ops.fused_forward, arguments(full))


def test_the_check_covers_half_precision() -> None:
    torch.library.opcheck(ops.fused_forward, arguments("bias (13, 1)", torch.bfloat16))


@pytest.mark.slow
def test_compiled_without_a_graph_break_for_any_length() -> None:
    """One graph for all lengths, the same numbers as without compiling; dropout repeated by its seed.

    In a process of its own: torch cannot trace annotations that are enforced.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernels.compiled"],
        env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["ok"] * 9


def test_autocast_takes_the_kernels_to_half_precision_and_their_gradients_back() -> None:
    tensors = qkv(1, 2, 11, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = attention(*tensors, mask=Causal(), backend="fused")
    assert out.dtype == torch.bfloat16
    grads = torch.autograd.grad(out.float().sum(), tensors)
    assert all(g.dtype == torch.float32 for g in grads)
    half = [x.detach().bfloat16().requires_grad_() for x in tensors]
    want = attention(*half, mask=Causal(), backend="fused")
    assert torch.equal(out, want)
    assert all(
        torch.equal(a, b.float()) for a, b in zip(grads, torch.autograd.grad(want.float().sum(), half), strict=True)
    )


def test_the_same_bits_each_time() -> None:
    """No program adds to what another adds to."""
    first = run("fused", example("everything at once"), torch.float32)
    for _ in range(5):
        again = run("fused", example("everything at once"), torch.float32)
        assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize(("d", "d_v"), [(40, 40), (80, 16), (96, 128), (128, 96), (256, 256)])
def test_heads_of_every_width_are_as_exact_as_the_definition(d: int, d_v: int, dtype: torch.dtype) -> None:
    """Widths that are no power of two are padded; wide float32 products are made in pieces."""
    wide = example("grouped queries", d=d, d_v=d_v, heads=2, kv_heads=1, batch=1)
    verdicts = judge(run("fused", wide, dtype), wide, dtype)
    assert all(v.ok for v in verdicts), "\n".join(map(str, verdicts))


def test_a_second_derivative_is_refused_in_words() -> None:
    tensors = qkv(1, 1, 4, 8)
    out = attention(*tensors, backend="fused")
    (grad,) = torch.autograd.grad(out.sum(), tensors[:1], create_graph=True)
    with pytest.raises(backends.BackendUnsupported, match="second derivative"):
        torch.autograd.grad(grad.sum(), tensors)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["key", "value", "both"])
def test_a_hidden_key_has_no_influence_whatever_it_holds(value: float, where: str) -> None:
    """In the output, and in every gradient; a query that does see it becomes NaN."""
    mask = Causal() & Padding([10, 6])
    clean = qkv(2, 2, 12, 8)
    spoilt = [x.detach().clone() for x in clean]
    for name, x in zip(("key", "value"), spoilt[1:], strict=True):
        if where in (name, "both"):
            x[1, :, 7] = value  # hidden from all by padding
            x[0, 0, 9, 3] = value  # seen by queries from 9 on
    spoilt = [x.requires_grad_() for x in spoilt]
    want, got = (attention(*x, mask=mask, backend="fused") for x in (clean, spoilt))
    seen = torch.zeros(2, 2, 12, dtype=torch.bool)
    seen[0, 0, 9:] = True
    assert torch.equal(want[~seen], got[~seen])
    if where != "key":  # a key of infinity may as well have the score -inf, and no weight
        assert got[seen].isnan().all()
    healthy = (~seen[..., None]).float()
    pairs = [torch.autograd.grad((x.nan_to_num() * healthy).sum(), t) for x, t in ((want, clean), (got, spoilt))]
    # Upstream of the rows that see it is 0 * NaN: only what such a row cannot reach is compared.
    assert torch.equal(pairs[0][0][~seen], pairs[1][0][~seen])
    assert torch.equal(pairs[0][1][1], pairs[1][1][1])
    assert torch.equal(pairs[0][2][1], pairs[1][2][1])


DDP = """
import os, sys, torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from attnkit.nn import MultiHeadAttention
rank = int(os.environ["RANK"])
dist.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=rank, world_size=2)
torch.manual_seed(0)
module = MultiHeadAttention(16, 2, backend="fused")
x = torch.randn(2, 9, 16)
wrapped = DistributedDataParallel(module)
wrapped(x[rank : rank + 1]).square().mean().backward()
mine = [p.grad.clone() for p in module.parameters()]
module.zero_grad()
module(x).square().mean().backward()
assert all(torch.allclose(a, p.grad, atol=1e-6) for a, p in zip(mine, module.parameters()))
dist.destroy_process_group()
print("equal")
"""


@pytest.mark.slow
def test_data_parallel_training_gives_the_gradients_of_the_whole_batch(tmp_path: Path) -> None:
    code = tmp_path / "ddp.py"
    code.write_text(DDP, "utf-8")
    ranks = [
        subprocess.Popen(
            [sys.executable, str(code), str(tmp_path / "meeting")],
            env=os.environ | {"RANK": str(rank), "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    for process in ranks:
        out, error = process.communicate(timeout=300)
        assert process.returncode == 0, error
        assert "equal" in out


@pytest.mark.parametrize("backend", ["fused", "online", "naive"])
def test_a_query_that_sees_nothing_does_not_see_a_huge_sink_either(backend: str) -> None:
    tensors, sink = qkv(1, 2, 6, 8), torch.tensor([200.0, -200.0]).requires_grad_()
    mask = Padding([0])
    out, aux = attention(*tensors, mask=mask, sink=sink, backend=backend, aux=("lse",))
    assert aux.lse.isneginf().all()
    assert not out.any()
    assert not any(g.any() for g in torch.autograd.grad(out.sum(), [*tensors, sink]))


def test_torchs_own_check_of_the_readings_finds_no_fault() -> None:
    given = [x.detach() if isinstance(x, Tensor) else x for x in arguments("everything at once")]
    *_, row_max, row_sum = ops.fused_forward(*given)
    rows = torch.tensor([0, 5])
    torch.library.opcheck(ops.fused_reading, (row_max, row_sum, rows, *given[:-2], True, True))
