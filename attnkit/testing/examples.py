"""Calls of attention at its edges, each with a name and repeatable numbers."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attnkit.backends.common import Options, Rows, ScoreMod
from attnkit.backends.dropout import draw_seed
from attnkit.masks import Causal, Dense, Document, Mask, Padding, Prefix, Sizes, Window
from attnkit.positions.linear_bias import LinearBias

SEED = 20_170_612
Results = dict[str, Tensor]


@dataclass(frozen=True)
class Example:
    """One call of attention, without its numbers. `mask` makes the mask for its sizes; `logits` is their size.

    `linear` makes a linear bias of slopes. The derivative of a `score_mod` by the score must not exceed 1, or the error
    bound's floor would be too low. `device` is where `run` runs it; the oracle stays on the CPU.
    """

    name: str
    q_len: int = 13
    k_len: int = 13
    batch: int = 2
    heads: int = 2
    kv_heads: int = 2
    d: int = 8
    d_v: int = 8
    mask: Callable[[Sizes], Mask] | None = None
    bias: tuple[int, ...] | None = None
    linear: Callable[[Tensor], LinearBias] | None = None
    softcap: float | None = None
    score_mod: ScoreMod | None = None
    sink: bool = False
    scale: float | None = None
    dropout: float = 0.0
    logits: float = 1.0
    layout: str = "plain"
    device: str = "cpu"

    @property
    def rows(self) -> Rows:
        """The queries whose weights are asked for: some of both ends, not in order, one of them twice."""
        return Rows([-1, self.q_len // 2, 0, -1] if self.q_len else [])

    @property
    def sizes(self) -> Sizes:
        return Sizes(self.batch, self.heads, self.q_len, self.k_len)

    def options(self, tensors: Results) -> Options:
        """What a backend is given."""
        bias, slopes = tensors.get("bias"), tensors.get("slopes")
        device = tensors["query"].device
        return Options(
            mask=None if self.mask is None else self.mask(self.sizes),
            bias=None if bias is None else bias[(None,) * (4 - bias.ndim)],
            linear=None if self.linear is None or slopes is None else self.linear(slopes),
            scale=self.d**-0.5 if self.scale is None else self.scale,
            softcap=self.softcap,
            score_mod=self.score_mod,
            sink=tensors.get("sink"),
            dropout=self.dropout,
            seed=_seed_of_attention(self.device).to(device),
            rows=self.rows.within(self.q_len, device),
        )


def _seed_of_attention(device: str) -> Tensor:
    """The dropout seed that attention() draws on this device after torch.manual_seed(SEED)."""
    with torch.random.fork_rng(devices=[] if device == "cpu" else [torch.device(device)]):
        torch.manual_seed(SEED)
        return draw_seed(device)


def _checkerboard(sizes: Sizes) -> Mask:
    """A different table for each batch element and head, with whole rows and whole columns hidden."""
    b, h, q, k = (torch.arange(n).view(-1, *[1] * (3 - axis)) for axis, n in enumerate(sizes))
    return Dense(((b + h + q * k) % 3 != 0) & (q != 2) & (k != 1))


def _documents(sizes: Sizes) -> Mask:
    ids = [torch.arange(n) * 3 // max(n, 1) for n in (sizes.q_len, sizes.k_len)]
    return Document(*ids)


def _lengths(sizes: Sizes) -> list[int]:
    return [sizes.k_len * 2 // 3, 0, sizes.k_len][: sizes.batch]


BIAS_SHAPES: tuple[tuple[int, ...], ...] = (
    (13,), (13, 1), (2, 1, 13), (2, 1, 1, 1), (1, 2, 13, 13), (2, 2, 13, 13), (),
)  # fmt: skip


LINEAR: dict[str, Callable[[Tensor], LinearBias]] = {
    "equal lengths": lambda slopes: LinearBias(slopes),
    "one-sided, equal lengths": lambda slopes: LinearBias(slopes, symmetric=False),
    "upper left": lambda slopes: LinearBias(slopes, align="upper_left"),
    "lower right": lambda slopes: LinearBias(slopes, align="lower_right"),
    "one-sided, lower right": lambda slopes: LinearBias(slopes, symmetric=False, align="lower_right"),
}


def _nearer_in_odd_heads(score: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """A score function that looks at everything it is given."""
    return torch.where(h % 2 == 1, score - 0.1 * (q - k).abs(), 0.5 * score + 0.2 * b)


def _examples() -> list[Example]:
    causal, window = (lambda align: lambda s: Causal(align)), (lambda align: lambda s: Window(3, 1, align))
    masks: dict[str, Callable[[Sizes], Mask]] = {
        "causal": lambda s: Causal(),
        "padding with an empty sequence": lambda s: Padding(_lengths(s)),
        "window": lambda s: Window(2, 0),
        "prefix language model": lambda s: Prefix([4, 9]) | Causal(),
        "documents": _documents,
        "any table": _checkerboard,
        "causal documents with padding": lambda s: Causal() & _documents(s) & Padding(_lengths(s)),
        "everything but the diagonal": lambda s: ~Window(0, 0),
        "nothing visible": lambda s: Prefix(0),
    }
    found = [Example("plain"), Example("one query and key", q_len=1, k_len=1), Example("d_v differs", d_v=5)]
    found += [Example(f"mask: {name}", mask=mask) for name, mask in masks.items()]
    for align in ("upper_left", "lower_right"):
        for q_len, k_len in ((5, 14), (14, 5)):
            found.append(Example(f"causal {align} {q_len}x{k_len}", q_len, k_len, mask=causal(align)))
            found.append(Example(f"window {align} {q_len}x{k_len}", q_len, k_len, mask=window(align)))
    found += [
        Example("decode: one query", q_len=1, k_len=19, mask=causal("lower_right")),
        Example("grouped queries", heads=6, kv_heads=2, mask=masks["causal"]),
        Example("one key head, any table", heads=4, kv_heads=1, mask=masks["any table"], q_len=9),
        Example("longer than a tile", q_len=37, k_len=41, batch=1, mask=causal("lower_right")),
        Example("softcap", softcap=1.5, mask=masks["causal"], logits=4.0),
        Example("sink", sink=True, mask=masks["any table"], heads=4),
        Example("negative scale", scale=-0.7),
        Example("dropout", dropout=0.3, mask=masks["causal"], heads=4),
        Example("logits near 1e4", logits=1e4),
        Example("logits near 1e4, causal, grouped", logits=1e4, mask=masks["causal"], heads=4),
        Example("logits near 1e4, softcap", logits=1e4, softcap=30.0),
    ]
    for layout in ("heads inside", "every other entry", "one sequence for the whole batch"):
        found.append(Example(f"layout: {layout}", layout=layout, mask=masks["causal"]))
    for bias in BIAS_SHAPES:
        found.append(Example(f"bias {bias}", bias=bias, mask=masks["any table"]))
    found.append(Example("bias of grouped queries", bias=(6, 13, 13), heads=6))
    for name, linear in LINEAR.items():
        found.append(Example(f"linear bias: {name}", linear=linear, mask=masks["any table"], heads=4))
        for q_len, k_len in ((5, 14), (14, 5)) if "equal" not in name else ():
            found.append(Example(f"linear bias: {name} {q_len}x{k_len}", q_len, k_len, linear=linear))
    found += [
        Example("score function", score_mod=_nearer_in_odd_heads, mask=masks["any table"], heads=4),
        Example("score function, softcap, bias", score_mod=_nearer_in_odd_heads, softcap=2.0, bias=(13,), q_len=5),
    ]
    found.append(
        Example(
            "everything at once", heads=4, mask=masks["causal documents with padding"], bias=(4, 1, 13), softcap=2.0,
            sink=True, scale=0.5, dropout=0.2, d_v=5,
        )
    )  # fmt: skip
    found.append(replace(found[-1], name="everything at once, by slopes", bias=None, linear=LINEAR["equal lengths"]))
    found += [
        Example("empty: batch", batch=0),
        Example("empty: heads", heads=0, kv_heads=0),
        Example("empty: queries", q_len=0),
        Example("empty: keys", k_len=0),
        Example("empty: values of width 0", d_v=0),
    ]
    found.append(Example("empty: k_len, with a sink and a bias", k_len=0, sink=True, bias=(13, 1)))
    return found


EXAMPLES = _examples()


def example(name: str, **changes) -> Example:
    """The example of this name, with some of its fields changed."""
    return replace(next(e for e in EXAMPLES if e.name == name), **changes)


def inputs(example: Example, dtype: torch.dtype) -> Results:
    """The leaves of a call: numbers that `dtype` holds exactly (float32 numbers for float64), repeatable by name."""
    e, coarse = example, torch.float32 if dtype == torch.float64 else dtype
    rng = torch.Generator().manual_seed(zlib.crc32(e.name.encode()))
    shapes = {
        "query": (e.batch, e.heads, e.q_len, e.d),
        "key": (e.batch, e.kv_heads, e.k_len, e.d),
        "value": (e.batch, e.kv_heads, e.k_len, e.d_v),
    }
    stored = {name: _STORED[e.layout](shape) for name, shape in shapes.items()}
    if e.bias is not None:
        stored["bias"] = e.bias
    if e.linear is not None:
        stored["slopes"] = (e.heads,)
    if e.sink:
        stored["sink"] = (e.heads,)
    leaves = {name: torch.randn(shape, generator=rng, dtype=torch.float64) for name, shape in stored.items()}
    leaves["query"] *= e.logits
    if "slopes" in leaves:
        leaves["slopes"] *= 0.25  # about as large as ALiBi's
    return {name: x.to(coarse).to(dtype).requires_grad_() for name, x in leaves.items()}


# How query, key and value lie in memory: the shape of the leaf, and the view of it that attention is given.
_STORED: dict[str, Callable[[tuple[int, ...]], tuple[int, ...]]] = {
    "plain": lambda s: s,
    "heads inside": lambda s: (s[0], s[2], s[1], s[3]),
    "every other entry": lambda s: (*s[:3], 2 * s[3]),
    "one sequence for the whole batch": lambda s: (1, *s[1:]),
}
_VIEWED: dict[str, Callable[[Tensor, Example], Tensor]] = {
    "plain": lambda x, e: x,
    "heads inside": lambda x, e: x.transpose(1, 2),
    "every other entry": lambda x, e: x[..., ::2],
    "one sequence for the whole batch": lambda x, e: x.expand(e.batch, -1, -1, -1),
}


def viewed(leaves: Results, example: Example) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value as attention is given them."""
    q, k, v = (_VIEWED[example.layout](leaves[name], example) for name in ("query", "key", "value"))
    return q, k, v
