"""Position encodings that move: drag an offset and see what the encoding makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from attnkit.viz.explorer import Explorer, as_array, pack
from attnkit.viz.figure import Figure
from attnkit.viz.lines import lines
from attnkit.viz.live import Choice, Slide

KINDS = ("sinusoidal", "rope", "alibi", "t5")
MEANS = {
    "sinusoidal": "dot product of two encodings",
    "rope": "q·k after turning",
    "alibi": "bias",
    "t5": "bias",
}


def explore_positions(
    kind: str = "sinusoidal",
    *,
    d: int = 64,
    length: int = 128,
    heads: int = 8,
    base: int | float = 10_000.0,
    query: object = None,
    key: object = None,
    table: object = None,
    buckets: int = 32,
    max_distance: int = 128,
    bidirectional: bool = True,
    title: str = "",
) -> Explorer:
    """What an encoding gives for a query and a key that stand `offset` = key - query places apart.

    `kind` is what is shown first; the reader may choose any other, and moves offset, query, base, width and head.

    - "sinusoidal": PE(i)·PE(j), for `attnkit.positions.Sinusoidal(d, base)` (Vaswani et al. 2017, section 3.5).
    - "rope": q·k after `Rotary(d, base)` has turned both (Su et al. 2021, eq. 16). `query` and `key` are (d,), paired
      as in layout "half"; all ones if not given.
    - "alibi": the bias of `ALiBi(heads)` (Press et al. 2022, section 3).
    - "t5": the bias from `table` (buckets, heads), or without one the bucket itself (Raffel et al. 2020, section 2.1).
    """
    if kind not in KINDS:
        raise ValueError(f"kind: was {kind!r}; it should be one of {', '.join(KINDS)}")
    _check_sizes(d, length, heads, base, max_distance)
    step = 4 if bidirectional else 2
    if buckets < step or buckets % step:
        raise ValueError(f"buckets: was {buckets}; it should be a multiple of {step}")
    spec: dict[str, Any] = {
        "kind": kind,
        "d": d,
        "length": length,
        "heads": heads,
        "base": float(base),
        "buckets": buckets,
        "maxDistance": max_distance,
        "bidirectional": bidirectional,
    }
    q, k = _vector("query", query, (d,)), _vector("key", key, (d,))
    if (q is None) != (k is None):
        raise ValueError("query and key: one was given without the other; give both or neither")
    learned = _vector("table", table, (buckets, heads))
    for name, values in (("query", q), ("key", k), ("table", learned)):
        spec[name] = None if values is None else pack(values, "float32")
    start = {"kind": kind, "place": length // 2, "offset": -1, "base": float(base), "head": 0}

    def redraw(state: Mapping[str, Any]) -> Figure:
        return _curve({**start, **state}, spec, (q, k, learned))

    controls: list[Choice | Slide] = [
        Choice("kind", "encoding", [(name, name) for name in KINDS], kind),
        Slide("offset", "offset, key − query", -(length - 1), length - 1, -1, step=1),
        Slide("place", "query at", 0, length - 1, length // 2, step=1),
        Slide("base", "base", 10, 1e6, float(base), log=True),
        Slide("head", "head", 0, heads - 1, 0, step=1),
    ]
    alt = "How an encoding of positions scores a query and a key by their offset; drag the offset, change the encoding."
    still = redraw(start)
    return Explorer("positions", spec, alt=alt, title=title, fallback=still, controls=controls, redraw=redraw)


def _curve(
    state: Mapping[str, Any],
    spec: Mapping[str, Any],
    given: tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None],
) -> Figure:
    """The score over the offset, for paper and for a kernel without anywidget."""
    kind, place = state["kind"], int(state["place"])
    offsets = np.arange(spec["length"]) - place
    curve = scores(kind, offsets, {**spec, "base": state["base"]}, *given, head=int(state["head"]))
    what = "bucket" if kind == "t5" and given[2] is None else MEANS[kind]
    offset = int(np.clip(state["offset"], offsets[0], offsets[-1]))
    here = curve[offset + place]
    alt = f"The {what} over the offset between key and query: {curve[place]:.2f} at 0, {here:.2f} at {offset}."
    return lines(offsets, {what: curve}, alt=alt, title=kind, xlabel="offset, key − query", ylabel=what)


def scores(
    kind: str,
    offsets: np.ndarray,
    spec: Mapping[str, Any],
    query: np.ndarray | None = None,
    key: np.ndarray | None = None,
    table: np.ndarray | None = None,
    head: int = 0,
) -> np.ndarray:
    """The score for each of `offsets` by attnkit's own encodings, in float64; the query stands at 0."""
    import torch

    from attnkit.positions import Rotary, Sinusoidal, alibi_slopes, t5_bucket

    places = torch.from_numpy(np.asarray(offsets))
    d, zero = spec["d"], torch.zeros(1, 1, dtype=torch.long)
    if kind == "alibi":
        return (-places.abs() * alibi_slopes(spec["heads"])[head]).numpy()
    if kind == "t5":
        bucket = t5_bucket(places, spec["buckets"], spec["maxDistance"], bidirectional=spec["bidirectional"]).numpy()
        return bucket.astype(float) if table is None else table[bucket, head]
    if kind == "sinusoidal":
        encoding = Sinusoidal(d, spec["base"])
        here, there = (encoding.embed(torch.zeros(1, x.shape[1], d).double(), x)[0] for x in (zero, places[None]))
        return (there @ here[0]).numpy()
    rotary = Rotary(d, spec["base"])
    q, k = (torch.ones(d).double() if x is None else torch.from_numpy(x) for x in (query, key))
    turned = rotary.rotate(k.expand(1, 1, len(places), d), places[None])[0, 0]
    return (turned @ rotary.rotate(q[None, None, None], zero)[0, 0, 0]).numpy()


def _check_sizes(d: int, length: int, heads: int, base: int | float, max_distance: int) -> None:
    for name, value, least, most in (
        ("d", d, 2, 1024),
        ("length", length, 2, 512),
        ("heads", heads, 1, 64),
        ("base", base, 2, 1e9),
        ("max_distance", max_distance, 2, 10**6),
    ):
        if not least <= value <= most:
            raise ValueError(f"{name}: was {value!r}; it should be from {least} to {most}")
    if d % 2:
        raise ValueError(f"d: was {d}; it should be even, since every wavelength has a sine and a cosine")


def _vector(name: str, values: object, shape: tuple[int, ...]) -> np.ndarray | None:
    if values is None:
        return None
    array = as_array(values).astype(float)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"{name}: shape was {array.shape}; it should be {shape}, all finite")
    return array
