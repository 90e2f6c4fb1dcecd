"""Arguments that do not fit are refused here, in words: which argument, what it was, what it should be."""

from __future__ import annotations

import math
from typing import NoReturn, no_type_check

import torch
from torch import Tensor

from attnkit.backends.common import Options
from attnkit.backends.dropout import draw_seed
from attnkit.masks import Dense, Mask, Sizes

AUX = ("lse", "weights")
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


def check_bias(bias: object, query: Tensor, sizes: Sizes) -> Tensor | None:
    """The bias with four axes."""
    if bias is None:
        return None
    need = f"floats of a shape that broadcasts to (batch, heads, q_len, k_len) = {tuple(sizes)}"
    if not isinstance(bias, Tensor) or not bias.is_floating_point() or bias.ndim > 4:
        refuse("bias", bias, need)
    if bias.device != query.device:
        refuse("bias", bias, f"on the query's device, {query.device}")
    wide = bias[(None,) * (4 - bias.ndim)] if bias.ndim < 4 else bias
    if any(have not in (1, want) for have, want in zip(wide.shape, sizes, strict=True)):
        refuse("bias", bias, need)
    return wide


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
    """A finite real number that is not a bool."""
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)


def check_options(query: Tensor, sizes: Sizes, mask, bias, scale, softcap, sink, dropout, aux) -> Options:
    """Everything besides query, key and value."""
    if scale is not None and not is_number(scale):
        refuse("scale", scale, "a finite number, or None for 1 / sqrt(d)")
    if softcap is not None and not (is_number(softcap) and softcap > 0):
        refuse("softcap", softcap, "a number above 0, or None for no cap")
    if not (is_number(dropout) and 0 <= dropout < 1):
        refuse("dropout", dropout, "a probability: at least 0 and below 1")
    if aux != () and (isinstance(aux, str) or not all(name in AUX for name in aux)):
        refuse("aux", aux, f"a tuple of names from {AUX}")
    return Options(
        mask=check_mask(mask, query, sizes),
        bias=check_bias(bias, query, sizes),
        scale=query.shape[3] ** -0.5 if scale is None else float(scale),
        softcap=None if softcap is None else float(softcap),
        sink=check_sink(sink, query, sizes),
        dropout=float(dropout),
        seed=draw_seed() if dropout else 0,
        aux=tuple(aux),
    )
