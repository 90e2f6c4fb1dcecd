"""Arguments of the attention modules that do not fit are refused here, in words."""

from __future__ import annotations

from typing import no_type_check

import torch
from jaxtyping import Int
from torch import Tensor, nn

from attnkit.backends.validate import describe, is_number, refuse
from attnkit.nn.cache import CrossCache, LayerCache
from attnkit.positions.base import Position, check_count, check_positions


@no_type_check
def check_heads(d_model, heads, kv_heads, d_head, dropout, position) -> tuple[int, int]:
    """kv_heads and d_head, when the numbers of a new attention fit together."""
    for name, number in (("d_model", d_model), ("heads", heads)):
        check_count(name, number)
    if d_head is None and d_model % heads:
        raise ValueError(f"heads is {heads}; it must divide d_model, {d_model}, unless d_head is given")
    kv_heads = width_or("kv_heads", kv_heads, heads)
    if heads % kv_heads:
        raise ValueError(f"kv_heads is {kv_heads}; it must divide heads, {heads}")
    if not (is_number(dropout) and 0 <= dropout < 1):
        refuse("dropout", dropout, "a probability: at least 0 and below 1")
    if position is not None and not isinstance(position, Position):
        refuse("position", position, "an encoding of attnkit.positions, such as Rotary(d_head)")
    return kv_heads, width_or("d_head", d_head, d_model // heads)


@no_type_check
def width_or(name: str, given: int | None, default: int) -> int:
    """The width given, or the default."""
    return default if given is None else check_count(name, given)


@no_type_check
def check_inputs(module: nn.Module, x: Tensor, memory: Tensor | None, value: Tensor | None, cache: object) -> None:
    """x, memory and value are sequences of the right widths, and the cache is of the right kind."""
    _check_sequence("x", x, module.d_model, "d_model")
    if memory is None and module.d_key_input != module.d_model:
        raise ValueError(
            f"memory is missing: keys are projected from inputs {module.d_key_input} wide (d_key_input), and x is "
            f"{module.d_model} wide"
        )
    source = x if memory is None else memory
    if memory is not None:
        _check_sequence("memory", memory, module.d_key_input, "d_key_input")
        if memory.shape[0] != x.shape[0]:
            refuse("memory", memory, f"of x's batch size, {x.shape[0]}")
    if value is not None:
        _check_sequence("value", value, module.d_value_input, "d_value_input")
        if value.shape[:2] != source.shape[:2]:
            refuse("value", value, f"(batch, k_len, d_value_input), with {tuple(source.shape[:2])} as the keys' inputs")
    elif module.d_value_input != source.shape[2]:
        raise ValueError(
            f"value is missing: values are projected from inputs {module.d_value_input} wide (d_value_input), and "
            f"{'x' if memory is None else 'memory'} is {source.shape[2]} wide"
        )
    _check_kind(module, memory, cache)


@no_type_check
def _check_sequence(name: str, x: Tensor, width: int, width_name: str) -> None:
    if not isinstance(x, Tensor) or x.ndim != 3 or x.shape[2] != width or not x.is_floating_point():
        refuse(name, x, f"floats of shape (batch, len, {width_name}) with {width_name} = {width}")


@no_type_check
def _check_kind(module: nn.Module, memory: Tensor | None, cache: object) -> None:
    """Self-attention appends to a LayerCache, attention to a memory fills a CrossCache."""
    kind, other = (LayerCache, "KVCache()[i].self") if memory is None else (CrossCache, "KVCache(cross=True)[i].cross")
    if cache is not None and not isinstance(cache, kind):
        what = "self-attention" if memory is None else "attention to a memory"
        raise ValueError(f"cache is {type(cache).__name__}; {what} takes a {kind.__name__}, such as {other}")
    position = module.position
    if memory is None and cache is not None and not cache.rotated and position and position.acts_on == "embedding":
        raise ValueError(
            f"cache is a {type(cache).__name__} with reposition=True, but the positions of {type(position).__name__} "
            "are added to the embeddings, so cached keys cannot be given others"
        )


@no_type_check
def positions_or_count(name: str, given: Tensor | None, x: Tensor, start: int) -> Int[Tensor, "#batch len"]:
    """The positions of x's tokens: those given, or counted from `start`."""
    if given is None:
        return torch.arange(start, start + x.shape[1], device=x.device)[None]
    return check_positions(given, x.shape[0], x.shape[1], name)


def check_cache(cache: CrossCache, memory: Tensor) -> tuple[Tensor, Tensor]:
    """The keys and values of the memory that were cached, when they can be those of this one."""
    key, value = cache.read()
    if (key.shape[0], key.shape[2]) != tuple(memory.shape[:2]):
        raise ValueError(
            f"memory is {describe(memory)}; the cache holds the projections of one of batch {key.shape[0]} and length "
            f"{key.shape[2]}: reset() it for another memory, reorder() it when the batch changes"
        )
    return key, value
