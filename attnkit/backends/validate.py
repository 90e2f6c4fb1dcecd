"""Arguments that do not fit are refused here, in words: which argument, what it was, what it should be."""

from __future__ import annotations

import math
from typing import NoReturn, no_type_check

import torch
from torch import Tensor

from attnkit.backends.common import Options, Rows
from attnkit.backends.dropout import draw_seed
from attnkit.masks import Dense, Mask, Sizes
from attnkit.positions.linear_bias import LinearBias

AUX = ("lse", "weights", "entropy", "column_sums")
SHAPES = {
    "query": "(batch, heads, q_len, d)",
    "key": "(batch, kv_heads, k_len, d)",
    "value": "(batch, kv_heads, k_len, d_v)",
}


def describe(x: object) -> str:
    """What an argument was, for a message."""
    if isinstance(x, Tensor):
        return f"a tensor of shape {tuple(x.shape)}, {x.dtype}, on {x.device}"
    return f"{x!r} ({type(x).__name__})"


def refuse(name: str, x: object, need: str) -> NoReturn:
    """Raise the one kind of error that this file raises."""
    raise ValueError(f"{name} is {describe(x)}; it must be {need}")


@no_type_check  # anything may come in: this is where it is found out
def check_tensors(query: Tensor, key: Tensor, value: Tensor) -> Sizes:
    """The shape of the score matrices, when query, key and value fit together."""
    for name, x in (("query", query), ("key", key), ("value", value)):
        if not isinstance(x, Tensor) or x.ndim != 4:
            refuse(name, x, f"a tensor of shape {SHAPES[name]}")
    batch, heads, q_len, d = query.shape
    kv_heads, k_len = key.shape[1:3]
    if not query.is_floating_point():
        refuse("query", query, "of a floating-point dtype")
    if d == 0:
        refuse("query", query, "at least 1 wide in its last axis")
    for name, x in (("key", key), ("value", value)):
        if x.dtype != query.dtype:
            refuse(name, x, f"of the query's dtype, {query.dtype}")
        if x.device != query.device:
            refuse(name, x, f"on the query's device, {query.device}")
    if key.shape != (batch, kv_heads, k_len, d):
        refuse("key", key, f"(batch, kv_heads, k_len, d) = ({batch}, {kv_heads}, {k_len}, {d}) to fit the query")
    if value.shape[:3] != key.shape[:3]:
        refuse("value", value, f"(batch, kv_heads, k_len, d_v) = ({batch}, {kv_heads}, {k_len}, any) to fit the key")
    if heads % kv_heads if kv_heads else heads:
        refuse("key", key, f"of a number of heads that divides the query's {heads}")
    return Sizes(batch, heads, q_len, k_len)


def check_mask(mask: object, query: Tensor, sizes: Sizes) -> Mask | None:
    """The mask as an object that fits the scores."""
    if mask is None:
        return None
    if isinstance(mask, Tensor):
        if mask.dtype != torch.bool:
            refuse("mask", mask, "bool (True = may attend); numbers to add to the scores go into bias=")
        if mask.device != query.device:
            refuse("mask", mask, f"on the query's device, {query.device}")
        mask = Dense(mask) if mask.ndim <= 4 else refuse("mask", mask, "of at most four axes")
    if not isinstance(mask, Mask):
        refuse("mask", mask, "a bool tensor or one of attnkit.masks, such as Causal()")
    mask.check(sizes)
    return mask


def check_bias(bias: object, query: Tensor, sizes: Sizes) -> tuple[Tensor | None, LinearBias | None]:
    """The bias: with four axes when it is a tensor, as it is when it is told by slopes."""
    if bias is None:
        return None, None
    if isinstance(bias, LinearBias):
        bias.check(sizes)
        if bias.slopes.device != query.device:
            refuse("bias.slopes", bias.slopes, f"on the query's device, {query.device}")
        return None, bias
    if not isinstance(bias, Tensor) or not bias.is_floating_point() or bias.ndim > 4:
        _refuse_bias(bias, sizes)
    if bias.device != query.device:
        refuse("bias", bias, f"on the query's device, {query.device}")
    wide = bias[(None,) * (4 - bias.ndim)] if bias.ndim < 4 else bias
    if any(have != 1 and have != want for have, want in zip(wide.shape, sizes, strict=True)):
        _refuse_bias(bias, sizes)
    return wide, None


def _refuse_bias(bias: object, sizes: Sizes) -> NoReturn:
    """In a function of its own, since torch.compile would make a constant of every size that a message names."""
    need = f"floats of a shape that broadcasts to (batch, heads, q_len, k_len) = {tuple(sizes)}, or a LinearBias"
    refuse("bias", bias, need)


def check_sink(sink: object, query: Tensor, sizes: Sizes) -> Tensor | None:
    """The sink, one logit a query head."""
    if sink is None:
        return None
    if not isinstance(sink, Tensor) or not sink.is_floating_point() or sink.shape != (sizes.heads,):
        refuse("sink", sink, f"floats of shape (heads,) = ({sizes.heads},)")
    if sink.device != query.device:
        refuse("sink", sink, f"on the query's device, {query.device}")
    return sink


def is_number(x: object) -> bool:
    """A finite real number that is not a bool. Told by comparisons, which torch.compile can follow."""
    return isinstance(x, int | float) and not isinstance(x, bool) and -math.inf < x < math.inf


@no_type_check
def check_aux(aux: tuple[str | Rows, ...], query: Tensor, sizes: Sizes) -> tuple[tuple[str, ...], Tensor | None]:
    """The fields of Aux that are wanted, and the queries that are meant when "row_weights" is one of them."""
    if aux == ():
        return (), None
    if isinstance(aux, str) or not all(isinstance(x, Rows) or x in AUX for x in aux):
        refuse("aux", aux, f"a tuple of names from {AUX}, or Rows([...]) for the weights of some queries")
    rows = [x for x in aux if isinstance(x, Rows)]
    if len(rows) > 1:
        refuse("aux", aux, "given one Rows at most, which may hold any number of queries")
    names = tuple("row_weights" if isinstance(x, Rows) else x for x in aux)
    return names, rows[0].within(sizes.q_len, query.device) if rows else None


@no_type_check
def check_options(
    query: Tensor,
    sizes: Sizes,
    *,
    mask=None,
    bias=None,
    scale=None,
    softcap=None,
    score_mod=None,
    sink=None,
    dropout=0.0,
    aux=(),
) -> Options:
    """Everything besides query, key and value. Draws a seed when there is dropout."""
    if scale is not None and not is_number(scale):
        refuse("scale", scale, "a finite number, or None for 1 / sqrt(d)")
    if softcap is not None and not (is_number(softcap) and softcap > 0):
        refuse("softcap", softcap, "a number above 0, or None for no cap")
    if score_mod is not None and not callable(score_mod):
        refuse("score_mod", score_mod, "a function (score, b, h, q, k) -> score, or None")
    if not (is_number(dropout) and 0 <= dropout < 1):
        refuse("dropout", dropout, "a probability: at least 0 and below 1")
    names, rows = check_aux(aux, query, sizes)
    table, linear = check_bias(bias, query, sizes)
    return Options(
        mask=check_mask(mask, query, sizes),
        bias=table,
        linear=linear,
        scale=query.shape[3] ** -0.5 if scale is None else float(scale),
        softcap=None if softcap is None else float(softcap),
        score_mod=score_mod,
        sink=check_sink(sink, query, sizes),
        dropout=float(dropout),
        seed=draw_seed(query.device) if dropout else None,
        aux=names,
        rows=rows,
    )
