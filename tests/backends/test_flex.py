"""FlexAttention as a backend: what test_conformance.py, which runs it as it runs every backend, cannot ask on a CPU.

PyTorch does not let FlexAttention train on a CPU, though the unfused backward pass, by which it tests its own kernels,
would run there. Here it does, so that the gradients of our translation are proven without a GPU.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import jaxtyping
import pytest
import torch
import torch.nn.attention.flex_attention as torch_flex
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from attnkit import attention, explain
from attnkit.backends import BackendUnsupported, Options, flex
from attnkit.masks import Causal, Document, Mask, Padding, Prefix, Sizes, Window
from attnkit.positions import LinearBias
from attnkit.testing import EXAMPLES, Example, inputs, judge, run
from attnkit.testing.examples import viewed
from tests.tools import need

pytestmark = pytest.mark.slow

FROM_LSE = "its backward pass recomputes the weights from lse, whose rounding at 1e4 changes each of them"
FROM_ROUNDED = "its backward pass takes the output as it was rounded, so gradients that cancel out do not quite"

# Where FlexAttention is outside the bound, in a gradient: in which dtypes, how many times the bound at most, and why.
DEVIATIONS = {
    "logits near 1e4": ((torch.float64, torch.float32), 5000, FROM_LSE),
    "logits near 1e4, causal, grouped": ((torch.float64, torch.float32), 200, FROM_LSE),
    "logits near 1e4, softcap": ((torch.float64, torch.float32), 2, FROM_LSE),
    "bias (13, 1)": ((torch.bfloat16, torch.float16), 2, FROM_ROUNDED),
    "linear bias: upper left 14x5": ((torch.bfloat16,), 2, FROM_ROUNDED),
}


@pytest.fixture(autouse=True)
def annotations_are_not_enforced() -> Iterator[None]:
    """FlexAttention traces our functions, and cannot follow the checks that tests wrap them in."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture
def trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """FlexAttention may train on a CPU."""
    monkeypatch.setattr(torch_flex, "_validate_device", lambda *_: None)
    monkeypatch.setattr(flex, "_wants_gradients", lambda *_: False)


def refused(example: Example) -> bool:
    """Can FlexAttention not do this at all? See test_what_it_cannot_do_is_declined."""
    leaves = inputs(example, torch.float64)
    with torch.no_grad():
        return flex.unsupported(*viewed(leaves, example), example.options(leaves)) is not None


ABLE = [e for e in EXAMPLES if not refused(e)]


# In half precision only those whose gradient is a sum over many scores, where the order of rounding shows.
CASES = [(e, torch.float64, ("lse",)) for e in ABLE] + [
    (e, torch.bfloat16, ()) for e in ABLE if e.bias is not None or e.linear is not None or e.sink
]


@pytest.mark.parametrize(("example", "dtype", "aux"), CASES, ids=lambda x: x.name if isinstance(x, Example) else str(x))
@pytest.mark.usefixtures("trains")
def test_gradients_are_as_exact_as_the_definitions(example: Example, dtype: torch.dtype, aux: tuple[str, ...]) -> None:
    verdicts = judge(run("flex", example, dtype, aux=aux), example, dtype)
    dtypes, factor, _ = DEVIATIONS.get(example.name, ((), 0, ""))
    far = [v for v in verdicts if not v.ok]
    if dtype not in dtypes:
        assert not far, "\n".join(map(str, verdicts))
        return
    assert far, "FlexAttention is inside the bound now: remove the deviation"
    assert all(v.result.startswith("d ") for v in far)
    assert all(v.largest <= factor * v.largest_allowed and v.rms <= factor * v.rms_allowed for v in far)


def fake(*shape: int, device: str = "cuda", dtype: torch.dtype = torch.bfloat16, wants: bool = False) -> Tensor:
    """A tensor on a device that need not be there."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        return torch.empty(shape, device=device, dtype=dtype, requires_grad=wants)


def reason(query: Tensor, value: Tensor | None = None, **options) -> str | None:
    return flex.unsupported(query, query, query if value is None else value, Options(**options))


REFUSALS = {
    "no dropout": ((2, 2, 13, 16), {"dropout": 0.1}),
    "returns no weights and no entropy": ((2, 2, 13, 16), {"aux": ("lse", "weights", "entropy")}),
    "hold nothing": ((2, 2, 0, 16), {}),
    "width 16 and more, not 8": ((2, 2, 13, 8), {}),
}


@pytest.mark.parametrize("why", REFUSALS)
def test_what_it_cannot_do_is_declined(why: str) -> None:
    shape, options = REFUSALS[why]
    assert why in (reason(fake(*shape), **options) or "")
    assert ("width" in why) == (reason(fake(*shape, device="cpu"), **options) is None)  # that is for a GPU only


def test_which_numbers_it_takes_depends_on_the_device() -> None:
    """A GPU trains and has no float64, a CPU has float64 and does not train; nothing else is tried."""
    shape = (2, 2, 13, 16)
    assert reason(fake(*shape, wants=True)) is None
    assert reason(fake(*shape, dtype=torch.float64)) == "FlexAttention's kernels sum in float32"
    assert reason(fake(*shape, device="cpu", dtype=torch.float64)) is None
    assert reason(fake(*shape, device="cpu", wants=True)) == "FlexAttention cannot train on a CPU"
    for name in ("bias", "sink"):
        assert "cannot train" in (
            reason(fake(*shape, device="cpu"), **{name: torch.zeros(2, requires_grad=True)}) or ""
        )
    slopes = LinearBias(torch.zeros(2, requires_grad=True))
    assert "cannot train" in (reason(fake(*shape, device="cpu"), linear=slopes) or "")
    assert "CPUs and NVIDIA GPUs only" in (reason(fake(*shape, device="mps")) or "")
    assert "width 16 and more, not 8" in (reason(fake(*shape), value=fake(2, 2, 13, 8)) or "")


def test_auto_takes_it_for_a_score_function_on_a_gpu_and_for_nothing_else() -> None:
    q, plain, own = fake(2, 2, 13, 16), Options(), Options(score_mod=lambda s, b, h, q, k: s)
    assert flex.wasteful(q, q, q, own) is None
    assert "by name" in (flex.wasteful(q, q, q, plain) or "")
    here = torch.zeros(2, 2, 13, 16)
    for options in (plain, own):
        assert "by name" in (flex.wasteful(here, here, here, options) or "")
    assert explain(here, here, here, score_mod=own.score_mod).taken == "naive"


def test_declined_by_name_is_an_error() -> None:
    x = torch.zeros(1, 1, 4, 8, requires_grad=True)
    with pytest.raises(BackendUnsupported, match="'flex' cannot do this: FlexAttention cannot train on a CPU"):
        attention(x, x, x, backend="flex")
    with torch.no_grad():
        assert attention(x, x, x, backend="flex").shape == x.shape


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape) + sum(shape)), dtype=torch.float64)


TABLE = numbers(4, 25)

SCORE_MODS = {
    "tanh of the distance": lambda s, b, h, q, k: s + torch.tanh((q - k) / 3.0),
    "a captured table": lambda s, b, h, q, k: s + TABLE[h, q - k + 12],
    "another softmax temperature for each head": lambda s, b, h, q, k: s / (1 + h),
    "hides by itself": lambda s, b, h, q, k: torch.where(k <= q - 3, s, float("-inf")),
}


@pytest.mark.parametrize("mask", [None, Causal(), Padding([9, 0])], ids=repr)
@pytest.mark.parametrize("name", SCORE_MODS)
def test_any_score_function_gives_what_the_definition_gives(name: str, mask: Mask | None) -> None:
    q, k, v = numbers(2, 4, 13, 8), numbers(2, 2, 13, 8) * 2, numbers(2, 2, 13, 8)
    options = {
        "mask": mask,
        "score_mod": SCORE_MODS[name],
        "softcap": 3.0,
        "bias": numbers(13, 1, 13)[:4],
        "aux": ("lse",),
    }
    got, got_aux = attention(q, k, v, backend="flex", **options)
    want, want_aux = attention(q, k, v, backend="naive", **options)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(got_aux.lse, want_aux.lse, rtol=1e-12, atol=1e-14)


def test_a_score_function_comes_after_softcap_and_bias() -> None:
    """Its result is not capped: with a cap of 1, a score of 30 gives weights that no capped score could."""
    q, v = torch.zeros(1, 1, 2, 8), torch.eye(2).view(1, 1, 2, 2)
    out = attention(q, q, v, softcap=1.0, score_mod=lambda s, b, h, q, k: s + 30.0 * (k == 1), backend="flex")
    assert (out[..., 1] > 0.999).all()


def test_what_a_score_function_captures_learns_even_on_a_cpu() -> None:
    q, k, v = numbers(2, 4, 13, 8), numbers(2, 4, 13, 8) * 2, numbers(2, 4, 13, 8)

    def gradient(backend: str) -> Tensor:
        table = TABLE.clone().requires_grad_()
        out = attention(
            q, k, v, mask=Causal(), score_mod=lambda s, b, h, q, k: s + table[h, q - k + 12], backend=backend
        )
        return torch.autograd.grad(out.square().sum(), table)[0]

    assert gradient("naive").abs().max() > 0.1
    torch.testing.assert_close(gradient("flex"), gradient("naive"), rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("trains")
def test_rows_that_see_nothing_are_0_in_every_result() -> None:
    q, k, v = (numbers(2, 2, 13, 8 + i)[..., :8].requires_grad_() for i in range(3))
    sink = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(13, dtype=torch.float64, requires_grad=True)
    out, aux = attention(q, k, v, mask=Padding([0, 5]), sink=sink, bias=bias, backend="flex", aux=("lse",))
    assert out[0].eq(0).all()
    assert aux.lse[0].isneginf().all()
    assert aux.lse[1].isfinite().all()
    gradients = torch.autograd.grad(out.sum() + aux.lse[1].sum(), (q, k, v, bias, sink))
    assert all(g.isfinite().all() for g in gradients)
    assert all(g[0].eq(0).all() and g[1].ne(0).any() for g in gradients[:3])
    assert gradients[3][5:].eq(0).all()


def test_a_second_derivative_is_refused() -> None:
    q, table = numbers(1, 4, 13, 8), TABLE.clone().requires_grad_()
    out = attention(q, q, q, score_mod=lambda s, b, h, q, k: s + table[h, q - k + 12], backend="flex")
    (first,) = torch.autograd.grad(out.square().sum(), table, create_graph=True)
    with pytest.raises(RuntimeError, match="not implemented for flex_attention_backward"):
        first.square().sum().backward()


@pytest.mark.parametrize(
    ("mask", "axes"),
    [
        (Causal(), (1, 1)),
        (Window(3, 0) | Prefix(2), (1, 1)),
        (Causal() & Padding([3, 200]), (2, 1)),
        (Document(torch.arange(300) // 100), (1, 1)),
    ],
    ids=repr,
)
def test_a_block_mask_is_no_larger_than_the_mask_and_says_the_same(mask: Mask, axes: tuple[int, int]) -> None:
    sizes = Sizes(2, 3, 300, 300)
    blocks = flex.block_mask(mask, sizes, torch.device("cpu"))
    assert blocks.shape == (*axes, 300, 300)
    seen = torch.zeros(*axes, 384, 384, dtype=torch.bool)
    seen[:, :, :300, :300] = mask.materialize(*sizes)
    want = seen.unflatten(3, (3, 128)).unflatten(2, (3, 128)).any(dim=(3, 5))
    assert torch.equal(blocks.to_dense().bool(), want)


def eager() -> Callable:
    """What `flex._compiled` is on a GPU, without its compiler: traced, and then run as it stands."""
    return functools.cache(lambda function: torch.compile(function, fullgraph=True, backend="eager"))


def test_more_kinds_of_call_than_pytorch_expects_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    monkeypatch.setattr(flex, "_compiled", eager())
    q = numbers(1, 2, 13, 16)
    for softcap in range(1, 10):
        mod = flex.score_mod(q, q, Options(softcap=float(softcap)))
        out, _ = flex._call(
            torch_flex.flex_attention, torch.device("cuda"), q, q, q, score_mod=mod, return_aux=torch_flex.AuxRequest()
        )
        torch.testing.assert_close(out, attention(q, q, q, softcap=float(softcap), backend="naive"))
    again = flex.score_mod(q, q, Options(softcap=10.0))
    few = torch._dynamo.config.patch(recompile_limit=8)
    with few, pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):  # and without our settings they are not
        flex._compiled(torch_flex.flex_attention)(q, q, q, score_mod=again, return_aux=torch_flex.AuxRequest())


INSIDE = """
import torch
from attnkit.backends import Options, flex
from attnkit.masks import Causal, Padding

q, k, v = (torch.randn(2, n, 13, 16) for n in (4, 2, 2))
options = Options(mask=Causal() & Padding([5, 9]), softcap=2.0, scale=0.3, sink=torch.zeros(4), aux=("lse",))

def function(q, k, v):
    out, aux = flex.attend(q, k, v, options)
    return out, aux.lse

traced = torch.compile(function, backend="eager", fullgraph=True)
for got, want in zip(traced(q, k, v), function(q, k, v), strict=True):
    assert torch.equal(got, want)
"""


def test_it_can_be_a_part_of_a_compiled_function() -> None:
    """In a process of its own, since torch.compile cannot follow the checks of annotations that tests run with."""
    done = subprocess.run([sys.executable, "-c", INSIDE], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("mask", [Causal() & Padding([5, 300]), Document(torch.arange(300) // 100)], ids=repr)
def test_our_functions_go_through_the_compiler_as_well(mask: Mask) -> None:
    """On a CPU, but by the same lowering of the functions as on a GPU; without lse, which a CPU does not give."""
    need(shutil.which("g++"), "g++: torch.compile makes C++ for a CPU")
    rich = Example(
        "compiled", q_len=300, k_len=300, heads=4, d=16, d_v=16, mask=lambda _: mask, bias=(2, 1, 1, 300), softcap=2.0,
        score_mod=lambda s, b, h, q, k: s + TABLE[h, (q - k).clamp(-12, 12) + 12].to(s.dtype),
    )  # fmt: skip
    leaves = {name: x.detach() for name, x in inputs(rich, torch.float32).items()}
    q, k, v = viewed(leaves, rich)
    options = replace(rich.options(leaves), linear=LinearBias(torch.zeros(4)))
    blocks = flex.block_mask(mask, rich.sizes, q.device)
    with torch.no_grad():
        out = flex._call(
            torch_flex.flex_attention, torch.device("cuda"), q, k, v, score_mod=flex.score_mod(q, k, options),
            block_mask=blocks, scale=options.scale, enable_gqa=True,
        )  # fmt: skip
    assert all(v.ok for v in judge({"out": out}, rich, torch.float32))
