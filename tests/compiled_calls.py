"""Calls of attention under torch.compile, run by test_compile.py in an interpreter of its own: there annotations are
not enforced, whose wrappers torch.compile cannot follow. Prints what happened to each call as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from attnkit import attention, backends
from attnkit.backends import naive
from attnkit.backends.common import Aux, Options, Rows, visible_table, with_table
from attnkit.masks import Causal, Dense, Document, Not, Padding, Prefix, Window
from attnkit.positions import LinearBias

LENGTHS = ((5, 7), (6, 9), (11, 13), (17, 19), (16, 32))


@torch.library.custom_op("attnkit_tests::opaque", mutates_args=())
def opaque(
    query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, bias: Tensor | None, sink: Tensor | None,
    seed: Tensor | None, dropout: float, scale: float, softcap: float | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """A kernel of which torch.compile knows nothing but the shapes of its results."""
    mask = None if visible is None else Dense(visible)
    rest = {"sink": sink, "seed": seed, "dropout": dropout, "scale": scale, "softcap": softcap}
    out, aux = naive.attend(query, key, value, Options(mask=mask, bias=bias, aux=("lse",), **rest))
    return out, aux.lse


@opaque.register_fake
def _(query, key, value, visible, bias, sink, seed, dropout, scale, softcap):
    return query.new_empty(*query.shape[:3], value.shape[3]), query.new_empty(query.shape[:3])


def attend(query: Tensor, key: Tensor, value: Tensor, options: Options) -> tuple[Tensor, Aux]:
    """As a backend hands a call to its kernel."""
    o, visible = with_table(options, query, key), visible_table(query, key, options)
    out, lse = opaque(query, key, value, visible, o.bias, o.sink, o.seed, o.dropout, o.scale, o.softcap)
    return out, Aux(lse=lse if "lse" in options.aux else None)


kernel = ModuleType("attnkit.backends.kernel")
vars(kernel).update(attend=attend, GUARDS_HIDDEN=True, unsupported=lambda *_: None, wasteful=lambda *_: None)
backends.ORDER, backends._loaded["kernel"] = ("kernel", *backends.ORDER), kernel

BEFORE = {"causal": Causal("lower_right"), "padding": Padding([4, 3])}
Call = Callable[[Tensor, Tensor, Tensor, str], Tensor]


def document(q: Tensor, k: Tensor) -> Document:
    """Documents that are known only when the compiled function runs."""
    key_ids = (k[:, 0, :, 0] > 0).long().cumsum(1)
    return Document(key_ids[:, : q.shape[2]], key_ids)


CALLS: dict[str, Call] = {
    "plain": lambda q, k, v, b: attention(q, k, v, backend=b),
    "mask made inside": lambda q, k, v, b: attention(q, k, v, mask=Causal("lower_right"), backend=b),
    "mask made before": lambda q, k, v, b: attention(q, k, v, mask=BEFORE["causal"], backend=b),
    "upper left": lambda q, k, v, b: attention(q, k, v, mask=Causal("upper_left"), backend=b),
    "padding made before": lambda q, k, v, b: attention(q, k, v, mask=BEFORE["padding"], backend=b),
    "padding made inside": lambda q, k, v, b: attention(q, k, v, mask=Padding([4, 3]), backend=b),
    # `Not`, since torch.compile knows & and | of objects but not ~
    "masks made inside and composed": lambda q, k, v, b: attention(
        q, k, v, mask=(Prefix(2) | BEFORE["causal"]) & Not(Window(0, 0, "upper_left")), backend=b
    ),
    "documents": lambda q, k, v, b: attention(q, k, v, mask=document(q, k), backend=b),
    "table": lambda q, k, v, b: attention(q, k, v, mask=q[..., :1] > 0, backend=b),
    "bias": lambda q, k, v, b: attention(
        q, k, v, bias=q[:1, :, :, :1] * k[:1, :1, :, 0], mask=BEFORE["causal"], backend=b
    ),
    "slopes": lambda q, k, v, b: attention(q, k, v, bias=LinearBias(q[0, :, 0, 0], align="lower_right"), backend=b),
}  # fmt: skip
ONLY_OPAQUE: dict[str, Call] = {
    "dropout": lambda q, k, v, b: attention(q, k, v, dropout=0.25, mask=BEFORE["causal"], backend=b),
    "sink and softcap": lambda q, k, v, b: attention(q, k, v, sink=q[0, :, 0, 0], softcap=2.0, scale=0.5, backend=b),
    "lse": lambda q, k, v, b: attention(q, k, v, aux=("lse",), backend=b)[1].lse,
}
ONLY_NAIVE: dict[str, Call] = {
    "mask made inside": CALLS["mask made inside"],
    "readings": lambda q, k, v, b: attention(q, k, v, aux=("entropy", Rows([0, -1])), backend=b)[1].row_weights,
    "score_mod": lambda q, k, v, b: attention(q, k, v, score_mod=lambda s, b, h, q, k: s - (q - k).abs(), backend=b),
}


def tensors(q_len: int, k_len: int, grad: bool = False, sick: bool = False) -> list[Tensor]:
    rng = torch.Generator().manual_seed(q_len)
    shapes = (2, 4, q_len, 8), (2, 2, k_len, 8), (2, 2, k_len, 8)
    q, k, v = (torch.randn(s, generator=rng) for s in shapes)
    if sick:
        k[:, 0, -1], v[0, :, 4] = float("nan"), float("inf")
    return [x.requires_grad_(grad) for x in (q, k, v)]


def compare(call: Call, backend: str, dynamic: bool | None, grad: bool = False, sick: bool = False) -> int:
    """Compiled equals eager at every length; how many graphs that took. Raises at the first graph break."""
    torch._dynamo.reset()
    graphs: list[object] = []
    compiled = torch.compile(
        call, fullgraph=True, dynamic=dynamic, backend=lambda graph, _: (graphs.append(graph), graph.forward)[1]
    )
    for q_len, k_len in LENGTHS:
        leaves, results = tensors(q_len, k_len, grad, sick), []
        for function in (compiled, call):
            torch.manual_seed(1)
            out = function(*leaves, backend)
            clean = out.isfinite().to(out.dtype)  # a gradient for what is NaN would be NaN everywhere
            results.append([out, *(torch.autograd.grad(out, leaves, clean, allow_unused=True) if grad else ())])
        for got, want in zip(*results, strict=True):
            torch.testing.assert_close(got, want, equal_nan=True, rtol=1e-5, atol=1e-6)
    return len(graphs)


def under_autocast(q: Tensor, k: Tensor, v: Tensor, backend: str) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return attention(q, k, v, mask=Causal("lower_right"), backend=backend)


def main(which: str) -> None:
    runs: dict[str, Callable[[], int]] = {}
    if which == "opaque":  # the front door alone
        for name, call in {**CALLS, **ONLY_OPAQUE, "autocast": under_autocast}.items():
            runs[f"{name}, dynamic"] = lambda call=call: compare(call, "auto", True)
        for name in ("plain", "mask made inside", "bias"):
            runs[f"{name}, by itself"] = lambda name=name: compare(CALLS[name], "kernel", None)
    else:  # whose own work is compiled too; hidden keys hold NaN where there are any
        for name, call in (CALLS if which == "sdpa" else ONLY_NAIVE).items():
            sick = "mask" in name or "padding" in name
            runs[name] = lambda call=call, sick=sick: compare(call, which, True, False, sick)
            if name != "readings":
                runs[f"{name}, with gradients"] = lambda call=call, sick=sick: compare(call, which, True, True, sick)
    happened = {}
    for name, run in runs.items():
        try:
            happened[name] = {"graphs": run()}
        except Exception as error:  # each case is told about by itself
            happened[name] = {"error": f"{type(error).__name__}: {str(error)[:1500]}"}
    print(json.dumps(happened))


if __name__ == "__main__":
    main(sys.argv[1])
