"""The kernels as operators of torch: with shapes for tracing, gradients for training, and no graph breaks.

An operator takes tensors and numbers only; `backends/fused.py` makes them from a call of `attention`. What is kept for
the backward pass is the inputs, the output, and each row's maximum and sum. Not their combination lse: at scores near
1e4 the rounding of a float32 lse alone would change every recomputed weight by a part in a thousand.
"""

from typing import Any

import torch
from torch import Tensor

from attnkit.backends.common import BackendUnsupported
from attnkit.kernels.arguments import LN2
from attnkit.kernels.call import Call, capability_of
from attnkit.kernels.plan import Structure

# The arguments of the operators, in their order: tensors that may want a gradient, other tensors, numbers.
INPUTS = ("query", "key", "value", "bias", "sink", "slopes")
NUMBERS = ("low", "high", "scale", "softcap", "dropout", "origin", "symmetric")


def call_of(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, sink: Tensor | None, slopes: Tensor | None,
    seed: Tensor | None, spans: Tensor | None, table: Tensor | None,
    low: int, high: int, scale: float, softcap: float | None, dropout: float, origin: int, symmetric: bool,
) -> Call:  # fmt: skip
    """An operator's arguments as the kernels' launchers take them."""
    return Call(
        query=query, key=key, value=value, bias=bias, sink=sink, slopes=slopes, seed=seed,
        structure=Structure(low, high, spans, table), scale=scale, softcap=softcap, dropout=dropout,
        origin=origin, symmetric=symmetric, capability=capability_of(query.device),
    )  # fmt: skip


@torch.library.custom_op("attnkit::fused_forward", mutates_args=())
def fused_forward(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, sink: Tensor | None, slopes: Tensor | None,
    seed: Tensor | None, spans: Tensor | None, table: Tensor | None,
    low: int, high: int, scale: float, softcap: float | None, dropout: float, origin: int, symmetric: bool,
    wants_lse: bool, wants_exact: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """(out, exact, lse, row_max, row_sum); `lse` is empty unless wanted.

    `exact` is the output before it is rounded to half precision, which the gradients need; empty unless wanted.
    """
    from attnkit.kernels import decode, forward

    call = call_of(
        query, key, value, bias, sink, slopes, seed, spans, table,
        low, high, scale, softcap, dropout, origin, symmetric,
    )  # fmt: skip
    out, exact, _, row_max, row_sum = _outputs(query, value, False, wants_exact)
    with torch.cuda.device_of(query):
        if decode.pays(call):
            decode.run(call, out, exact if wants_exact else None, row_max, row_sum)
        else:
            forward.launch(call, out, exact if wants_exact else None, row_max, row_sum).run()
    lse = row_max.new_empty(0)
    if wants_lse:  # rounded once
        lse = (row_max.double() + row_sum.double().log2()).mul_(LN2).float()
    return out, exact, lse, row_max, row_sum


@fused_forward.register_fake
def _(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, sink: Tensor | None, slopes: Tensor | None,
    seed: Tensor | None, spans: Tensor | None, table: Tensor | None,
    low: int, high: int, scale: float, softcap: float | None, dropout: float, origin: int, symmetric: bool,
    wants_lse: bool, wants_exact: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    return _outputs(query, value, wants_lse, wants_exact)


def _outputs(
    query: Tensor, value: Tensor, wants_lse: bool, wants_exact: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Memory for the results. A token's heads lie side by side, so that whoever merges the heads need not copy."""
    batch, heads, q_len, _ = query.shape
    out = query.new_empty(batch, q_len, heads, value.shape[3]).transpose(1, 2)
    row_max, row_sum = (query.new_empty(batch, heads, q_len, dtype=torch.float32) for _ in range(2))
    exact = torch.empty_like(out, dtype=torch.float32) if wants_exact else row_max.new_empty(0)
    return out, exact, torch.empty_like(row_max) if wants_lse else row_max.new_empty(0), row_max, row_sum


@torch.library.custom_op("attnkit::fused_backward", mutates_args=())
def fused_backward(
    d_out: Tensor, d_lse: Tensor | None, out: Tensor, row_max: Tensor, row_sum: Tensor,
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, sink: Tensor | None, slopes: Tensor | None,
    seed: Tensor | None, spans: Tensor | None, table: Tensor | None,
    low: int, high: int, scale: float, softcap: float | None, dropout: float, origin: int, symmetric: bool,
    wants_bias: bool, wants_sink: bool, wants_slopes: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of query, key, value, bias, sink and slopes; those that are not wanted are empty."""
    from attnkit.kernels import backward, bias_gradient

    call = call_of(
        query, key, value, bias, sink, slopes, seed, spans, table,
        low, high, scale, softcap, dropout, origin, symmetric,
    )  # fmt: skip
    d_query, d_key, d_value, d_bias, d_sink, d_slopes = _gradients(
        query, key, value, bias if wants_bias else None, sink if wants_sink else None, slopes if wants_slopes else None
    )
    with torch.cuda.device_of(query):
        rows = backward.query_rows(call, d_out, d_lse, out, row_max, row_sum)
        summed = wants_slopes or (wants_bias and bias is not None and bias.shape[3] == 1)
        if summed and query.dtype != torch.float32:
            rows = backward.with_summed_delta(call, rows, d_lse)
        backward.keys_launch(call, rows, d_key, d_value).run()
        distances = torch.empty_like(row_max) if wants_slopes else None
        backward.queries_launch(call, rows, d_query, distances, "distances" if wants_slopes else "").run()
        if distances is not None:
            d_slopes.copy_(-distances.sum(dim=(0, 2)))
        if wants_sink:
            d_sink.copy_(backward.sink_gradient(call, rows))
        if wants_bias:
            d_bias.copy_(bias_gradient.bias_gradient(call, rows))
    return d_query, d_key, d_value, d_bias, d_sink, d_slopes


@fused_backward.register_fake
def _(
    d_out: Tensor, d_lse: Tensor | None, out: Tensor, row_max: Tensor, row_sum: Tensor,
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, sink: Tensor | None, slopes: Tensor | None,
    seed: Tensor | None, spans: Tensor | None, table: Tensor | None,
    low: int, high: int, scale: float, softcap: float | None, dropout: float, origin: int, symmetric: bool,
    wants_bias: bool, wants_sink: bool, wants_slopes: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    return _gradients(
        query, key, value, bias if wants_bias else None, sink if wants_sink else None, slopes if wants_slopes else None
    )


def _gradients(query: Tensor, *others: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Memory for the gradients."""
    d_query, d_key, d_value, d_bias, d_sink, d_slopes = (
        query.new_empty(0) if x is None else x.new_empty(x.shape) for x in (query, *others)
    )
    return d_query, d_key, d_value, d_bias, d_sink, d_slopes


def _keep(ctx: Any, inputs: tuple, output: tuple) -> None:
    """What the backward pass will need."""
    *tensors, low, high, scale, softcap, dropout, origin, symmetric, _, _ = inputs
    out, exact, _, row_max, row_sum = output
    ctx.mark_non_differentiable(exact, row_max, row_sum)
    ctx.set_materialize_grads(False)
    ctx.numbers = (low, high, scale, softcap, dropout, origin, symmetric)
    ctx.save_for_backward(exact if inputs[-1] else out, row_max, row_sum, *tensors)


def _differentiate(ctx: Any, d_out: Tensor | None, _: Any, d_lse: Tensor | None, *others: Any) -> tuple:
    """The gradient of each argument of fused_forward."""
    out, row_max, row_sum, *tensors = ctx.saved_tensors
    wanted = [x is not None and need for x, need in zip(tensors[3:6], ctx.needs_input_grad[3:6], strict=True)]
    if d_out is None:
        d_out = torch.zeros_like(out, dtype=tensors[0].dtype)
    if d_lse is not None and d_lse.numel() == 0:
        d_lse = None
    grads = fused_backward(d_out, d_lse, out, row_max, row_sum, *tensors, *ctx.numbers, *wanted)
    return *grads[:3], *(g if want else None for g, want in zip(grads[3:], wanted, strict=True)), *[None] * 12


@torch.library.custom_op("attnkit::fused_reading", mutates_args=())
def fused_reading(
    row_max: Tensor, row_sum: Tensor, rows: Tensor | None,
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, sink: Tensor | None, slopes: Tensor | None,
    seed: Tensor | None, spans: Tensor | None, table: Tensor | None,
    low: int, high: int, scale: float, softcap: float | None, dropout: float, origin: int, symmetric: bool,
    wants_entropy: bool, wants_column_sums: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(row_weights, entropy, column_sums) as in `Aux`; those that are not wanted are empty. No gradient."""
    from attnkit.kernels import reading

    call = call_of(
        query, key, value, bias, sink, slopes, seed, spans, table,
        low, high, scale, softcap, dropout, origin, symmetric,
    )  # fmt: skip
    with torch.cuda.device_of(query):
        return (
            query.new_empty(0) if rows is None else reading.weights_of_rows(call, row_max, row_sum, rows),
            reading.entropy(call, row_max, row_sum) if wants_entropy else row_max.new_empty(0),
            reading.column_sums(call, row_max, row_sum) if wants_column_sums else row_max.new_empty(0),
        )


@fused_reading.register_fake
def _(
    row_max: Tensor, row_sum: Tensor, rows: Tensor | None,
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, sink: Tensor | None, slopes: Tensor | None,
    seed: Tensor | None, spans: Tensor | None, table: Tensor | None,
    low: int, high: int, scale: float, softcap: float | None, dropout: float, origin: int, symmetric: bool,
    wants_entropy: bool, wants_column_sums: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    batch, heads, k_len = *query.shape[:2], key.shape[2]
    return (
        query.new_empty(0) if rows is None else query.new_empty(batch, heads, rows.shape[0], k_len),
        torch.empty_like(row_max) if wants_entropy else row_max.new_empty(0),
        row_max.new_empty(batch, heads, k_len) if wants_column_sums else row_max.new_empty(0),
    )


def _refuse(ctx: Any, *_: Any) -> tuple:
    raise BackendUnsupported("backend 'fused' has no second derivative: call attention(..., backend='naive') for that")


torch.library.register_autograd("attnkit::fused_forward", _differentiate, setup_context=_keep)
torch.library.register_autograd("attnkit::fused_backward", _refuse)
