"""Attention as a matrix that moves: temperature, scale, mask and head, recomputed where the reader is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from attnkit.viz.explorer import Explorer, as_array, pack
from attnkit.viz.figure import Figure
from attnkit.viz.heat import heatmap
from attnkit.viz.live import Choice, Slide

MASKS = ("none", "causal", "causal (lower right)", "window")
SCALES = {"root": "1/√d", "one": "1: no scale", "d": "1/d", "given": "as given"}
_DRAWN = 32  # a printed map with more rows or columns than this shows means of blocks


def explore_matrix(
    query: object,
    key: object,
    value: object,
    *,
    queries: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    mask: object = "none",
    scale: int | float | None = None,
    title: str = "",
) -> Explorer:
    """softmax(scale * Q K^T) V of `query` (heads, Lq, d) or (Lq, d), `key` (heads, Lk, d), `value` (heads, Lk, d_v).

    The reader changes temperature, scale (1/sqrt(d) if `scale` is None), softcap, head and mask, moves over the cells,
    and unfolds one query's steps from products to output. `mask` is "none", "causal", "causal (lower right)", "window",
    or a boolean array (Lq, Lk), True = may see. A query that sees nothing has weights and output 0. Axes as in
    `attnkit.attention`, without the batch; arrays with more than 100,000 numbers are rounded to float16.
    """
    q, k, v = (_three_axes(name, x) for name, x in (("query", query), ("key", key), ("value", value)))
    _check_shapes(q, k, v)
    name, given = _mask(mask, q.shape[1], k.shape[1])
    spec: dict[str, Any] = {
        "query": pack(q),
        "key": pack(k),
        "value": pack(v),
        "queries": _names("queries", queries, q.shape[1]),
        "keys": _names("keys", keys, k.shape[1]),
        "mask": name,
        "scale": scale,
    }
    if given is not None:
        spec["given"] = pack(given)
    data = Matrix(q, k, v, spec, given)
    still = still_map(data.weights(data.initial()), spec["queries"], spec["keys"])
    alt = (
        f"Attention weights of {q.shape[1]} queries over {k.shape[1]} keys; change the head, the mask, the scale and "
        "the temperature."
    )
    return Explorer("matrix", spec, alt=alt, title=title, fallback=still, controls=data.controls(), redraw=data.redraw)


@dataclass(frozen=True)
class Matrix:
    """The same in Python, for paper and for a kernel without anywidget: the oracle is `attnkit.attention`."""

    query: Float[np.ndarray, "heads q_len d"]
    key: Float[np.ndarray, "heads k_len d"]
    value: Float[np.ndarray, "heads k_len d_v"]
    spec: Mapping[str, Any]
    given: Bool[np.ndarray, "q_len k_len"] | None

    def initial(self) -> dict[str, Any]:
        """What the controls say before anybody moves them."""
        scale = "root" if self.spec["scale"] is None else "given"
        return {"head": 0, "mask": self.spec["mask"], "temperature": 1.0, "scale": scale, "window": 2, "softcap": 0.0}

    def controls(self) -> list[Choice | Slide]:
        """What a reader can move."""
        start, heads = self.initial(), range(self.query.shape[0])
        reach = max(2, self.key.shape[1] - 1)
        masks = [*MASKS, *(["given"] if self.given is not None else [])]
        scales = ["root", "one", "d", *(["given"] if self.spec["scale"] is not None else [])]
        return [
            Choice("head", "head", [(str(head), head) for head in heads], 0),
            Choice("mask", "mask", [(name, name) for name in masks], start["mask"]),
            Slide("window", "keys to the left", 0, reach, start["window"], step=1),
            Slide("temperature", "temperature", 1 / 16, 16, 1.0, log=True),
            Choice("scale", "scale", [(SCALES[name], name) for name in scales], start["scale"]),
            Slide("softcap", "softcap (0: off)", 0, 50, 0, step=1),
        ]

    def weights(self, state: Mapping[str, Any]) -> Float[np.ndarray, "q_len k_len"]:
        """The weights of one head for what the controls say."""
        import torch

        from attnkit.attention import attention
        from attnkit.masks import Causal, Dense, Window

        d = self.query.shape[-1]
        scale = {"root": d**-0.5, "one": 1.0, "d": 1 / d, "given": self.spec["scale"]}[state["scale"]]
        masks = {
            "none": None,
            "causal": Causal(align="upper_left"),
            "causal (lower right)": Causal(align="lower_right"),
            "window": Window(int(state["window"]), 0, align="lower_right"),
            "given": None if self.given is None else Dense(torch.from_numpy(self.given)),
        }
        q, k, v = (torch.from_numpy(x[state["head"]])[None, None] for x in (self.query, self.key, self.value))
        softcap, heat = state["softcap"], state["temperature"]
        # softcap * tanh(s / softcap) / heat is the softcap of s / heat with softcap / heat.
        cap = softcap / heat if softcap else None
        _, aux = attention(q, k, v, mask=masks[state["mask"]], scale=scale / heat, softcap=cap, aux=("weights",))
        return aux.weights[0, 0].numpy()

    def redraw(self, state: Mapping[str, Any]) -> Figure:
        """The map for what the controls say."""
        return still_map(self.weights(state), self.spec["queries"], self.spec["keys"])


def still_map(weights: np.ndarray, queries: list[str], keys: list[str]) -> Figure:
    """A heat map for paper; of a large map, the means of blocks."""
    if max(weights.shape) <= _DRAWN:
        return heatmap(weights, queries, keys)
    rows, columns = (np.array_split(np.arange(n), min(n, 16)) for n in weights.shape)
    means = np.array([[weights[np.ix_(i, j)].mean() for j in columns] for i in rows])
    names = [[f"{part[0]} to {part[-1]}" for part in parts] for parts in (rows, columns)]
    alt = f"Means over blocks of a map with {weights.shape[0]} queries and {weights.shape[1]} keys."
    return heatmap(means, *names, alt=alt, digits=4)


def _three_axes(name: str, values: object) -> np.ndarray:
    array = as_array(values).astype(float)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(
            f"{name}: shape was {array.shape}; it should be (heads, length, d) or (length, d), none of them 0"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: holds infinities or NaN; it should be finite")
    return array


def _check_shapes(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> None:
    for name, x, axis, other, word in (
        ("key", k, 0, q, "heads of query"),
        ("key", k, 2, q, "last axis of query"),
        ("value", v, 0, k, "heads of key"),
        ("value", v, 1, k, "length of key"),
    ):
        if x.shape[axis] != other.shape[axis]:
            raise ValueError(f"{name}: shape was {x.shape}; axis {axis} should be {other.shape[axis]}, the {word}")


def _mask(mask: object, rows: int, columns: int) -> tuple[str, np.ndarray | None]:
    if isinstance(mask, str):
        if mask not in MASKS:
            raise ValueError(f"mask: was {mask!r}; it should be one of {', '.join(MASKS)}, or a boolean array")
        return mask, None
    given = as_array(mask)
    if given.dtype != bool or given.shape != (rows, columns):
        raise ValueError(f"mask: was {given.dtype} of shape {given.shape}; it should be boolean, ({rows}, {columns})")
    return "given", given


def _names(name: str, names: Sequence[str] | None, count: int) -> list[str]:
    if names is None:
        return [str(i) for i in range(count)]
    if len(names) != count:
        raise ValueError(f"{name}: {len(names)} names were given; there should be {count}")
    return [str(x) for x in names]
