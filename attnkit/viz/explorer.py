"""What a reader can move: one object for a page, a notebook and Colab, drawn by the same scripts in all of them.

The scripts are `explorer.js` (frame), `explorer_ui.js` (controls) and `explorers/<kind>.js`; the first says how they
fit together. They need no kernel and no network. `Explorer.live` adds a kernel.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attnkit.viz.figure import Figure
from attnkit.viz.gluing import BOOK
from attnkit.viz.tables import Table, text_only

if TYPE_CHECKING:
    from attnkit.viz.live import Controls, OnChange, Redraw

HERE = Path(__file__).parent
FRAME = ("explorer.js", "explorer_ui.js")
_HALF_ABOVE = 100_000  # numbers; more than these travel as float16


def kinds() -> list[str]:
    """The kinds of explorer that there are."""
    return sorted(path.stem for path in (HERE / "explorers").glob("*.js"))


@cache
def version() -> str:
    """A hash of all scripts: two versions of attnkit can meet in one notebook, and each finds its own."""
    digest = hashlib.sha256()
    for path in [*(HERE / name for name in FRAME), *sorted((HERE / "explorers").glob("*.js"))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def script(name: str) -> str:
    """One script as it is served: `explorer.js`, `explorer_ui.js`, or the name of a kind."""
    path = HERE / name if name in FRAME else HERE / "explorers" / f"{name}.js"
    if name not in FRAME and name not in kinds():
        raise ValueError(f"kind: was {name!r}; it should be one of {', '.join(kinds())}")
    # A closing tag inside a script would end it: there is none, and there must be none.
    return path.read_text("utf-8").replace("@VERSION@", version()).replace("</script", "<\\/script")


def scripts(kind: str) -> str:
    """All that one kind needs, as one classic script."""
    return "\n".join(script(name) for name in (*FRAME, kind))


def pack(values: object, dtype: str | None = None) -> dict[str, Any]:
    """An array or tensor as JSON that `math.unpack` in explorer.js reads: {dtype, shape, data}, little-endian base64.

    `dtype` is "float32", "float16" or "bool"; by default float32, and float16 above 100,000 numbers.
    """
    array = as_array(values)
    if dtype is None:
        dtype = "bool" if array.dtype == bool else "float16" if array.size > _HALF_ABOVE else "float32"
    if dtype not in ("float32", "float16", "bool"):
        raise ValueError(f"dtype: was {dtype!r}; it should be 'float32', 'float16' or 'bool'")
    form = {"float32": "<f4", "float16": "<f2", "bool": "u1"}[dtype]
    data = base64.b64encode(np.ascontiguousarray(array.astype(form)).tobytes()).decode("ascii")
    return {"dtype": dtype, "shape": list(array.shape), "data": data}


def as_array(values: Any) -> np.ndarray:
    """`values` (tensor, array, nested lists) as a NumPy array; tensors leave their graph and device."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values if str(values.dtype) == "torch.bool" else values.double()
        values = values.numpy()
    return np.asarray(values)


class Explorer:
    """A finished explorer. Page, notebook and Colab show it alive; print and readers without scripts see `fallback`.

    kind: which script draws it; spec: what that script is given (JSON, arrays packed by `pack`); state: what the
    controls say at first, where it differs from the script's `initial`. `alt` tells in a sentence what there is to see.
    `controls` and `redraw` serve `live` where anywidget is missing (see `attnkit.viz.live`).
    """

    def __init__(
        self,
        kind: str,
        spec: Mapping[str, Any],
        *,
        alt: str,
        fallback: Figure | Table,
        title: str = "",
        state: Mapping[str, Any] | None = None,
        controls: Controls | None = None,
        redraw: Redraw | None = None,
    ):
        if kind not in kinds():
            raise ValueError(f"kind: was {kind!r}; it should be one of {', '.join(kinds())}")
        if len(alt.split()) < 6:
            raise ValueError(f"alt: was {alt!r}; say in a sentence what there is to explore")
        self.kind, self.title, self.alt, self.fallback = kind, title, alt, fallback
        self.spec, self.state = dict(spec), dict(state or {})
        self.controls, self.redraw = controls, redraw

    def __repr__(self) -> str:
        name = f"“{self.title}” " if self.title else ""
        return f"Explorer {name}({self.kind}): {self.alt}\n{self.fallback!r}"

    def _repr_html_(self) -> str | None:
        # A page of the book loads the scripts once; a notebook may keep each output in a frame of its own.
        return None if text_only() else self.html(inline=not os.environ.get(BOOK))

    def data(self) -> dict[str, Any]:
        """What the scripts are given: kind, title, spec and state."""
        return {"kind": self.kind, "title": self.title, "spec": self.spec, "state": self.state}

    def html(self, inline: bool = True) -> str:
        """The explorer as HTML; with `inline`, the scripts come along."""
        # "<" cannot stand in there, so no text in the data can close the script.
        text = json.dumps(self.data(), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        text = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
        mine = f' data-ak-version="{version()}"' if inline else ""
        shown = self.fallback.html()
        code = f"<script>{scripts(self.kind)}</script>" if inline else ""
        return (
            f'<div class="ak-explorer" data-ak-kind="{escape(self.kind, quote=True)}"{mine}>'
            f'<script type="application/json">{text}</script>'
            f'<div class="ak-fallback"><p>{escape(self.alt)}</p>{shown}</div></div>{code}'
        )

    def page(self) -> str:
        """A whole HTML page that holds the explorer and asks no other file for anything."""
        name = escape(self.title or f"Explorer: {self.kind}")
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{name}</title><style>:root{{color-scheme:light dark}}body{{max-width:60rem;margin:0 auto;"
            "padding:.5rem;font-family:system-ui,sans-serif}</style></head>"
            f"<body><main><h1>{name}</h1>{self.html()}</main></body></html>\n"
        )

    def save(self, path: str | Path) -> Path:
        """Write `page` to `path`; it opens anywhere, also from the disk."""
        path = Path(path)
        path.write_text(self.page(), "utf-8")
        return path

    def live(self, on_change: OnChange | None = None) -> Any:
        """The explorer joined to this kernel: a widget whose `state` both sides set.

        `on_change(state)` is called after each change that the reader makes. With anywidget installed
        (`pip install "attnkit[live]"`) the same scripts draw it; else ipywidgets controls and a redrawn figure.
        """
        from attnkit.viz.live import live

        return live(self, on_change)
