"""Our kernels as a flash implementation of PyTorch: names, signatures, numbers and gradients through its dispatcher.

Without a GPU the kernels are installed for CPU tensors, where PyTorch has no flash operator of its own, and run in
Triton's interpreter; its autograd formula then calls our backward pass as it would on a GPU.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
import torch.nn.attention as torch_attention
from torch import Tensor

from attnkit import testing
from attnkit.kernels import flash_impl, tiles
from attnkit.masks import Causal
from attnkit.testing import Example, example, inputs, judge
from attnkit.testing.bound import upstream
from attnkit.testing.examples import Results, viewed

pytestmark = pytest.mark.slow

HALF = (torch.float16, torch.bfloat16)
aten = torch.ops.aten


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small inputs cross many borders of tiles."""
    monkeypatch.setattr(tiles, "choose", lambda *a, **k: tiles.Tile(8, 8, 4, 1))


@pytest.fixture
def installed() -> Iterator[None]:
    """Our kernels stand in for CPU tensors."""
    handle = flash_impl.install("CPU")
    yield
    handle.remove()


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """PyTorch's registry, left as it was found."""
    from torch.nn.attention import _registry

    monkeypatch.setattr(_registry, "_FLASH_ATTENTION_IMPLS", dict(_registry._FLASH_ATTENTION_IMPLS))
    yield torch_attention
    torch_attention.restore_flash_attention_impl(_raise_warn=False)


@pytest.mark.parametrize("ours", [flash_impl.forward, flash_impl.backward], ids=lambda f: f.__name__)
def test_arguments_and_results_are_those_of_the_operator(ours) -> None:
    end = "_backward" if ours is flash_impl.backward else ""
    schema = getattr(aten, f"_scaled_dot_product_flash_attention{end}").default._schema
    mine = list(inspect.signature(ours).parameters.values())
    assert [p.name for p in mine] == [a.name for a in schema.arguments]
    assert [p.kind == p.KEYWORD_ONLY for p in mine] == [a.kwarg_only for a in schema.arguments]
    empty = inspect.Parameter.empty
    theirs = [a.default_value if a.has_default_value() else empty for a in schema.arguments]
    assert [p.default for p in mine] == theirs
    assert len(schema.returns) == (3 if end else 9)


def test_nothing_happens_before_it_is_asked_for() -> None:
    code = """
import torch.nn.attention as a
before = a.list_flash_attention_impls()
import sys, attnkit
from attnkit import testing
from attnkit.kernels import flash_impl
assert a.list_flash_attention_impls() == before and "triton" not in sys.modules
flash_impl.register()
assert set(a.list_flash_attention_impls()) - set(before) == {"attnkit"}
assert a.current_flash_attention_impl() is None and "triton" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_it_is_registered_activated_and_restored(hook: ModuleType) -> None:
    flash_impl.register()
    flash_impl.register()  # twice does no harm
    assert hook.list_flash_attention_impls().count("attnkit") == 1
    assert hook.current_flash_attention_impl() is None
    hook.activate_flash_attention_impl("attnkit")
    assert hook.current_flash_attention_impl() == "attnkit"
    for name in ("_scaled_dot_product_flash_attention", "_scaled_dot_product_flash_attention_backward"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", "CUDA")
    hook.activate_flash_attention_impl("attnkit")  # which restores first
    hook.restore_flash_attention_impl()
    assert hook.current_flash_attention_impl() is None


def test_removed_kernels_are_gone() -> None:
    q = torch.randn(1, 2, 5, 16)
    before = torch._C._dispatch_has_kernel_for_dispatch_key("aten::_scaled_dot_product_flash_attention", "CPU")
    handle = flash_impl.install("CPU")
    assert aten._scaled_dot_product_flash_attention(q, q, q)[0].shape == q.shape
    handle.remove()
    assert torch._C._dispatch_has_kernel_for_dispatch_key("aten::_scaled_dot_product_flash_attention", "CPU") == before
    with pytest.raises(NotImplementedError, match="CPU"):
        aten._scaled_dot_product_flash_attention(q, q, q)


def test_a_pytorch_without_the_hook_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch_attention, "register_flash_attention_impl")
    with pytest.raises(
        RuntimeError, match=rf"torch {torch.__version__.partition('+')[0]}.* has no .*attnkit.attention"
    ):
        flash_impl.register()


EXAMPLES = [
    *(example(name) for name in ("plain", "mask: causal", "one query and key", "grouped queries", "negative scale")),
    *(e for e in testing.EXAMPLES if e.name.startswith("layout")),
    Example("queries fewer than keys", q_len=5, k_len=14),
    Example("queries more than keys, one key head", q_len=14, k_len=5, heads=4, kv_heads=1),
    Example("wide and ragged", q_len=21, k_len=21, batch=1, d=40, d_v=40, mask=lambda s: Causal()),
    Example("large scores", logits=30.0, mask=lambda s: Causal()),
]

# The one case outside the bound: PyTorch keeps the output as it was rounded, which the gradient of the scores needs.
DEVIATION = ("large scores", torch.bfloat16)


def call(example: Example, leaves: Results) -> tuple:
    """The operator, as `F.scaled_dot_product_attention` calls it."""
    causal = example.mask is not None
    return aten._scaled_dot_product_flash_attention(*viewed(leaves, example), 0.0, causal, scale=example.scale)


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
@pytest.mark.usefixtures("installed")
def test_values_and_gradients_are_as_exact_as_the_definitions(example: Example, dtype: torch.dtype) -> None:
    leaves = inputs(example, dtype)
    out, lse, *_ = call(example, leaves)
    gradients = torch.autograd.grad(out, tuple(leaves.values()), upstream(example, [out]))
    got = {"out": out.detach()} | {f"d {name}": g for name, g in zip(leaves, gradients, strict=True)}
    verdicts = judge(got, example, dtype) + judge({"out": out.detach(), "lse": lse.detach()}, example, dtype)
    far = [v for v in verdicts if not v.ok]
    if (example.name, dtype) != DEVIATION:
        assert not far, "\n".join(map(str, verdicts))
        return
    assert [v.result for v in far] == ["d query"], "it is inside the bound now: remove the deviation"
    assert far[0].largest <= 2 * far[0].largest_allowed
    assert far[0].rms <= 2 * far[0].rms_allowed


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
@pytest.mark.usefixtures("installed")
def test_results_lie_in_memory_as_pytorch_promises_its_compiler(example: Example) -> None:
    leaves = inputs(example, torch.float16)
    got = call(example, leaves)
    promised = call(example, {name: x.detach().to("meta") for name, x in leaves.items()})
    for ours, theirs in zip(got, promised, strict=True):
        if isinstance(theirs, Tensor):
            assert (ours.shape, ours.dtype, ours.stride()) == (theirs.shape, theirs.dtype, theirs.stride())
        else:
            assert ours == theirs
    given = [x.detach() for x in viewed(leaves, example)]
    causal = example.mask is not None
    rest = (got[0].detach(), got[1].detach(), None, None, example.q_len, example.k_len, 0.0, causal, got[6], got[7])
    gradients = flash_impl.backward(torch.ones_like(got[0]), *given, *rest)
    for gradient, x in zip(gradients, given, strict=True):
        assert gradient.stride() == torch.empty_like(x).stride()


@pytest.mark.usefixtures("installed")
def test_compiled_code_takes_it_with_its_gradients() -> None:
    q, k, v = (torch.randn(2, 13, 2, 16).half().transpose(1, 2).requires_grad_() for _ in range(3))

    def function(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return aten._scaled_dot_product_flash_attention(q * 2, k, v, 0.0, True)[0] + 1

    up = torch.randn_like(function(q, k, v))
    traced = torch.compile(function, backend="aot_eager", fullgraph=True)
    want, got = (torch.autograd.grad(f(q, k, v), (q, k, v), up) for f in (function, traced))
    assert all(torch.equal(a, b) for a, b in zip(want, got, strict=True))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"dropout_p": 0.1}, "attnkit drops other weights than PyTorch's generator would"),
        ({"return_debug_mask": True}, "attnkit has no debug mask"),
        ({"is_causal": True}, "5 queries and 7 keys"),
    ],
)
def test_what_would_be_wrong_is_refused(options: dict, why: str) -> None:
    q, k = torch.zeros(1, 2, 5, 16), torch.zeros(1, 2, 7, 16)
    with pytest.raises(NotImplementedError, match=why):
        flash_impl.forward(q, k, k, **options)
    if "dropout_p" in options:
        nothing = torch.zeros(())
        with pytest.raises(NotImplementedError, match=why):
            flash_impl.backward(q, q, q, q, q, q[..., 0], None, None, 5, 5, 0.1, False, nothing, nothing)


def test_values_of_another_width_are_refused() -> None:
    q, v = torch.zeros(1, 2, 5, 16), torch.zeros(1, 2, 5, 8)
    with pytest.raises(NotImplementedError, match="heads are 16 and 8 wide"):
        flash_impl.forward(q, q, v)
