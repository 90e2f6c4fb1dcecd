"""The attention weights of a forward pass, of every attention anywhere inside a model: masks, caches, dropout and all.

Maps computed again outside the model easily differ from those the model used. Here each attention hands out the
weights with which it computed its output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from attnkit.attention import attention
from attnkit.backends.common import Aux, Rows

Recorder = Callable[[Tensor], None]


class Recordable(nn.Module):
    """A module that attends, and tells whoever listens with which weights."""

    backend: str

    def __init__(self) -> None:
        super().__init__()
        self.recorders: list[Recorder] = []

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, *, aux: tuple[str | Rows, ...] = (), **options: Any
    ) -> tuple[Tensor, Aux]:
        """`attnkit.attention` by this module's backend, overheard by the recorders. Always (out, Aux)."""
        if not self.recorders:
            result = attention(query, key, value, backend=self.backend, aux=aux, **options)
            return result if aux else (result, Aux())
        backend = self.backend if "weights" in aux else "auto"  # one that was named may be unable to give the weights
        out, extra = attention(query, key, value, backend=backend, aux=(*aux, "weights"), **options)
        for record in self.recorders:
            record(extra.weights.detach())
        return out, extra if "weights" in aux else replace(extra, weights=None)


@contextmanager
def recording(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """While open, every attention of `model` leaves its weights here, under its name: one entry for each call of it.

    Each is (batch, heads, q_len, k_len), without a gradient, before dropout. Attentions appear in the order in which
    they ran. The outputs stay the same, to rounding. Raises ValueError for a model in which nothing attends.

    >>> import torch
    >>> from attnkit.nn import MultiHeadAttention
    >>> model = MultiHeadAttention(16, heads=4)
    >>> with recording(model) as maps:
    ...     out = model(torch.ones(1, 5, 16))
    >>> maps[""][0].shape
    torch.Size([1, 4, 5, 5])
    """
    listened = {name: module for name, module in model.named_modules() if isinstance(module, Recordable)}
    if not listened:
        raise ValueError(f"model is {type(model).__name__}, in which there is no attention of attnkit.nn to record")
    maps: dict[str, list[Tensor]] = {}
    recorders = {name: _recorder(maps, name) for name in listened}
    for name, module in listened.items():
        module.recorders.append(recorders[name])
    try:
        yield maps
    finally:
        for name, module in listened.items():
            module.recorders.remove(recorders[name])


def _recorder(maps: dict[str, list[Tensor]], name: str) -> Recorder:
    """What notes the weights under one name."""

    def record(weights: Tensor) -> None:
        maps.setdefault(name, []).append(weights)

    return record
