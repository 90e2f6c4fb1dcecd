"""Who is measured: ours, each kernel behind PyTorch's attention by itself, FlexAttention compiled, and the definition.

A contender prepares a call from a case and its tensors, with whatever it can do beforehand (tables, block masks,
compilation) done beforehand. Who cannot do a case raises, and is listed with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from attnkit.attention import attention
from attnkit.bench.gpu.cases import Case, Inputs

Call = Callable[[], Tensor]

OURS = "ours"
FLASH, CUDNN, EFFICIENT = "sdpa-flash", "sdpa-cudnn", "sdpa-efficient"

# The definition holds several float32 tables of all scores. Above 4 GiB each, measuring it tells nothing new.
LARGEST_TABLE = 2**32


class Declined(Exception):
    """A contender does not take part in a case; the message says why."""


@dataclass(frozen=True)
class Contender:
    """A name, and how to make the call that computes a case's output. Gradients flow to the case's tensors."""

    name: str
    prepare: Callable[[Case, Inputs], Call]


def contenders(case: Case) -> list[Contender]:
    """Who is measured on a case. What dispatch costs is asked of SDPA as a caller finds it, with nothing pinned."""
    if case.family == "dispatch":
        return [ours(), sdpa("sdpa", None)]
    return [
        ours(),
        sdpa(FLASH, SDPBackend.FLASH_ATTENTION),
        sdpa(CUDNN, SDPBackend.CUDNN_ATTENTION),
        sdpa(EFFICIENT, SDPBackend.EFFICIENT_ATTENTION),
        flex(),
        definition(),
    ]


def ours(backend: str = "fused") -> Contender:
    """`attnkit.attention` with one of its backends."""

    def prepare(case: Case, inputs: Inputs) -> Call:
        mask = case.mask(inputs.query.device)
        return lambda: attention(*inputs[:3], mask=mask, bias=inputs.bias, backend=backend)

    return Contender(OURS, prepare)


def definition() -> Contender:
    """The formula as it reads, where its table of scores fits."""

    def prepare(case: Case, inputs: Inputs) -> Call:
        table = 4 * case.batch * case.heads * case.q_len * case.k_len
        if table > LARGEST_TABLE:
            raise Declined(f"one table of its scores takes {table / 1e9:.1f} GB")
        mask = case.mask(inputs.query.device)
        return lambda: attention(*inputs[:3], mask=mask, bias=inputs.bias, backend="naive")

    return Contender("naive", prepare)


def sdpa(name: str, kernel: SDPBackend | None) -> Contender:
    """F.scaled_dot_product_attention held to one kernel; with None it chooses. Its mask is a table made beforehand."""

    def prepare(case: Case, inputs: Inputs) -> Call:
        mask, table = case.mask(inputs.query.device), inputs.bias
        if mask is not None and not case.causal:
            table = mask.tile(range(case.q_len), range(case.k_len), case.sizes, inputs.query.device)

        def run() -> Tensor:
            with nullcontext() if kernel is None else sdpa_kernel(kernel):
                return F.scaled_dot_product_attention(
                    *inputs[:3], attn_mask=table, is_causal=case.causal, enable_gqa=case.heads != case.kv_heads
                )

        return run

    return Contender(name, prepare)


def flex(function: Callable[..., Tensor] | None = None) -> Contender:
    """FlexAttention, compiled for each case by itself, which is when it is fastest. `function` stands in for it."""

    def prepare(case: Case, inputs: Inputs) -> Call:
        from torch.nn.attention.flex_attention import create_block_mask

        batch = case.batch if case.family == "padding" else None
        rule, device = mask_rule(case, inputs.query.device), inputs.query.device
        blocks = None if rule is None else create_block_mask(rule, batch, None, case.q_len, case.k_len, device)
        bias, run = inputs.bias, function or _compiled_flex()
        # Lambdas: the tests check the types of what is defined with a name, and torch cannot compile the check.
        score = None if bias is None else lambda score, b, h, q, k: score + bias[0, h, q, k]
        options = {"score_mod": score, "block_mask": blocks}
        return lambda: run(*inputs[:3], enable_gqa=case.heads != case.kv_heads, **options)

    return Contender("flex", prepare)


def mask_rule(case: Case, device: torch.device) -> Callable[..., Tensor] | None:
    """The case's mask as FlexAttention wants it written: plain comparisons of indices."""
    window = case.window
    if case.family == "window":
        return lambda b, h, q, k: (q >= k) & (q - k < window)
    if case.family == "padding":
        lengths = case.lengths_on(device)
        return lambda b, h, q, k: k < lengths[b]
    return (lambda b, h, q, k: q >= k) if case.causal else None


def _compiled_flex() -> Callable[..., Tensor]:
    import torch._functorch.config
    from torch.nn.attention.flex_attention import flex_attention

    torch.compiler.reset()  # else torch stops compiling after eight shapes, and runs the eager version instead
    torch._functorch.config.donated_buffer = False  # else its graph cannot be kept, and its backward not timed alone
    return torch.compile(flex_attention, dynamic=False)
